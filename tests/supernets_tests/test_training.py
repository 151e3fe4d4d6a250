"""Training: the run as killed and resumed, and what is refused."""

import csv
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_space import tiny_space
from tiny_training import FULL, PLAN, tiny_splits

from nas.errors import DataError, FileFormatError, TrainingError, UsageError
from nas.files import read_tensors, write_tensors
from search_spaces import MBConvSpace
from supernets import load_supernet
from supernets.datasets import ImageSet, Splits
from supernets.training import train
from supernets.training.checkpoint import run_identity

STEPS = 3  # of an epoch of 48 images
Weights = dict[str, torch.Tensor]


@pytest.fixture
def splits() -> Splits:
    return tiny_splits()


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> Weights:
    """Return the weights of a run that nothing stopped."""
    return train(tiny_space(), tiny_splits(), tmp_path_factory.mktemp("undisturbed"), plan=PLAN).state_dict()


def equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


class Interrupted(Exception):
    """What stands for a kill in the quick tests."""


def stop_after(steps: int) -> Callable[[dict[str, Any]], None]:
    left = [steps]

    def report(line: dict[str, Any]) -> None:
        left[0] -= "step" in line
        if left[0] == 0:
            raise Interrupted

    return report


def epochs_logged(out: Path) -> list[tuple[str, int]]:
    with open(out / "train_log.csv") as file:
        return [(line["stage"], int(line["epoch"])) for line in csv.DictReader(file)]


EVERY_EPOCH = [(stage.name, epoch) for stage in PLAN.stages for epoch in (1, 2)]


@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
@pytest.mark.parametrize("steps", [1, 5, 6, 8, 17])  # within and at the ends of epochs and stages
def test_a_resumed_run_ends_as_an_undisturbed_one(
    splits: Splits, tmp_path: Path, undisturbed: Weights, steps: int, checkpoint_seconds: float
) -> None:
    timing = {"checkpoint_seconds": checkpoint_seconds}
    with pytest.raises(Interrupted):
        train(tiny_space(), splits, tmp_path, plan=PLAN, report=stop_after(steps), **timing)
    seen: list[dict[str, Any]] = []
    resumed = train(tiny_space(), splits, tmp_path, plan=PLAN, report=seen.append, **timing).state_dict()
    finished = (
        (steps - 1) // STEPS * STEPS
    )  # of the epochs before; a step is kept before it is reported, an epoch after
    done = finished if checkpoint_seconds else (steps if steps % STEPS else steps - 1)
    assert sum("step" in line for line in seen) == 6 * STEPS - done
    assert equal(resumed, undisturbed)
    assert epochs_logged(tmp_path) == EVERY_EPOCH
    assert equal(load_supernet(tmp_path / "supernet.safetensors").state_dict(), undisturbed)


SCRIPT = """
import sys, time
from pathlib import Path
from tiny_space import tiny_space
from tiny_training import PLAN, tiny_splits
from supernets.training import train
from supernets.training.checkpoint import run_identity
train(tiny_space(), tiny_splits(), Path(sys.argv[1]), plan=PLAN, checkpoint_seconds=0,
      report=lambda line: time.sleep(float(sys.argv[2])))
"""


def killed_run(out: Path, seconds: float, pause: float = 0.05) -> int:
    """Start or resume the run in a process of its own; kill it so long after its checkpoint changed."""
    checkpoint = out / "checkpoint.safetensors"
    before = checkpoint.stat().st_mtime_ns if checkpoint.exists() else 0
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, str(out), str(pause)], env={**os.environ, "PYTHONPATH": path}
    )
    deadline = time.monotonic() + 100
    while process.poll() is None and time.monotonic() < deadline:
        if checkpoint.exists() and checkpoint.stat().st_mtime_ns != before:
            break
        time.sleep(0.01)
    time.sleep(seconds)
    process.send_signal(signal.SIGKILL)
    return process.wait()


