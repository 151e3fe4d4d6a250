"""The training plan as written, scaled and refused."""

import copy
import itertools
from dataclasses import replace

import pytest
from tiny_training import FULL, PLAN

from nas.errors import FileFormatError, UsageError
from search_spaces import list_spaces, make_space, preset_path, read_preset
from supernets.training import read_plan

FASHION, TABLE = read_preset(preset_path("fashion-mbv3"))


SHIPPED = list(list_spaces())


@pytest.mark.parametrize("name", SHIPPED)
def test_a_shipped_plan_opens_every_choice_in_the_end(name: str) -> None:
    preset, table = read_preset(preset_path(name))
    plan = read_plan(table, preset, name)
    assert plan.stages[0].full
    assert plan.stages[-1].space(make_space(preset)).preset == preset
    counts = [tuple(stage.open.values()) for stage in plan.stages]
    assert all(all(a <= b for a, b in zip(one, two, strict=True)) for one, two in itertools.pairwise(counts))
    assert plan.from_trained().stages[-1].space(make_space(preset)).preset == preset


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
        (lambda t: t.update(speed=3), "training.speed is an unknown key; allowed: optimizer, batch_size, "),
        (lambda t: t.update(batch_size=1), "training.batch_size is 1; allowed: 2 to 65536"),
        (lambda t: t.update(momentum=0), "training.momentum is 0.0; allowed: above 0, below 1"),
        (
            lambda t: t.update(optimizer="lion"),
            "training.momentum is 0.9; allowed: none with optimizer lion, which has its own",
        ),
        (lambda t: t.update(weight_decay=1.5), "training.weight_decay is 1.5; allowed: 0 to 1"),
        (lambda t: t.update(label_smoothing=1), "training.label_smoothing is 1.0; allowed: from 0 to below 1"),
        (lambda t: t.update(flip="yes"), "training.flip is 'yes'; allowed: 0 to 1"),
        (lambda t: t.update(shift=-0.1), "training.shift is -0.1; allowed: 0 to 1"),
        (lambda t: t.update(erase=float("nan")), "training.erase is nan; allowed: 0 to 1"),
        (lambda t: t.update(stage=[]), r"training.stage is \[\]; allowed: one \[\[training.stage\]\] table each"),
        (lambda t: t.update(stage=[3]), r"training.stage is \[3\]; allowed: tables"),
        (lambda t: t["stage"].pop(0), r"training.stage\[0\] has distillation and no teacher; allowed: 0, or a stage"),
        (lambda t: t["stage"][0].update(distillation=0.5), r"stage\[0\] has distillation and no teacher; allowed: 0"),
        (
            lambda t: t["stage"][1].update(sandwich=True),
            r"\[1\] has sandwich with distillation 1, extremes 0, subnets 1",
        ),
        (lambda t: t["stage"][1].update(sandwich=1), r"training.stage\[1\].sandwich is 1; allowed: true or false"),
        (lambda t: t.update(finetune=[dict(t["stage"][1])]), r"training.finetune\[0\] has distillation and no teacher"),
        (lambda t: t.update(optimizer="sdg"), "training.optimizer is 'sdg'; allowed: sgd or adamw or lion"),
        (lambda t: t["stage"][1].update(name="full"), "training.stage has names full, full, .*; allowed: none twice"),
        (lambda t: t.update(crop=0), "training.crop is 0.0; allowed: above 0, at most 1"),
        (lambda t: t.update(mixup=-1), "training.mixup is -1.0; allowed: 0 to 1000"),
        (lambda t: t.update(clip_norm=-1), "training.clip_norm is -1.0; allowed: 0 to 1000"),
        (lambda t: t.update(average=1), "training.average is 1.0; allowed: from 0 to below 1"),
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


@pytest.mark.parametrize(("images", "batch"), [(64, 16), (1000, 16), (63, 8), (32, 8), (31, 4), (9, 2), (1, 2)])
def test_a_batch_follows_few_images(images: int, batch: int) -> None:
    plan = PLAN.for_images(images)  # 4 batches or more of a power of two, where 16 is too large
    assert plan.batch_size == batch
    assert plan.stages[0].learning_rate == pytest.approx(FULL.learning_rate * batch / 16)


def test_the_momentum_is_of_sgd_alone() -> None:
    content = {key: value for key, value in copy.deepcopy(TABLE).items() if key != "momentum"}
    assert read_plan({**content, "optimizer": "adamw"}, FASHION, "my.toml").momentum == 0


def test_reading_a_plan_leaves_the_table_as_it_is() -> None:
    before = copy.deepcopy(TABLE)
    assert read_plan(TABLE, FASHION, "my.toml") == read_plan(TABLE, FASHION, "my.toml")
    assert before == TABLE


@pytest.mark.parametrize("factor", [0, -1, 1001, float("inf"), float("nan")])
def test_a_scale_without_bounds_is_refused(factor: float) -> None:
    with pytest.raises(UsageError, match=rf"epochs times {factor:g}; allowed: above 0, at most 1000"):
        PLAN.scaled(factor)
