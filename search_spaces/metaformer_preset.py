"""A space of metaformers as a TOML file: stage widths, their multipliers, and the choices in them.

    schema_version = 1
    name = "efficientformer"
    family = "metaformer"
    summary = "one line"
    resolutions = [160, 192, 224]         # pixels, ascending
    channels = 3
    classes = 1000
    dropout = 0.0
    precisions = ["fp32", "int8"]         # the menu; a device restricts it to what it executes
    activation = "gelu"                   # gelu | relu | hswish | relu6, in the blocks; the stem has ReLU
    stem_stride = 4                       # of its two 3x3 convolutions together: 2 or 4
    widths = [0.5, 0.75, 1.0]             # multipliers, chosen apart for each stage; the stem puts out the first's
    round_to = 16                         # every width is a multiple of this

    [batch_norm]                          # may be left out: these are the defaults
    eps = 1e-5
    momentum = 0.1

    [block]
    mixers = ["pool", "conv"]             # of the blocks without attention
    expands = [2, 3, 4]                   # channels inside the MLP as multiples of the stage's width
    layer_scale = 1e-5                    # what a residual branch is scaled by before training

    [attention]
    blocks = [0, 1, 2]                    # how many blocks at the end of the last stage have attention
    heads = 8
    key_width = 32                        # channels of a head's queries and keys
    value_width = 128                     # channels of a head's values

    [[stage]]                             # one table a stage
    width = 48
    stride = 1                            # of the 3x3 convolution before it; the first stage has none, and stride 1
    depths = [1, 2, 3]

A ``[training]`` table may follow; the supernet's trainer reads it.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

from search_spaces.preset import (
    BATCH_NORM,
    Preset,
    Stage,
    make_divisible,
    take_common,
    take_round_to,
    take_shape,
    take_width,
)
from search_spaces.toml_tables import TableReader

MIXERS = ("pool", "conv")
ACTIVATIONS = ("gelu", "relu", "hswish", "relu6")


@dataclass(frozen=True, kw_only=True)
class MetaformerPreset(Preset):
    """A space's choices; see the module for the meaning of each key."""

    family: ClassVar[str] = "metaformer"
    tables: ClassVar[Mapping[str, tuple[str, str]]] = {
        **BATCH_NORM,
        "mixers": ("block", "mixers"),
        "expands": ("block", "expands"),
        "layer_scale": ("block", "layer_scale"),
        "attentions": ("attention", "blocks"),
        "heads": ("attention", "heads"),
        "key_width": ("attention", "key_width"),
        "value_width": ("attention", "value_width"),
    }
    elastic_names: ClassVar[tuple[str, ...]] = ("mixers", "attentions", "depths", "expands", "widths")
    sorted_by: ClassVar[tuple[str, ...]] = ("expands", "widths")

    activation: str
    stem_stride: int
    widths: tuple[float, ...]
    round_to: int
    mixers: tuple[str, ...]
    expands: tuple[int, ...]
    layer_scale: float
    attentions: tuple[int, ...]
    heads: int
    key_width: int
    value_width: int

    @classmethod
    def take(cls, reader: TableReader) -> Self:
        block, attention = reader.table("block"), reader.table("attention")
        stages = tuple(_stage(table, number) for number, table in enumerate(reader.tables("stage")))
        most = max(stages[-1].depths)
        preset = cls(
            **take_common(reader, fewest_pixels=16),
            activation=reader.take("activation", str, " or ".join(ACTIVATIONS), lambda name: name in ACTIVATIONS),
            stem_stride=reader.take("stem_stride", int, "2 or 4", lambda value: value in (2, 4)),
            widths=reader.ascending("widths", float, "above 0, at most 1", lambda value: 0 < value <= 1),
            round_to=take_round_to(reader),
            mixers=_mixers(block),
            expands=block.ascending("expands", int, "1 to 16", lambda value: 1 <= value <= 16),
            layer_scale=block.take("layer_scale", float, "above 0, at most 1", lambda value: 0 < value <= 1),
            attentions=attention.ascending(
                "blocks", int, f"0 to {most}, the depth of the last stage", lambda value: 0 <= value <= most
            ),
            heads=attention.take("heads", int, "1 to 64", lambda value: 1 <= value <= 64),
            key_width=take_width(attention, "key_width"),
            value_width=take_width(attention, "value_width"),
            stages=stages,
        )
        for table in (block, attention):
            table.finish()
        return preset

    def stage_out(self, stage: int, width: float) -> int:
        """Return the channels of a stage under a multiplier."""
        return make_divisible(self.stages[stage].width * width, self.round_to)


def _mixers(block: TableReader) -> tuple[str, ...]:
    mixers = block.items("mixers", str, " or ".join(MIXERS), lambda value: value in MIXERS)
    if list(mixers) != sorted(mixers, key=MIXERS.index):
        raise block.error("mixers", list(mixers), f"some of {', '.join(MIXERS)}, in this order")
    return mixers


def _stage(table: TableReader, number: int) -> Stage:
    stage = Stage(**take_shape(table))
    table.finish()
    if number == 0 and stage.stride != 1:
        raise table.error("stride", stage.stride, "1 for the first stage, which begins where the stem ends")
    return stage