def test_a_run_that_was_killed_ends_as_an_undisturbed_one(splits: Splits, tmp_path: Path, undisturbed: Weights) -> None:
    assert killed_run(tmp_path, 0.3) == -signal.SIGKILL
    assert not (tmp_path / "supernet.safetensors").exists()
    assert equal(train(tiny_space(), splits, tmp_path, plan=PLAN).state_dict(), undisturbed)
    assert epochs_logged(tmp_path) == EVERY_EPOCH


@pytest.mark.slow
def test_a_run_that_is_killed_again_and_again_ends_as_an_undisturbed_one(
    splits: Splits, tmp_path: Path, undisturbed: Weights
) -> None:
    rng = np.random.default_rng(0)
    ends = [killed_run(tmp_path, rng.uniform(0, 0.3), pause=0.01) for _ in range(6)]
    assert ends.count(-signal.SIGKILL) >= 3
    assert equal(train(tiny_space(), splits, tmp_path, plan=PLAN).state_dict(), undisturbed)
    assert epochs_logged(tmp_path) == EVERY_EPOCH


def test_a_log_line_that_a_kill_cost_is_written_again(splits: Splits, tmp_path: Path) -> None:
    train(tiny_space(), splits, tmp_path, plan=PLAN)
    log = tmp_path / "train_log.csv"
    whole = log.read_bytes()
    log.write_bytes(b"".join(whole.splitlines(keepends=True)[:-1]))  # killed between the checkpoint and the log
    train(tiny_space(), splits, tmp_path, plan=PLAN)
    assert log.read_bytes() == whole


def brighter(part: ImageSet) -> ImageSet:
    return ImageSet(part.images + 1, part.labels, part.classes)


@pytest.mark.parametrize(
    ("what", "change"),
    [
        ("seed", lambda a: a | {"seed": 1}),
        ("plan", lambda a: a | {"plan": replace(a["plan"], momentum=0.8)}),
        ("data", lambda a: a | {"splits": replace(a["splits"], train=a["splits"].train.subset(torch.arange(32)))}),
        ("data", lambda a: a | {"splits": replace(a["splits"], train=brighter(a["splits"].train))}),
        ("data", lambda a: a | {"splits": replace(a["splits"], calibration=brighter(a["splits"].calibration))}),
        ("subnet", lambda a: a | {"only": tiny_space().candidate(tiny_space().smallest())}),
        ("space", lambda a: a | {"space": MBConvSpace(replace(tiny_space().preset, dropout=0.3))}),
        ("plan, another seed", lambda a: a | {"seed": 1, "plan": replace(a["plan"], flip=0.1)}),
    ],
)
def test_another_run_does_not_go_on_with_this_one(tmp_path: Path, what: str, change) -> None:  # type: ignore[no-untyped-def]
    first = replace(PLAN, stages=PLAN.stages[:1])
    arguments = {"space": tiny_space(), "splits": tiny_splits(), "out": tmp_path, "plan": first}
    with pytest.raises(Interrupted):
        train(**arguments, report=stop_after(1))  # type: ignore[arg-type]
    with pytest.raises(UsageError, match=f"is of a run with another {what}; name another folder with --out"):
        train(**change(arguments))


def test_a_key_at_its_default_is_the_same_run_however_it_came_there(splits: Splits) -> None:
    preset = tiny_space().preset
    plain = run_identity(preset, splits, PLAN, 0)
    assert plain == run_identity(preset, splits, replace(PLAN, crop=1.0, optimizer="sgd"), 0)
    assert plain != run_identity(preset, splits, replace(PLAN, crop=0.5), 0)
    first = replace(PLAN.stages[0], sandwich=True)
    assert plain != run_identity(preset, splits, replace(PLAN, stages=(first, *PLAN.stages[1:])), 0)


def test_another_summary_of_the_space_is_the_same_run(splits: Splits, tmp_path: Path, undisturbed: Weights) -> None:
    with pytest.raises(Interrupted):
        train(tiny_space(), splits, tmp_path, plan=PLAN, report=stop_after(4))
    space = MBConvSpace(replace(tiny_space().preset, summary="said better"))
    assert equal(train(space, splits, tmp_path, plan=PLAN).state_dict(), undisturbed)


