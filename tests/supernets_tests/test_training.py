"""Training: the plan as written, the run as resumed, and what is refused."""

import copy
import itertools
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tiny_space import tiny_space

from nas.errors import DataError, FileFormatError, TrainingError, UsageError
from search_spaces import preset_path, read_preset
from supernets import load_supernet
from supernets.datasets import ImageSet, Splits
from supernets.training import TrainingPlan, TrainingStage, read_plan, train

FULL = TrainingStage("full", 2, 0, 0.05, 1, 1, 1, 1, 1, 0.0, 0.0)
PLAN = TrainingPlan(
    batch_size=16,
    momentum=0.9,
    weight_decay=1e-4,
    label_smoothing=0.1,
    flip=0.5,
    shift=0.1,
    erase=0.1,
    stages=(
        FULL,
        replace(FULL, name="depth", kernels=2, depths=2, distillation=1.0, subnets=2),
        replace(FULL, name="width", kernels=2, depths=2, expands=2, keeps=2, distillation=0.5, extremes=0.5),
    ),
)


@pytest.fixture
def splits() -> Splits:
    """Images of three classes that differ in brightness."""

    def part(count: int, seed: int) -> ImageSet:
        generator = torch.Generator().manual_seed(seed)
        labels = torch.arange(count) % 3
        noise = torch.randint(0, 60, (count, 1, 16, 16), generator=generator)
        return ImageSet((noise + 90 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels, ("dark", "grey", "light"))

    return Splits(part(48, 0), part(12, 1), part(12, 2), part(12, 3), "brightness", (0.5,), (0.3,))


class Interrupted(Exception):
    """What stands for a kill in these tests; a real one is in the command line's."""


def stop_after(epochs: int):  # type: ignore[no-untyped-def]
    left = [epochs]

    def report(line: dict[str, Any]) -> None:
        if "stage" in line:
            left[0] -= 1
            if left[0] == 0:
                raise Interrupted

    return report


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> dict[str, torch.Tensor]:
    out = tmp_path_factory.mktemp("undisturbed")
    return train(tiny_space(), splits.__wrapped__(), out, plan=PLAN).state_dict()  # type: ignore[attr-defined]


@pytest.mark.parametrize("epochs", [1, 2, 3, 4, 5, 6])
def test_a_resumed_run_ends_as_an_undisturbed_one(
    splits: Splits, tmp_path: Path, undisturbed: dict[str, torch.Tensor], epochs: int
) -> None:
    with pytest.raises(Interrupted):
        train(tiny_space(), splits, tmp_path, plan=PLAN, report=stop_after(epochs))
    resumed = train(tiny_space(), splits, tmp_path, plan=PLAN).state_dict()
    assert all(torch.equal(tensor, undisturbed[name]) for name, tensor in resumed.items())
    lines = [json.loads(line) for line in (tmp_path / "train_log.jsonl").read_text().splitlines()]
    assert [(line["stage"], line["epoch"]) for line in lines] == [
        (stage.name, epoch) for stage in PLAN.stages for epoch in (1, 2)
    ]
    assert load_supernet(tmp_path / "supernet.safetensors").classes == 3


def test_another_seed_or_plan_does_not_go_on_with_a_run(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(Interrupted):
        train(tiny_space(), splits, tmp_path, plan=PLAN, report=stop_after(1))
    for changes in ({"seed": 1}, {"plan": replace(PLAN, momentum=0.8)}):
        with pytest.raises(UsageError, match="is of a run with another space, plan, seed or data set"):
            train(tiny_space(), splits, tmp_path, **{"plan": PLAN, **changes})


def test_a_subnet_trained_alone_moves_no_other_weights(splits: Splits, tmp_path: Path) -> None:
    space = tiny_space()
    only = space.candidate(space.smallest())
    plan = replace(PLAN, stages=PLAN.stages[:1])
    trained = train(space, splits, tmp_path, plan=plan, only=only).state_dict()
    short = train(space, splits, tmp_path / "one", plan=replace(plan, stages=(replace(FULL, epochs=1),)), only=only)
    name = "blocks.block_0_1.expand.conv.weight"  # the second block of a stage, which the smallest leaves out
    assert torch.equal(trained[name], short.state_dict()[name])
    assert not torch.equal(trained["stem.conv.weight"], short.state_dict()["stem.conv.weight"])


def test_a_loss_that_is_not_finite_ends_the_run(splits: Splits, tmp_path: Path) -> None:
    plan = replace(PLAN, stages=(replace(FULL, learning_rate=1e20),))
    with pytest.raises(TrainingError, match=r"stage full, epoch .: the loss is .*; lower its learning_rate"):
        train(tiny_space(), splits, tmp_path, plan=plan)


def test_too_few_images_for_a_batch_are_refused(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="48 training images; allowed: one batch"):
        train(tiny_space(), splits, tmp_path, plan=replace(PLAN, batch_size=64))


def test_splits_without_training_images_are_refused(splits: Splits, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no training images were loaded"):
        train(tiny_space(), replace(splits, train=None), tmp_path, plan=PLAN)


def test_a_damaged_checkpoint_is_named(splits: Splits, tmp_path: Path) -> None:
    (tmp_path / "checkpoint.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(FileFormatError, match=r"checkpoint\.safetensors"):
        train(tiny_space(), splits, tmp_path, plan=PLAN)


FASHION, TABLE = read_preset(preset_path("fashion-mbv3"))


def test_the_shipped_plan_opens_every_choice_in_the_end() -> None:
    plan = read_plan(TABLE, FASHION, "fashion-mbv3")
    assert plan.stages[0].full
    assert plan.stages[-1].restrict(FASHION) == FASHION
    counts = [(s.kernels, s.depths, s.expands, s.keeps) for s in plan.stages]
    assert all(all(a <= b for a, b in zip(one, two, strict=True)) for one, two in itertools.pairwise(counts))


def test_a_scaled_plan_keeps_at_least_one_epoch_and_a_batch_size_carries_the_learning_rates() -> None:
    assert [stage.epochs for stage in PLAN.scaled(0.01).stages] == [1, 1, 1]
    assert [stage.epochs for stage in PLAN.scaled(2).stages] == [4, 4, 4]
    hurried = replace(PLAN, stages=(replace(FULL, epochs=5, warmup_epochs=4),)).scaled(0.26).stages[0]
    assert (hurried.epochs, hurried.warmup_epochs) == (1, 0)
    assert PLAN.with_batch_size(64).stages[0].learning_rate == pytest.approx(4 * FULL.learning_rate)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.clear(), r"it has no \[training\] table"),
        (lambda t: t.pop("momentum"), "training.momentum is missing; allowed: above 0, below 1"),
        (lambda t: t.update(speed=3), "training.speed is an unknown key; allowed: batch_size, momentum, "),
        (lambda t: t.update(batch_size=1), "training.batch_size is 1; allowed: 2 to 65536"),
        (lambda t: t.update(momentum=0), "training.momentum is 0.0; allowed: above 0, below 1"),
        (lambda t: t.update(weight_decay=1.5), "training.weight_decay is 1.5; allowed: 0 to 1"),
        (lambda t: t.update(label_smoothing=1), "training.label_smoothing is 1.0; allowed: from 0 to below 1"),
        (lambda t: t.update(flip="yes"), "training.flip is 'yes'; allowed: 0 to 1"),
        (lambda t: t.update(shift=-0.1), "training.shift is -0.1; allowed: 0 to 1"),
        (lambda t: t.update(erase=float("nan")), "training.erase is nan; allowed: 0 to 1"),
        (lambda t: t.update(stage=[]), r"training.stage is \[\]; allowed: one \[\[training.stage\]\] table each"),
        (lambda t: t.update(stage=[3]), r"training.stage is \[3\]; allowed: tables"),
        (lambda t: t["stage"].pop(0), r"training.stage\[0\] is elastic or .*; allowed: the full network first"),
        (
            lambda t: t["stage"][0].update(distillation=0.5),
            r"has distillation; allowed: .*no teacher \(distillation 0\)",
        ),
        (lambda t: t["stage"][0].update(name=""), r"training.stage\[0\].name is ''; allowed: a name"),
        (lambda t: t["stage"][1].update(epochs=-1), r"training.stage\[1\].epochs is -1; allowed: 1 to 100000"),
        (lambda t: t["stage"][1].update(warmup_epochs=25), r"\[1\].warmup_epochs is 25; allowed: 0 to below epochs"),
        (lambda t: t["stage"][1].update(learning_rate=0), r"\[1\].learning_rate is 0.0; allowed: above 0, at most 100"),
        (lambda t: t["stage"][1].update(subnets=True), r"\[1\].subnets is True; allowed: 1 to 64"),
        (lambda t: t["stage"][1].update(kernels=4), r"\[1\].kernels is 4; allowed: 1 to 3, the choices that the space"),
        (lambda t: t["stage"][1].update(depths=4), r"\[1\].depths is 4; allowed: 1 to 3, the choices that the space"),
        (lambda t: t["stage"][1].update(expands=0), r"\[1\].expands is 0; allowed: 1 to 3, the choices that the space"),
        (lambda t: t["stage"][1].update(keeps=4), r"\[1\].keeps is 4; allowed: 1 to 3, the choices that the space"),
        (lambda t: t["stage"][1].update(distillation=-1), r"\[1\].distillation is -1.0; allowed: 0 to 1000"),
        (lambda t: t["stage"][1].update(extremes=2), r"\[1\].extremes is 2.0; allowed: 0 to 1"),
    ],
)
def test_a_plan_that_does_not_fit_names_the_key(change, message: str) -> None:  # type: ignore[no-untyped-def]
    content = copy.deepcopy(TABLE)
    change(content)
    with pytest.raises(FileFormatError, match=message):
        read_plan(content, FASHION, "my.toml")


def test_reading_a_plan_leaves_the_table_as_it_is() -> None:
    before = copy.deepcopy(TABLE)
    assert read_plan(TABLE, FASHION, "my.toml") == read_plan(TABLE, FASHION, "my.toml")
    assert before == TABLE
