"""The training plan: the ``[training]`` table of a preset.

    [training]
    batch_size = 256
    momentum = 0.9
    weight_decay = 3e-5              # none on batch norms, biases and kernel transforms
    label_smoothing = 0.1
    flip = 0.5                       # augmentation, see supernets.datasets.augment
    shift = 0.07
    erase = 0.25

    [[training.stage]]               # one table a stage, in order
    name = "kernel"
    epochs = 30
    warmup_epochs = 0
    learning_rate = 0.1
    subnets = 1                      # drawn in every step, their gradients averaged
    kernels = 3                      # choices open in this stage, counted from the largest
    depths = 1
    expands = 1
    keeps = 1
    distillation = 1.0               # weight of the soft cross-entropy to the full network; 0 has no teacher
    extremes = 0.0                   # share of the draws that are the stage's largest or smallest network

A stage whose four counts are all 1 trains the full network; as it stands when that stage ends, it is the teacher of the
stages that follow (once-for-all's progressive shrinking, Cai et al., 2020).
Uniform draws hardly ever meet the largest and the smallest network; ``extremes`` gives them a share of the steps, which
is the sandwich rule (Yu et al., BigNAS, 2020) as a probability.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from nas.errors import FileFormatError, UsageError
from search_spaces import MBConvSpace, Preset
from search_spaces.toml_tables import TableReader

MOST_SCALE = 1000.0
FRACTION = ("0 to 1", lambda value: 0 <= value <= 1)


@dataclass(frozen=True)
class TrainingStage:
    """One stage of progressive shrinking; see the module."""

    name: str
    epochs: int
    warmup_epochs: int
    learning_rate: float
    subnets: int
    kernels: int
    depths: int
    expands: int
    keeps: int
    distillation: float
    extremes: float

    @property
    def full(self) -> bool:
        """Whether only the full network is trained."""
        return max(self.kernels, self.depths, self.expands, self.keeps) == 1

    @property
    def width_choices(self) -> tuple[int, int]:
        """How many expands and keeps are open; channels are sorted where this grows."""
        return self.expands, self.keeps

    def restrict(self, preset: Preset) -> Preset:
        """Return the part of the space that this stage trains."""
        return replace(
            preset,
            kernels=preset.kernels[-self.kernels :],
            expands=preset.expands[-self.expands :],
            keeps=preset.keeps[-self.keeps :],
            stages=tuple(replace(stage, depths=stage.depths[-self.depths :]) for stage in preset.stages),
        )

    def space(self, preset: Preset) -> MBConvSpace:
        """Return the space of the subnets that this stage draws from."""
        return MBConvSpace(self.restrict(preset), precisions=("fp32",))


@dataclass(frozen=True)
class TrainingPlan:
    """The recipe of a supernet; see the module."""

    batch_size: int
    momentum: float
    weight_decay: float
    label_smoothing: float
    flip: float
    shift: float
    erase: float
    stages: tuple[TrainingStage, ...]

    def with_batch_size(self, batch_size: int) -> "TrainingPlan":
        """Return the plan for another batch size, learning rates scaled in proportion (Goyal et al., 2017)."""
        factor = batch_size / self.batch_size
        stages = tuple(replace(stage, learning_rate=stage.learning_rate * factor) for stage in self.stages)
        return replace(self, batch_size=batch_size, stages=stages)

    def scaled(self, factor: float) -> "TrainingPlan":
        """Return the plan with every stage's epochs times ``factor``, at least one each.

        Raises:
            UsageError: ``factor`` is not a number above 0, at most ``MOST_SCALE``.
        """
        if not 0 < factor <= MOST_SCALE:
            raise UsageError(f"epochs times {factor:g}; allowed: above 0, at most {MOST_SCALE:g}")
        return replace(self, stages=tuple(_scaled(stage, factor) for stage in self.stages))


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
    plan = TrainingPlan(
        batch_size=reader.take("batch_size", int, "2 to 65536", lambda value: 2 <= value <= 65536),
        momentum=reader.take("momentum", float, "above 0, below 1", lambda value: 0 < value < 1),
        weight_decay=reader.take("weight_decay", float, *FRACTION),
        label_smoothing=reader.take("label_smoothing", float, "from 0 to below 1", lambda value: 0 <= value < 1),
        flip=reader.take("flip", float, *FRACTION),
        shift=reader.take("shift", float, *FRACTION),
        erase=reader.take("erase", float, *FRACTION),
        stages=tuple(_read_stage(stage, preset) for stage in reader.tables("stage")),
    )
    reader.finish()
    first = plan.stages[0]
    if not first.full or first.distillation:
        raise FileFormatError(
            f"{source}: training.stage[0] is elastic or has distillation; allowed: the full network first (all counts "
            "1), which has no teacher (distillation 0)"
        )
    return plan


def _read_stage(table: TableReader, preset: Preset) -> TrainingStage:
    def count(key: str, menu: int) -> int:
        return int(table.take(key, int, f"1 to {menu}, the choices that the space has", lambda n: 1 <= n <= menu))

    epochs = table.take("epochs", int, "1 to 100000", lambda value: 1 <= value <= 100_000)
    stage = TrainingStage(
        name=table.take("name", str, "a name", bool),
        epochs=epochs,
        warmup_epochs=table.take("warmup_epochs", int, "0 to below epochs", lambda value: 0 <= value < epochs),
        learning_rate=table.take("learning_rate", float, "above 0, at most 100", lambda value: 0 < value <= 100),
        subnets=table.take("subnets", int, "1 to 64", lambda value: 1 <= value <= 64),
        kernels=count("kernels", len(preset.kernels)),
        depths=count("depths", max(len(stage.depths) for stage in preset.stages)),
        expands=count("expands", len(preset.expands)),
        keeps=count("keeps", len(preset.keeps)),
        distillation=table.take("distillation", float, "0 to 1000", lambda value: 0 <= value <= 1000),
        extremes=table.take("extremes", float, *FRACTION),
    )
    table.finish()
    return stage
