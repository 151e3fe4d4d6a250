"""A space of stages that repeat one block as a TOML file: stage widths and strides, and the choices in them.

schema_version = 1
name = "mnasnet"
family = "factorised"
summary = "one line"
resolutions = [128, 160, 192, 224]    # pixels, ascending
channels = 3
classes = 1000
dropout = 0.2
precisions = ["fp32", "int8"]         # the menu; a device restricts it to what it executes
activation = "relu"                   # relu | hswish | relu6
stem_width = 32                       # channels of the stem's output
stem_stride = 2                       # 1 or 2

[block]                               # each is chosen once a stage
kinds = ["mbconv", "mbconv_se"]       # some of mbconv, mbconv_se, k1kx, kxkx, csp, in this order
kernels = [3, 5]
widths = [0.75, 1.0, 1.25]            # multipliers of the stage's width
expand = 6                            # channels inside a block as a multiple of the stage's output, at most
keeps = [0.5, 1.0]                    # the fraction of those that there are
layers = [1, 2, 3, 4]                 # how often the block is repeated
round_to = 4                          # every width is a multiple of this

[batch_norm]                          # may be left out: these are the defaults
eps = 1e-5
momentum = 0.1

[[stage]]                             # one table a stage
width = 24
stride = 2                            # of its first layer

A ``[training]`` table may follow; the supernet's trainer reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from nas.errors import FileFormatError
from search_spaces.preset import (
    ACTIVATIONS,
    BATCH_NORM,
    Preset,
    Stage,
    make_divisible,
    squeezed_channels,
    take_common,
    take_keeps,
    take_round_to,
    take_width,
)
from search_spaces.toml_tables import TableReader

INVERTED = ("mbconv", "mbconv_se")
CSP = "csp"
KINDS = (*INVERTED, "k1kx", "kxkx", CSP)
ONCE = (1,)  # depth of a stage: one block, whose layers are chosen


@dataclass(frozen=True, kw_only=True)
class FactorisedPreset(Preset):
    """A space's choices; see the module for the meaning of each key."""

    family: ClassVar[str] = "factorised"
    tables: ClassVar[Mapping[str, tuple[str, str]]] = {
        **BATCH_NORM,
        **{key: ("block", key) for key in ("kinds", "kernels", "widths", "expand", "keeps", "layers", "round_to")},
    }
    elastic_names: ClassVar[tuple[str, ...]] = ("kinds", "kernels", "layers", "keeps", "widths")
    sorted_by: ClassVar[tuple[str, ...]] = ("keeps", "widths")

    activation: str
    stem_width: int
    stem_stride: int
    kinds: tuple[str, ...]
    kernels: tuple[int, ...]
    widths: tuple[float, ...]
    expand: int
    keeps: tuple[float, ...]
    layers: tuple[int, ...]
    round_to: int

    @classmethod
    def take(cls, reader: TableReader) -> Self:
        block = reader.table("block")
        preset = cls(
            **take_common(reader, fewest_pixels=8),
            activation=reader.take("activation", str, " or ".join(ACTIVATIONS), lambda name: name in ACTIVATIONS),
            stem_width=take_width(reader, "stem_width"),
            stem_stride=reader.take("stem_stride", int, "1 or 2", lambda value: value in (1, 2)),
            kinds=_kinds(block),
            kernels=block.ascending("kernels", int, "odd, 3 to 7", lambda value: value in (3, 5, 7)),
            widths=block.ascending("widths", float, "above 0, at most 4", lambda value: 0 < value <= 4),
            expand=block.take("expand", int, "1 to 16", lambda value: 1 <= value <= 16),
            keeps=take_keeps(block),
            layers=block.ascending("layers", int, "1 to 16", lambda value: 1 <= value <= 16),
            round_to=take_round_to(block),
            stages=tuple(_stage(table) for table in reader.tables("stage")),
        )
        block.finish()
        preset._check_distinct(reader)
        return preset

    @classmethod
    def as_toml(cls, content: Mapping[str, object]) -> dict[str, object]:
        nested = super().as_toml(content)
        for stage in nested.get("stage", ()):
            stage.pop("depths", None)
        return nested

    def _check_distinct(self, reader: TableReader) -> None:
        """Check that no two choices are the same network.

        Raises:
            FileFormatError: Two widths or two keeps round to equal channels.
        """
        for number in range(len(self.stages)):
            outs = [self.stage_out(number, width) for width in self.widths]
            insides = [("keeps", [self.middle(out, keep) for keep in self.keeps]) for out in outs]
            for what, channels in (("widths", outs), *insides):
                if len(set(channels)) < len(channels):
                    found = f"stage {number} has {channels} channels by its {what}"
                    allowed = f"{what} that end in different multiples of {self.round_to}"
                    raise FileFormatError(f"{reader.source}: {found}; allowed: {allowed}")

    def stage_out(self, stage: int, width: float) -> int:
        """Return the output channels of a stage under a multiplier."""
        return make_divisible(self.stages[stage].width * width, self.round_to)

    def middle(self, out_width: int, keep: float) -> int:
        """Return the channels inside the layers of a stage of ``out_width`` output channels."""
        return make_divisible(out_width * self.expand * keep, self.round_to)

    def squeezed(self, middle: int) -> int:
        """Return the channels inside the squeeze-and-excitation of a layer of ``middle`` channels."""
        return squeezed_channels(middle, self.round_to)


def _kinds(block: TableReader) -> tuple[str, ...]:
    kinds: tuple[str, ...] = block.items("kinds", str, " or ".join(KINDS), lambda value: value in KINDS)
    if list(kinds) != sorted(kinds, key=KINDS.index):
        raise block.error("kinds", list(kinds), f"some of {', '.join(KINDS)}, in this order")
    return kinds


def _stage(table: TableReader) -> Stage:
    stage = Stage(take_width(table, "width"), table.take("stride", int, "1 or 2", lambda value: value in (1, 2)), ONCE)
    table.finish()
    return stage