def test_the_teacher_of_another_run_is_refused(splits: Splits, tmp_path: Path) -> None:
    for seed in (0, 1):
        with pytest.raises(Interrupted):
            timing = {"checkpoint_seconds": 0.0, "report": stop_after(2 * STEPS + 1)}
            train(tiny_space(), splits, tmp_path / str(seed), plan=PLAN, seed=seed, **timing)  # type: ignore[arg-type]
    shutil.copy(tmp_path / "1" / "teacher.safetensors", tmp_path / "0")
    with pytest.raises(UsageError, match=r"teacher\.safetensors is the teacher of another run; start anew in another"):
        train(tiny_space(), splits, tmp_path / "0", plan=PLAN)


def test_two_at_once_in_a_folder_are_refused(splits: Splits, tmp_path: Path) -> None:
    def again(line: dict[str, Any]) -> None:
        train(tiny_space(), splits, tmp_path, plan=PLAN)

    with pytest.raises(UsageError, match=f"is in use by process {os.getpid()}; wait for it to end"):
        train(tiny_space(), splits, tmp_path, plan=PLAN, report=again)


def test_a_subnet_trained_alone_moves_no_other_weights(splits: Splits, tmp_path: Path) -> None:
    space = tiny_space()
    only = space.candidate(space.smallest())
    plan = replace(PLAN, stages=PLAN.stages[:1])
    trained = train(space, splits, tmp_path, plan=plan, only=only).state_dict()
    short = train(space, splits, tmp_path / "one", plan=replace(plan, stages=(replace(FULL, epochs=1),)), only=only)
    name = "blocks.block_0_1.expand.conv.weight"  # the second block of a stage, which the smallest leaves out
    assert torch.equal(trained[name], short.state_dict()[name])
    assert not torch.equal(trained["stem.conv.weight"], short.state_dict()["stem.conv.weight"])


@pytest.mark.parametrize("checkpoint_seconds", [0.0, 1e9])
def test_a_loss_that_is_not_finite_ends_the_run_before_it_is_kept(
    splits: Splits, tmp_path: Path, checkpoint_seconds: float
) -> None:
    plan = replace(PLAN, stages=(replace(FULL, learning_rate=1e30),))
    with pytest.raises(TrainingError, match=r"stage full, epoch 1: .* (is|finite).*; lower its learning_rate"):
        train(tiny_space(), splits, tmp_path, plan=plan, checkpoint_seconds=checkpoint_seconds)
    kept, _ = read_tensors(tmp_path / "checkpoint.safetensors", "training-checkpoint", 3)
    assert all(torch.isfinite(tensor).all() for tensor in kept.values())


def test_weights_that_are_not_finite_are_not_kept_though_the_loss_is(
    splits: Splits, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def spoil(self: torch.optim.SGD, closure: object = None) -> None:
        self.param_groups[0]["params"][0].data.fill_(float("inf"))  # after the last step no loss tells

    plan = replace(PLAN, batch_size=48, stages=(replace(FULL, epochs=1),))
    monkeypatch.setattr(torch.optim.SGD, "step", spoil)
    with pytest.raises(
        TrainingError, match=r"stage full, epoch 1: model\..* is no longer finite; lower its learning_rate"
    ):
        train(tiny_space(), splits, tmp_path, plan=plan)


def test_too_few_images_for_a_batch_are_refused(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"48 training images; allowed: one batch .* \(--batch-size\)"):
        train(tiny_space(), splits, tmp_path / "new", plan=replace(PLAN, batch_size=64))
    assert not (tmp_path / "new").exists()


def test_splits_without_training_images_are_refused(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training images were loaded"):
        train(tiny_space(), replace(splits, train=None), tmp_path, plan=PLAN)


def test_a_damaged_checkpoint_is_named(splits: Splits, tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.safetensors"
    path.write_bytes(b"\x00" * 100)
    with pytest.raises(FileFormatError, match=r"checkpoint\.safetensors"):
        train(tiny_space(), splits, tmp_path, plan=PLAN)
    write_tensors(path, {}, "training-checkpoint", 3, {"run": {}, "stage": 0})
    with pytest.raises(FileFormatError, match="its header does not say where the run stands"):
        train(tiny_space(), splits, tmp_path, plan=PLAN)
