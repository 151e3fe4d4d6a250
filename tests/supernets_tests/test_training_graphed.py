"""Recorded steps: the same training as without recordings; refused where nothing can be recorded."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_families import tiny_bottleneck
from tiny_space import tiny_space
from tiny_training import ELASTIC, FULL, PLAN, tiny_splits

from nas.errors import UsageError
from search_spaces import MBConvSpace
from supernets import make_supernet
from supernets.supernet import ImageInfo, Supernet
from supernets.training import train
from supernets.training.graphed import GraphedSteps, Inputs, Program
from supernets.training.parallel import Group
from supernets.training.steps import Steps

WHOLE = replace(FULL, name="whole", open=dict.fromkeys(ELASTIC, 2), subnets=4)
SANDWICH = replace(WHOLE, name="sandwich", sandwich=True)
SPACE = MBConvSpace(replace(tiny_space().preset, dropout=0.0), ("fp32",))


class Rerun:
    """Runs the program again where a recording would be replayed."""

    def __init__(self, program: Program, inputs: Inputs, module: Supernet):
        self.program = program

    def replay(self, inputs: Inputs) -> torch.Tensor:
        return self.program(*inputs)


def fresh() -> Supernet:
    splits = tiny_splits()
    return make_supernet(SPACE, ImageInfo("tiny", splits.classes, splits.mean, splits.std)).train()


@pytest.mark.parametrize(("stage", "alone"), [(FULL, False), (FULL, True), (WHOLE, False), (SANDWICH, False)])
def test_a_recorded_step_has_loss_and_gradients_of_one_that_is_not(stage: Any, alone: bool) -> None:
    images, only = tiny_splits().train, SPACE.candidate(SPACE.smallest()) if alone else None
    assert images is not None
    results = []
    for recorded in (False, True):
        net = fresh()
        steps = Steps(net, images, PLAN, only)
        if recorded:
            steps = GraphedSteps(net, images, PLAN, only, record=Rerun)  # type: ignore[arg-type]
        optimizer = torch.optim.SGD(net.parameters(), lr=0.1)
        losses = [
            steps.step(torch.arange(16), stage, stage.space(SPACE), None, optimizer, np.random.default_rng(number))
            for number in range(3)
        ]
        results.append((torch.stack(losses), dict(net.named_parameters())))
    (eager, weights), (replayed, found) = results
    torch.testing.assert_close(replayed, eager, rtol=1e-3, atol=1e-4)
    for name, weight in weights.items():
        torch.testing.assert_close(found[name], weight, rtol=1e-2, atol=2e-3)


def test_recordings_are_refused_where_there_can_be_none(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"CUDA graphs in 1 process\(es\) on cpu; allowed: one process on cuda"):
        train(SPACE, tiny_splits(), tmp_path / "cpu", plan=PLAN, cuda_graphs=True)
    with pytest.raises(UsageError, match=r"CUDA graphs in 2 process\(es\) on cuda; allowed: one process on cuda"):
        train(SPACE, tiny_splits(), tmp_path / "two", plan=PLAN, device="cuda", cuda_graphs=True, group=Group(0, 2))
    images = tiny_splits().train
    assert images is not None
    space = tiny_bottleneck()
    net = make_supernet(space, ImageInfo("tiny", ("a", "b", "c"), (0.5,), (0.5,)))
    with pytest.raises(UsageError, match="tiny-bottleneck of another family"):
        GraphedSteps(net, images, PLAN, None)


@pytest.mark.gpu
def test_training_on_a_gpu_is_the_same_with_recordings(tmp_path: Path) -> None:
    logs: list[list[float]] = []
    for recorded in (False, True):
        lines: list[dict[str, Any]] = []
        train(
            SPACE, tiny_splits(), tmp_path / str(recorded), plan=PLAN, device="cuda", cuda_graphs=recorded,
            report=lines.append,
        )  # fmt: skip
        logs.append([line["loss"] for line in lines if "loss" in line])
    assert len(logs[0]) == sum(stage.epochs for stage in PLAN.stages)
    np.testing.assert_allclose(logs[1], logs[0], rtol=0.03)  # bfloat16


@pytest.mark.gpu
def test_a_resumed_training_with_recordings_ends_as_if_nothing_had_stopped_it(tmp_path: Path) -> None:
    class Interrupted(Exception):
        """What stands for a kill."""

    def stop(line: dict[str, Any]) -> None:
        if line.get("epoch") == 1:
            raise Interrupted

    options: dict[str, Any] = {"plan": PLAN, "device": "cuda", "cuda_graphs": True}
    whole = train(SPACE, tiny_splits(), tmp_path / "whole", **options).state_dict()
    with pytest.raises(Interrupted):
        train(SPACE, tiny_splits(), tmp_path / "stopped", report=stop, **options)
    resumed = train(SPACE, tiny_splits(), tmp_path / "stopped", **options).state_dict()
    for name, tensor in whole.items():
        torch.testing.assert_close(resumed[name], tensor, rtol=1e-3, atol=1e-3)
