"""Training by the sandwich rule, with other optimizers, averaged weights, clipped gradients, from trained weights."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tiny_space import tiny_space
from tiny_training import ELASTIC, FULL, PLAN, tiny_splits

from nas.errors import UsageError
from search_spaces import MBConvSpace
from supernets import make_supernet
from supernets.supernet import ImageInfo
from supernets.training import TrainingPlan, train
from supernets.training.parallel import ALONE, Group
from supernets.training.steps import Steps, draw

SPACE = tiny_space(("fp32",))
SANDWICH = replace(FULL, name="sandwich", open=dict.fromkeys(ELASTIC, 2), subnets=4, sandwich=True)
Weights = dict[str, torch.Tensor]


class Interrupted(Exception):
    """What stands for a kill."""


def weights(out: Path, plan: TrainingPlan, **options: Any) -> Weights:
    return train(SPACE, tiny_splits(), out, plan=plan, **options).state_dict()


def equal(one: Weights, other: Weights) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_a_sandwich_draws_the_largest_first_the_smallest_last_and_others_between() -> None:
    rng = np.random.default_rng(0)
    steps = [draw(SPACE, SANDWICH, 16, rng) for _ in range(20)]
    largest, smallest = (replace(SPACE.candidate(row), resolution=16) for row in (SPACE.largest(), SPACE.smallest()))
    assert all(step[0] == largest and step[-1] == smallest and len(step) == 4 for step in steps)
    assert len({candidate.id for step in steps for candidate in step[1:-1]}) > 20


def loss_of_one_step(stage_change: dict[str, Any], labels: torch.Tensor) -> tuple[float, Weights]:
    """Return the loss of one step and the gradients, on images with ``labels``, dropout off."""
    space = MBConvSpace(replace(SPACE.preset, dropout=0.0), ("fp32",))
    splits = tiny_splits()
    assert splits.train is not None
    supernet = make_supernet(space, ImageInfo(splits.name, splits.classes, splits.mean, splits.std)).train()
    steps = Steps(supernet, replace(splits.train, labels=labels), replace(PLAN, label_smoothing=0.0), None)
    stage = replace(SANDWICH, **stage_change)
    optimizer = torch.optim.SGD(supernet.parameters(), lr=0.0)
    indices = torch.arange(16)
    loss = steps.step(indices, stage, stage.space(space), None, optimizer, np.random.default_rng(0))
    return float(loss), {name: p.grad.clone() for name, p in supernet.named_parameters() if p.grad is not None}


def test_in_a_sandwich_only_the_largest_network_sees_the_labels() -> None:
    """Labels move the gradient by the largest network's share alone; outside the sandwich every draw sees them."""
    labels = torch.arange(48) % 3
    name = "head.classifier.bias"
    shares = {}
    for sandwich in (True, False):
        one, other = (loss_of_one_step({"sandwich": sandwich}, y)[1][name] for y in (labels, labels.roll(1)))
        shares[sandwich] = float((one - other).norm())
    assert shares[True] == pytest.approx(shares[False] / 4, rel=1e-4)  # 1 of 4 networks


