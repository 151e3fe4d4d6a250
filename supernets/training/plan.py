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

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from typing import Any

from nas.errors import FileFormatError
from search_spaces import MBConvSpace, Preset


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
        """Return the plan with every stage's epochs times ``factor``, at least one each."""
        stages = tuple(
            replace(s, epochs=max(1, round(s.epochs * factor)), warmup_epochs=int(s.warmup_epochs * min(factor, 1)))
            for s in self.stages
        )
        return replace(self, stages=stages)


def read_plan(table: Mapping[str, Any], source: str) -> TrainingPlan:
    """Build a plan from a preset's ``[training]`` table.

    Raises:
        FileFormatError: A key is missing, unknown, of the wrong type or out of range; the message names it.
    """
    if not table:
        raise FileFormatError(f"{source}: it has no [training] table, which training needs")
    content = dict(table)
    stages = content.pop("stage", [])
    if not isinstance(stages, list) or not stages:
        raise FileFormatError(f"{source}: training.stage is {stages!r}; allowed: one [[training.stage]] table a stage")
    values = _values(content, TrainingPlan, f"{source}: training.", leave_out="stages")
    read = [_values(stage, TrainingStage, f"{source}: training.stage[{i}].") for i, stage in enumerate(stages)]
    plan = TrainingPlan(**values, stages=tuple(TrainingStage(**stage) for stage in read))
    if not plan.stages[0].full:
        raise FileFormatError(f"{source}: training.stage[0] is elastic; allowed: the full network first (all counts 1)")
    return plan


def _values(table: Any, kind: type, prefix: str, leave_out: str = "") -> dict[str, Any]:
    names = {field.name: field.type for field in fields(kind) if field.name != leave_out}
    if not isinstance(table, dict):
        raise FileFormatError(f"{prefix[:-1]} is {table!r}; allowed: a table")
    for key in table:
        if key not in names:
            raise FileFormatError(f"{prefix}{key} is an unknown key; allowed: {', '.join(names)}")
    return {name: _value(table, name, of, prefix) for name, of in names.items()}


def _value(table: Mapping[str, Any], name: str, kind: Any, prefix: str) -> Any:
    if name not in table:
        raise FileFormatError(f"{prefix}{name} is missing")
    value = table[name]
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    least = 0 if name in ("warmup_epochs",) or kind is float else 1
    if not isinstance(value, kind) or isinstance(value, bool) or (kind is not str and not value >= least):
        raise FileFormatError(f"{prefix}{name} is {value!r}; allowed: {kind.__name__}, {least} or more")
    return value
