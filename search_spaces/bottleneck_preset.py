"""A space of bottleneck networks as a TOML file: stage widths, their multipliers, and the choices in them.

schema_version = 1
name = "ofa-resnet50"
family = "bottleneck"
summary = "one line"
resolutions = [128, 160, 192, 224]   # pixels, ascending
channels = 3
classes = 1000
dropout = 0.0
precisions = ["fp32", "int8"]         # the menu; a device restricts it to what it executes
stem_width = 64                      # channels of the stem's output; half as many inside
widths = [0.65, 0.8, 1.0]            # multipliers, chosen apart for the stem's inside, its output, and each stage
keeps = [0.2, 0.25, 0.35]            # channels inside a block as a fraction of its output's
round_to = 8                         # every width is a multiple of this

[batch_norm]                         # may be left out: these are the defaults
eps = 1e-5
momentum = 0.1

[[stage]]                            # one table a stage
width = 256
stride = 1
depths = [2, 3, 4]

A ``[training]`` table may follow; the supernet's trainer reads it.
"""

from dataclasses import dataclass
from typing import ClassVar, Self

from search_spaces.preset import (
    Preset,
    Stage,
    make_divisible,
    take_common,
    take_keeps,
    take_round_to,
    take_shape,
    take_width,
)
from search_spaces.toml_tables import TableReader


@dataclass(frozen=True, kw_only=True)
class BottleneckPreset(Preset):
    """A space's choices; see the module for the meaning of each key."""

    family: ClassVar[str] = "bottleneck"
    elastic_names: ClassVar[tuple[str, ...]] = ("depths", "keeps", "widths")
    sorted_by: ClassVar[tuple[str, ...]] = ("keeps", "widths")

    stem_width: int
    widths: tuple[float, ...]
    keeps: tuple[float, ...]
    round_to: int

    @classmethod
    def take(cls, reader: TableReader) -> Self:
        return cls(
            **take_common(reader, fewest_pixels=32),
            stem_width=take_width(reader, "stem_width"),
            widths=reader.ascending("widths", float, "above 0, at most 4", lambda value: 0 < value <= 4),
            keeps=take_keeps(reader),
            round_to=take_round_to(reader),
            stages=tuple(_stage(table) for table in reader.tables("stage")),
        )

    def stem_out(self, width: float) -> int:
        """Return the channels of the stem's output under a multiplier."""
        return make_divisible(self.stem_width * width, self.round_to)

    def stem_inside(self, width: float) -> int:
        """Return the channels inside the stem under a multiplier."""
        return make_divisible(self.stem_out(width) // 2, self.round_to)

    def stage_out(self, stage: int, width: float) -> int:
        """Return the output channels of a stage under a multiplier."""
        return make_divisible(self.stages[stage].width * width, self.round_to)

    def middle(self, out_width: int, keep: float) -> int:
        """Return the channels inside a block of ``out_width`` output channels."""
        return make_divisible(round(out_width * keep), self.round_to)


def _stage(table: TableReader) -> Stage:
    stage = Stage(**take_shape(table))
    table.finish()
    return stage
