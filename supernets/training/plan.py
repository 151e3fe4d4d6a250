"""The training plan: the ``[training]`` table of a preset.

    [training]
    batch_size = 256
    optimizer = "sgd"                # may be left out; with Nesterov's momentum, or one of timm's: adamw, lion
    momentum = 0.9                   # of sgd alone
    weight_decay = 3e-5              # none on norms, biases, layer scales and kernel transforms
    label_smoothing = 0.1
    flip = 0.5                       # augmentation, see supernets.datasets.augment
    shift = 0.07                     # what comes in is black
    erase = 0.25                     # likewise black
    crop = 0.3                       # may be left out (1): least area of a random resized crop
    mixup = 0.2                      # may be left out (0, as all that follow): timm's mixup and cutmix, their alphas
    cutmix = 1.0
    clip_norm = 5.0                  # of the gradient as a whole
    clip_value = 1.0                 # of each of its values
    average = 0.9998                 # decay of the moving average of the weights that a stage ends with; timm's, which
                                     # after n steps is at most 1 - (1 + n) ** (-2 / 3)
    sort_channels = true             # may be left out: sort channels by importance where a stage opens widths

    [[training.stage]]               # one table a stage, in order
    name = "kernel"
    epochs = 30
    warmup_epochs = 0
    learning_rate = 0.1
    subnets = 1                      # drawn in every step, their gradients averaged
    kernels = 3                      # choices open in this stage, counted from the largest: one key for each elastic
    depths = 1                       # dimension of the space's family, 1 where it is left out
    expands = 1
    keeps = 1
    distillation = 1.0               # weight of the soft cross-entropy to the full network; 0 has no teacher
    extremes = 0.0                   # share of the draws that are the stage's largest or smallest network
    sandwich = false                 # may be left out; see below

    [[training.finetune]]            # likewise, may be left out: the stages of a supernet that begins with trained
    ...                              # weights; without them, the last stage of the others

A stage whose counts are all 1 trains the full network; as it stands when that stage ends, it is the teacher of the
stages that follow (once-for-all's progressive shrinking, Cai et al., 2020).
A stage with ``sandwich`` has its teacher in every step: the largest network learns from the labels, the smallest and
random ones between from the largest's answers to the same images (the sandwich rule with in-place distillation, Yu et
al., BigNAS, 2020). Departures: all of a step's networks have one resolution, and dropout and weight decay. Where
``extremes`` is above 0 instead, the ends are a share of the draws, on labels.
"""

import copy
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from nas.errors import FileFormatError, UsageError
from search_spaces import Preset, SearchSpace
from search_spaces.toml_tables import TableReader

MOST_SCALE = 1000.0
LEAST_STEPS = 4  # of an epoch, where the batch follows the data
OPTIMIZERS = ("sgd", "adamw", "lion")
FRACTION = ("0 to 1", lambda value: 0 <= value <= 1)
BELOW_ONE = ("from 0 to below 1", lambda value: 0 <= value < 1)
NOT_NEGATIVE = ("0 to 1000", lambda value: 0 <= value <= 1000)


@dataclass(frozen=True)
class TrainingStage:
    """One stage of training; see the module. ``open`` holds the counts of choices by elastic dimension."""

    name: str
    epochs: int
    learning_rate: float
    warmup_epochs: int = 0
    subnets: int = 1
    open: Mapping[str, int] = field(default_factory=dict)
    distillation: float = 0.0
    extremes: float = 0.0
    sandwich: bool = False

    @property
    def full(self) -> bool:
        """Whether only the full network is trained."""
        return max(self.open.values(), default=1) == 1

    def space(self, whole: SearchSpace) -> SearchSpace:
        """Return the part of the space that this stage draws from."""
        return whole.restricted(self.open)