def test_easy_images_are_learnt_by_the_sandwich_rule_alone(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    plan = replace(PLAN, stages=(replace(SANDWICH, epochs=6, learning_rate=0.1),))
    train(SPACE, tiny_splits(240), tmp_path, plan=plan, report=lines.append)
    assert min(lines[-1][name] for name in ("largest", "smallest", "random")) > 0.9
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


OPTIONS: list[dict[str, Any]] = [
    {"optimizer": "adamw"},
    {"optimizer": "lion"},
    {"average": 0.9},
    {"mixup": 0.2, "cutmix": 1.0},
    {"clip_norm": 0.1},
    {"clip_value": 0.001},
    {"sort_channels": False},
]


@pytest.mark.parametrize("options", OPTIONS, ids=lambda options: "-".join(options))
def test_each_option_changes_the_run_and_survives_a_kill(tmp_path: Path, options: dict[str, Any]) -> None:
    short = replace(PLAN, stages=(replace(FULL, epochs=1), replace(PLAN.stages[2], epochs=2)))
    plan = replace(short, **options)
    if plan.optimizer != "sgd":
        plan = replace(plan, stages=tuple(replace(stage, learning_rate=1e-3) for stage in plan.stages))
    whole = weights(tmp_path / "whole", plan)
    assert not equal(whole, weights(tmp_path / "plain", short))
    left = [5]

    def stop(line: dict[str, Any]) -> None:
        left[0] -= "step" in line
        if not left[0]:
            raise Interrupted

    with pytest.raises(Interrupted):
        weights(tmp_path / "killed", plan, checkpoint_seconds=0.0, report=stop)
    assert equal(weights(tmp_path / "killed", plan), whole)


def test_gradients_are_clipped() -> None:
    splits = tiny_splits()
    assert splits.train is not None
    supernet = make_supernet(SPACE, ImageInfo(splits.name, splits.classes, splits.mean, splits.std)).train()
    for limits, norm in (({"clip_norm": 0.01}, 2.0), ({"clip_value": 0.001}, float("inf"))):
        steps = Steps(supernet, splits.train, replace(PLAN, **limits), None)  # type: ignore[arg-type]
        optimizer = torch.optim.SGD(supernet.parameters(), lr=0.0)
        steps.step(torch.arange(16), FULL, SPACE, None, optimizer, np.random.default_rng(0))
        found = torch.cat([p.grad.flatten() for p in supernet.parameters() if p.grad is not None]).norm(norm)
        assert float(found) == pytest.approx(next(iter(limits.values())), rel=1e-3)


def test_a_stage_ends_with_the_average_of_its_weights_and_the_log_judges_it(tmp_path: Path) -> None:
    """Averaged over all steps from the first, the weights end nearer to where they began."""
    stage = replace(FULL, epochs=4, learning_rate=0.3)
    begin = make_supernet(SPACE, ImageInfo("brightness", ("dark", "grey", "light"), (0.5,), (0.3,))).state_dict()
    moved = {}
    for decay in (0.0, 0.999):
        end = weights(tmp_path / str(decay), replace(PLAN, average=decay, stages=(stage,)))
        moved[decay] = float((end["stem.conv.weight"] - begin["stem.conv.weight"]).norm())
    assert 0 < moved[0.999] < moved[0.0]


def test_a_run_from_trained_weights_begins_with_them(tmp_path: Path) -> None:
    splits = tiny_splits()
    trained = train(SPACE, splits, tmp_path / "first", plan=PLAN)
    still = replace(PLAN.from_trained(), stages=(replace(FULL, epochs=1, learning_rate=1e-12),), weight_decay=0.0)
    again = train(SPACE, splits, tmp_path / "again", plan=still, trained=trained).state_dict()
    named = dict(trained.named_parameters())
    assert all(torch.allclose(again[name], parameter, atol=1e-6) for name, parameter in named.items())
    renamed = replace(
        splits,
        **{
            part: replace(getattr(splits, part), classes=("a", "b", "c"))
            for part in ("train", "validation", "calibration", "test")
        },
    )
    fresh = train(SPACE, renamed, tmp_path / "renamed", plan=still, trained=trained).state_dict()
    differing = {name for name, parameter in named.items() if not torch.allclose(fresh[name], parameter, atol=1e-6)}
    assert differing == {"head.classifier.weight", "head.classifier.bias"}


def test_a_fine_tuned_run_is_not_one_from_random_weights(tmp_path: Path) -> None:
    trained = train(SPACE, tiny_splits(), tmp_path / "first", plan=PLAN)
    plan = PLAN.from_trained()
    assert [stage.name for stage in plan.stages] == ["width"] and plan.stages[0].distillation == 0
    weights(tmp_path / "run", plan, trained=trained)
    with pytest.raises(UsageError, match="is of a run with another beginning; name another folder with --out"):
        weights(tmp_path / "run", plan)


def test_weights_of_another_space_are_refused(tmp_path: Path) -> None:
    wide = MBConvSpace(replace(SPACE.preset, head_width=32), ("fp32",))
    splits = tiny_splits()
    other = make_supernet(wide, ImageInfo(splits.name, splits.classes, splits.mean, splits.std))
    with pytest.raises(UsageError, match=r"its head\.\S+ has shape \(\S+.*\); allowed: \("):
        weights(tmp_path, PLAN, trained=other)


def test_mixing_wants_an_even_batch(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="batch size 15 with mixup or cutmix; allowed: an even one"):
        weights(tmp_path, replace(PLAN, batch_size=15, mixup=0.2))


def test_sorting_keeps_the_narrow_networks_of_trained_weights(tmp_path: Path) -> None:
    """A fine-tuning that begins with the full network and opens widths later must not shuffle trained channels."""
    splits = tiny_splits()
    trained = train(SPACE, splits, tmp_path / "first", plan=PLAN)
    still = [replace(FULL, name=name, epochs=1, learning_rate=1e-12) for name in ("full", "open")]
    still[1] = replace(still[1], open=dict.fromkeys(ELASTIC, 2))
    plan = replace(PLAN, stages=tuple(still), weight_decay=0.0)
    again = train(SPACE, splits, tmp_path / "again", plan=plan, trained=trained).state_dict()
    assert all(torch.allclose(again[name], weight, atol=1e-6) for name, weight in trained.named_parameters())


@pytest.mark.parametrize("change", [{"subnets": 2}, {"sandwich": True, "subnets": 3}])
def test_a_subnet_alone_has_no_others_to_learn_with(tmp_path: Path, change: dict[str, Any]) -> None:
    plan = replace(PLAN, stages=(replace(FULL, **change),))
    with pytest.raises(UsageError, match="a subnet trained alone has no teacher; allowed: stages of 1 subnet"):
        weights(tmp_path, plan, only=SPACE.candidate(SPACE.smallest()))


def test_learning_rates_warm_up_and_fall_along_a_cosine(tmp_path: Path) -> None:
    lines: list[dict[str, Any]] = []
    stage = replace(FULL, epochs=6, warmup_epochs=2, learning_rate=0.1)
    train(SPACE, tiny_splits(), tmp_path, plan=replace(PLAN, stages=(stage,)), report=lines.append)
    rates = [line["learning_rate"] for line in lines if "epoch" in line]  # of each epoch's last step
    assert rates[:3] == pytest.approx(
        [0.001 + 0.099 * 2 / 6, 0.001 + 0.099 * 5 / 6, 0.05 * (1 + np.cos(np.pi * 8 / 18))]
    )
    assert rates[2] > rates[3] > rates[4] > rates[5] and rates[5] < 0.01


def test_only_weights_that_are_matrices_decay(tmp_path: Path) -> None:
    """With the gradient clipped to nothing, what is left of a step is the decay."""
    begin = dict(make_supernet(SPACE, ImageInfo("b", ("d", "g", "l"), (0.5,), (0.3,))).named_parameters())
    plan = replace(PLAN, stages=(replace(FULL, epochs=1, learning_rate=0.1),), weight_decay=0.5, clip_value=1e-12)
    end = weights(tmp_path, plan)
    moved = {name for name, weight in begin.items() if not torch.allclose(end[name], weight, atol=1e-6)}
    assert any(name.endswith("conv.weight") for name in moved)
    assert not [name for name in moved if "transforms" in name or ".bn." in name or name.endswith("bias")]


def test_the_teacher_counts_as_much_as_its_weight_says() -> None:
    """Loss = cross-entropy + weight x soft cross-entropy: three weights lie on a line, and their order shows."""
    splits = tiny_splits()
    assert splits.train is not None
    space = MBConvSpace(replace(SPACE.preset, dropout=0.0), ("fp32",))
    supernet = make_supernet(space, ImageInfo(splits.name, splits.classes, splits.mean, splits.std)).train()
    teacher = {side: supernet.extract(space.candidate(space.largest())) for side in space.resolutions}
    losses = []
    for weight in (0.0, 1.0, 3.0):
        steps = Steps(supernet, splits.train, PLAN, None)
        stage = replace(FULL, distillation=weight)
        optimizer = torch.optim.SGD(supernet.parameters(), lr=0.0)
        taught = teacher if weight else None
        losses.append(float(steps.step(torch.arange(16), stage, space, taught, optimizer, np.random.default_rng(0))))
    assert losses[0] < losses[1] and losses[2] - losses[0] == pytest.approx(3 * (losses[1] - losses[0]), rel=1e-4)


def test_a_step_averages_its_subnets_gradients() -> None:
    labels = torch.arange(48) % 3
    name = "head.classifier.bias"
    both = {"sandwich": False, "extremes": 1.0, "open": {}}  # every draw is the full network
    one, four = (loss_of_one_step({**both, "subnets": count}, labels) for count in (1, 4))
    assert four[0] == pytest.approx(one[0], rel=1e-4)
    torch.testing.assert_close(four[1][name], one[1][name], rtol=1e-3, atol=1e-5)


def test_batches_are_augmented() -> None:
    splits = tiny_splits()
    assert splits.train is not None
    supernet = make_supernet(SPACE, ImageInfo(splits.name, splits.classes, splits.mean, splits.std))
    only = SPACE.candidate(SPACE.largest())
    none = replace(PLAN, flip=0.0, shift=0.0, erase=0.0)
    batches = [
        Steps(supernet, splits.train, plan, only)._batch(torch.arange(16), SPACE, np.random.default_rng(0))[0]
        for plan in (none, replace(none, flip=1.0), replace(none, shift=0.2), replace(none, erase=1.0))
    ]
    assert torch.equal(batches[1].flip(-1), batches[0])
    assert not any(torch.equal(batch, batches[0]) for batch in batches[2:])


@pytest.mark.parametrize("mixing", [{}, {"mixup": 0.4}, {"cutmix": 1.0}])
@pytest.mark.parametrize("processes", [2, 4])
def test_the_parts_of_a_batch_are_the_batch_of_one_process(mixing: dict[str, float], processes: int) -> None:
    splits = tiny_splits()
    assert splits.train is not None
    supernet = make_supernet(SPACE, ImageInfo(splits.name, splits.classes, splits.mean, splits.std))
    plan = replace(PLAN, crop=0.5, erase=0.5, **mixing)  # type: ignore[arg-type]
    whole, *parts = (
        Steps(supernet, splits.train, plan, None, group)._batch(torch.arange(16), SPACE, np.random.default_rng(1))
        for group in (ALONE, *(Group(rank, processes) for rank in range(processes)))
    )
    assert torch.equal(whole[0], torch.cat([images for images, _ in parts]))
    assert torch.equal(whole[1], torch.cat([labels for _, labels in parts]))
