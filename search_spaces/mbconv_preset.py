"""A space of inverted residual blocks as a TOML file: stage widths, strides and the choices in them.

    schema_version = 1
    name = "fashion-mbv3"
    family = "mbconv"
    summary = "one line for `nas spaces`"
    resolutions = [20, 24, 28]        # pixels, ascending
    channels = 1                      # of the input; a supernet trained on other images has its own
    classes = 10                      # likewise
    activation = "relu"               # relu | hswish | relu6
    dropout = 0.1                     # before the classifier, while training
    precisions = ["fp32", "int8"]     # the menu; a device restricts it to what it executes

    [stem]
    width = 16
    stride = 2
    block_width = 16                  # may be left out: a fixed block, depthwise 3x3 then 1x1, that belongs to the stem
    block_activation = "relu"         # may be left out: of that block, if it is not the space's

    [head]
    width = 256
    mix_width = 1280                  # may be left out: a second 1x1 convolution, after the pooling, without batch norm

    [batch_norm]                      # may be left out: these are the defaults
    eps = 1e-5
    momentum = 0.1

    [block]
    kernels = [3, 5, 7]
    expands = [3, 4, 6]               # expanded channels as multiples of the block's input channels
    keeps = [0.5, 0.75, 1.0]          # pruning: fraction of the expanded channels kept
    round_to = 8                      # kept channels are a multiple of this

    [[stage]]                         # one table a stage
    width = 32
    stride = 1
    depths = [2, 3, 4]
    activation = "relu"               # may be left out: of its blocks, if it is not the space's
    se = true                         # may be left out: squeeze-and-excitation after each depthwise convolution

A ``[training]`` table may follow; the supernet's trainer reads it.
"""

from dataclasses import dataclass
from math import prod
from typing import ClassVar, Self

from nas.errors import FileFormatError
from search_spaces.preset import (
    ACTIVATIONS,
    BATCH_NORM,
    Preset,
    Stage,
    squeezed_channels,
    take_common,
    take_keeps,
    take_round_to,
    take_shape,
    take_width,
)
from search_spaces.toml_tables import TableReader

MAX_DEPTH_COMBINATIONS = 20_000  # a space keeps one row of a table for each


@dataclass(frozen=True)
class MBConvStage(Stage):
    """A stage of inverted residual blocks.

    Attributes:
        activation: Of its blocks; empty for the preset's.
        se: Whether each block has squeeze-and-excitation (Hu et al., 2018).
    """

    activation: str = ""
    se: bool = False


@dataclass(frozen=True, kw_only=True)
class MBConvPreset(Preset):
    """A space's choices; see the module for the meaning of each key."""

    family: ClassVar[str] = "mbconv"
    tables: ClassVar[dict[str, tuple[str, str]]] = {
        **BATCH_NORM,
        **{f"stem_{key}": ("stem", key) for key in ("width", "stride", "block_width", "block_activation")},
        **{f"head_{key}": ("head", key) for key in ("width", "mix_width")},
        **{key: ("block", key) for key in ("kernels", "expands", "keeps", "round_to")},
    }
    elastic_names: ClassVar[tuple[str, ...]] = ("kernels", "depths", "expands", "keeps")
    sorted_by: ClassVar[tuple[str, ...]] = ("expands", "keeps")

    stages: tuple[MBConvStage, ...]
    activation: str
    stem_width: int
    stem_stride: int
    head_width: int
    kernels: tuple[int, ...]
    expands: tuple[int, ...]
    keeps: tuple[float, ...]
    round_to: int
    stem_block_width: int = 0
    stem_block_activation: str = ""
    head_mix_width: int = 0

    @classmethod
    def take(cls, reader: TableReader) -> Self:
        stem, head, block = (reader.table(name) for name in ("stem", "head", "block"))
        preset = cls(
            **take_common(reader, fewest_pixels=8),
            activation=reader.take("activation", str, " or ".join(ACTIVATIONS), lambda value: value in ACTIVATIONS),
            stem_width=take_width(stem, "width"),
            stem_stride=stem.take("stride", int, "1 or 2", lambda value: value in (1, 2)),
            head_width=take_width(head, "width"),
            kernels=block.ascending("kernels", int, "odd, 3 to 9", lambda value: value in (3, 5, 7, 9)),
            expands=block.ascending("expands", int, "1 to 16", lambda value: 1 <= value <= 16),
            keeps=take_keeps(block),
            round_to=take_round_to(block),
            stages=tuple(_stage(table) for table in reader.tables("stage")),
            stem_block_width=stem.take("block_width", int, "0 to 4096", lambda value: 0 <= value <= 4096, 0),
            stem_block_activation=_activation(stem, "block_activation"),
            head_mix_width=head.take("mix_width", int, "0 to 4096", lambda value: 0 <= value <= 4096, 0),
        )
        for part in (stem, head, block):
            part.finish()
        combinations = prod(len(stage.depths) for stage in preset.stages)
        if combinations > MAX_DEPTH_COMBINATIONS:
            allowed = f"at most {MAX_DEPTH_COMBINATIONS}; name fewer stages or depths"
            raise FileFormatError(
                f"{reader.source}: {combinations} combinations of the stages' depths; allowed: {allowed}"
            )
        return preset

    def middle(self, in_width: int, expand: int, keep: float) -> int:
        """Return the channels that a block keeps: a multiple of ``round_to``, or all the expanded ones."""
        expanded = in_width * expand
        kept = max(self.round_to, int(expanded * keep / self.round_to + 0.5) * self.round_to)
        return min(kept, expanded)

    def squeezed(self, middle: int) -> int:
        """Return the channels inside the squeeze-and-excitation of a block of ``middle`` channels."""
        return squeezed_channels(middle, self.round_to)

    @property
    def stem_out_width(self) -> int:
        """Channels that the stem hands to the first stage."""
        return self.stem_block_width or self.stem_width


def _stage(table: TableReader) -> MBConvStage:
    stage = MBConvStage(**take_shape(table), activation=_activation(table, "activation"), se=table.flag("se"))
    table.finish()
    return stage


def _activation(table: TableReader, key: str) -> str:
    """Take an activation that may be left out (empty: the space's)."""
    return str(table.take(key, str, " or ".join(ACTIVATIONS), lambda value: value in ("", *ACTIVATIONS), ""))