@dataclass(frozen=True)
class TrainingPlan:
    """The recipe of a supernet; see the module."""

    batch_size: int
    weight_decay: float
    label_smoothing: float
    flip: float
    shift: float
    erase: float
    stages: tuple[TrainingStage, ...]
    finetune: tuple[TrainingStage, ...] = ()
    optimizer: str = "sgd"
    momentum: float = 0.0
    crop: float = 1.0
    mixup: float = 0.0
    cutmix: float = 0.0
    clip_norm: float = 0.0
    clip_value: float = 0.0
    average: float = 0.0
    sort_channels: bool = True

    def with_batch_size(self, batch_size: int) -> "TrainingPlan":
        """Return the plan for another batch size, learning rates scaled in proportion (Goyal et al., 2017)."""
        factor = batch_size / self.batch_size
        plan = self._each_stage(lambda stage: replace(stage, learning_rate=stage.learning_rate * factor))
        return replace(plan, batch_size=batch_size)

    def for_images(self, count: int) -> "TrainingPlan":
        """Return the plan for so many training images.

        Where they are not ``LEAST_STEPS`` batches, the batch is the largest power of two of which they are.
        """
        if count >= LEAST_STEPS * self.batch_size:
            return self
        return self.with_batch_size(max(2, 1 << (count // LEAST_STEPS).bit_length() >> 1))

    def scaled(self, factor: float) -> "TrainingPlan":
        """Return the plan with every stage's epochs times ``factor``, at least one each.

        Raises:
            UsageError: ``factor`` is not a number above 0, at most ``MOST_SCALE``.
        """
        if not 0 < factor <= MOST_SCALE:
            raise UsageError(f"epochs times {factor:g}; allowed: above 0, at most {MOST_SCALE:g}")
        return self._each_stage(lambda stage: _scaled(stage, factor))

    def from_trained(self) -> "TrainingPlan":
        """Return the plan of a supernet that begins with trained weights: the stages of fine-tuning alone."""
        last = replace(self.stages[-1], distillation=0.0)  # its teacher would be of another training
        return replace(self, stages=self.finetune or (last,), finetune=())

    def _each_stage(self, change: Callable[[TrainingStage], TrainingStage]) -> "TrainingPlan":
        stages, finetune = (tuple(change(stage) for stage in stages) for stages in (self.stages, self.finetune))
        return replace(self, stages=stages, finetune=finetune)


def _scaled(stage: TrainingStage, factor: float) -> TrainingStage:
    epochs = max(1, round(stage.epochs * factor))
    return replace(stage, epochs=epochs, warmup_epochs=min(int(stage.warmup_epochs * min(factor, 1)), epochs - 1))


def read_plan(table: Mapping[str, Any], preset: Preset, source: str) -> TrainingPlan:
    """Build a plan from a preset's ``[training]`` table.

    Raises:
        FileFormatError: A key is missing, unknown, of the wrong type or out of range; the message names it.
    """
    if not table:
        raise FileFormatError(f"{source}: it has no [training] table, which training needs")
    reader = TableReader(source, copy.deepcopy(dict(table)), "training.")
    optimizer = reader.take("optimizer", str, " or ".join(OPTIMIZERS), lambda value: value in OPTIMIZERS, "sgd")
    plan = TrainingPlan(
        batch_size=reader.take("batch_size", int, "2 to 65536", lambda value: 2 <= value <= 65536),
        weight_decay=reader.take("weight_decay", float, *FRACTION),
        label_smoothing=reader.take("label_smoothing", float, *BELOW_ONE),
        flip=reader.take("flip", float, *FRACTION),
        shift=reader.take("shift", float, *FRACTION),
        erase=reader.take("erase", float, *FRACTION),
        stages=tuple(_read_stage(stage, preset) for stage in reader.tables("stage")),
        finetune=tuple(_read_stage(stage, preset) for stage in reader.tables("finetune", [])),
        optimizer=optimizer,
        momentum=_take_momentum(reader, optimizer),
        crop=reader.take("crop", float, "above 0, at most 1", lambda value: 0 < value <= 1, 1.0),
        mixup=reader.take("mixup", float, *NOT_NEGATIVE, 0.0),
        cutmix=reader.take("cutmix", float, *NOT_NEGATIVE, 0.0),
        clip_norm=reader.take("clip_norm", float, *NOT_NEGATIVE, 0.0),
        clip_value=reader.take("clip_value", float, *NOT_NEGATIVE, 0.0),
        average=reader.take("average", float, *BELOW_ONE, 0.0),
        sort_channels=reader.flag("sort_channels", True),
    )
    reader.finish()
    _check_teachers(source, "stage", plan.stages)
    _check_teachers(source, "finetune", plan.finetune)
    return plan


def _take_momentum(reader: TableReader, optimizer: str) -> float:
    """Take the momentum of sgd; the other optimizers have their own."""
    if optimizer == "sgd":
        return float(reader.take("momentum", float, "above 0, below 1", lambda value: 0 < value < 1))
    allowed = f"none with optimizer {optimizer}, which has its own"
    return float(reader.take("momentum", float, allowed, lambda value: False, 0.0))


def _check_teachers(source: str, key: str, stages: tuple[TrainingStage, ...]) -> None:
    """Check that a stage with distillation has a full network trained before it, and a sandwich its own teacher."""
    if len({stage.name for stage in stages}) < len(stages):
        names = ", ".join(stage.name for stage in stages)
        raise FileFormatError(f"{source}: training.{key} has names {names}; allowed: none twice")
    taught = False
    for number, stage in enumerate(stages):
        place = f"{source}: training.{key}[{number}]"
        if stage.distillation and not taught:
            raise FileFormatError(
                f"{place} has distillation and no teacher; allowed: 0, or a stage of the full network (all counts 1) "
                "before it"
            )
        if stage.sandwich and (stage.distillation or stage.extremes or stage.subnets < 2):
            raise FileFormatError(
                f"{place} has sandwich with distillation {stage.distillation:g}, extremes {stage.extremes:g}, subnets "
                f"{stage.subnets}; allowed: 0, 0, 2 or more: the largest network of each step is the teacher"
            )
        taught = taught or stage.full


def _read_stage(table: TableReader, preset: Preset) -> TrainingStage:
    epochs = table.take("epochs", int, "1 to 100000", lambda value: 1 <= value <= 100_000)
    stage = TrainingStage(
        name=table.take("name", str, "a name", bool),
        epochs=epochs,
        warmup_epochs=table.take("warmup_epochs", int, "0 to below epochs", lambda value: 0 <= value < epochs, 0),
        learning_rate=table.take("learning_rate", float, "above 0, at most 100", lambda value: 0 < value <= 100),
        subnets=table.take("subnets", int, "1 to 64", lambda value: 1 <= value <= 64, 1),
        open={name: _count(table, name, most) for name, most in preset.elastic.items()},
        distillation=table.take("distillation", float, *NOT_NEGATIVE, 0.0),
        extremes=table.take("extremes", float, *FRACTION, 0.0),
        sandwich=table.flag("sandwich"),
    )
    table.finish()
    return stage


def _count(table: TableReader, key: str, most: int) -> int:
    allowed = f"1 to {most}, the choices that the space has"
    return int(table.take(key, int, allowed, lambda count: 1 <= count <= most, 1))
