"""A space as a TOML file: stage widths, strides and the choices in them.

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

import hashlib
import json
import re
from dataclasses import dataclass, fields
from math import prod
from pathlib import Path
from typing import Any

from nas.errors import FileFormatError
from search_spaces.toml_tables import TableReader, read_toml

SCHEMA_VERSION = 1
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")  # it becomes part of folder names
ACTIVATIONS = ("relu", "hswish", "relu6")
SE_REDUCTION = 4  # squeeze-and-excitation squeezes to a quarter of the channels
OPTIONAL = {
    "stem_block_width": ("stem", "block_width"),
    "stem_block_activation": ("stem", "block_activation"),
    "head_mix_width": ("head", "mix_width"),
    "bn_eps": ("batch_norm", "eps"),
    "bn_momentum": ("batch_norm", "momentum"),
}
"""Attributes of a preset with a default, to their table and key."""

MAX_DEPTH_COMBINATIONS = 20_000  # a space keeps one row of a table for each


@dataclass(frozen=True)
class Stage:
    """A run of blocks of one width: output channels, stride of the first block, and the depths to choose from.

    Attributes:
        width: Output channels.
        stride: Of the first block.
        depths: How many blocks there may be.
        activation: Of its blocks; empty for the preset's.
        se: Whether each block has squeeze-and-excitation (Hu et al., 2018).
    """

    width: int
    stride: int
    depths: tuple[int, ...]
    activation: str = ""
    se: bool = False


@dataclass(frozen=True)
class Preset:
    """A space's choices; see the module for the meaning of each key."""

    name: str
    summary: str
    resolutions: tuple[int, ...]
    channels: int
    classes: int
    activation: str
    dropout: float
    precisions: tuple[str, ...]
    stem_width: int
    stem_stride: int
    head_width: int
    kernels: tuple[int, ...]
    expands: tuple[int, ...]
    keeps: tuple[float, ...]
    round_to: int
    stages: tuple[Stage, ...]
    stem_block_width: int = 0
    stem_block_activation: str = ""
    head_mix_width: int = 0
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1

    def middle(self, in_width: int, expand: int, keep: float) -> int:
        """Return the channels that a block keeps: a multiple of ``round_to``, or all the expanded ones."""
        expanded = in_width * expand
        kept = max(self.round_to, int(expanded * keep / self.round_to + 0.5) * self.round_to)
        return min(kept, expanded)

    def squeezed(self, middle: int) -> int:
        """Return the channels inside the squeeze-and-excitation of a block of ``middle`` channels."""
        return make_divisible(middle // SE_REDUCTION, self.round_to)

    @property
    def elastic(self) -> dict[str, int]:
        """Return the elastic dimensions and their numbers of choices."""
        depths = max(len(stage.depths) for stage in self.stages)
        return {"kernels": len(self.kernels), "depths": depths, "expands": len(self.expands), "keeps": len(self.keeps)}

    sorted_by = ("expands", "keeps")

    @property
    def stem_out_width(self) -> int:
        """Channels that the stem hands to the first stage."""
        return self.stem_block_width or self.stem_width

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change whenever a choice changes; keys at their defaults do not count."""
        return digest_of({**_without_defaults(self), "summary": ""})


def digest_of(content: dict[str, Any]) -> str:
    """Return twelve hexadecimal digits of JSON content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def make_divisible(value: float, divisor: int) -> int:
    """Return the multiple of ``divisor`` nearest to ``value``, the next one where that would lose over a tenth.

    The rule of MobileNetV3's code (Howard et al., 2019) for channels.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def _without_defaults(value: Preset | Stage) -> dict[str, Any]:
    """Return a preset without the keys that are at their defaults, so that a new key changes no digest."""
    content = {field.name: getattr(value, field.name) for field in fields(value)}
    kept = {field.name: content[field.name] for field in fields(value) if content[field.name] != field.default}
    if isinstance(value, Preset):
        kept["stages"] = tuple(_without_defaults(stage) for stage in value.stages)
    return kept


def read_preset(path: Path) -> tuple[Preset, dict[str, Any]]:
    """Read a preset and its ``[training]`` table (empty where it has none).

    Raises:
        FileFormatError: The file is no TOML, or a key is missing, unknown or out of range; the message names the key
            and what is allowed.
    """
    content = read_toml(path)
    reader = TableReader(path, content)
    reader.take("schema_version", int, str(SCHEMA_VERSION), lambda value: value == SCHEMA_VERSION)
    reader.take("family", str, "'mbconv'", lambda value: value == "mbconv")
    training = content.pop("training", {})
    if not isinstance(training, dict):
        raise FileFormatError(f"{path}: training is {training!r}; allowed: a table")
    preset = _preset(reader)
    reader.finish()
    return preset, training


def preset_from_dict(content: dict[str, Any], source: str) -> Preset:
    """Rebuild a preset from ``dataclasses.asdict``, as a supernet's file carries it, with the checks of a TOML file.

    Raises:
        FileFormatError: The content does not fit; the message begins with ``source``.
    """
    flat = dict(content)
    nested: dict[str, Any] = {
        "stem": {"width": flat.pop("stem_width", None), "stride": flat.pop("stem_stride", None)},
        "head": {"width": flat.pop("head_width", None)},
        "batch_norm": {},
        "block": {key: flat.pop(key, None) for key in ("kernels", "expands", "keeps", "round_to")},
        "stage": flat.pop("stages", None),
    }
    for key, (table, name) in OPTIONAL.items():
        if key in flat:
            nested[table][name] = flat.pop(key)
    # asdict keeps tuples, JSON and TOML have lists: one way through JSON makes them equal.
    reader = TableReader(source, json.loads(json.dumps({**flat, **nested})))
    preset = _preset(reader)
    reader.finish()
    return preset


def _preset(reader: TableReader) -> Preset:
    stem, head, block = (reader.table(name) for name in ("stem", "head", "block"))
    norm = reader.table("batch_norm", {})
    preset = Preset(
        name=reader.take("name", str, "1 to 64 of A-Z a-z 0-9 . _ -, no dot first", NAME.fullmatch),
        summary=reader.take("summary", str, "a line of text"),
        resolutions=reader.ascending("resolutions", int, "pixels from 8 to 1024", lambda value: 8 <= value <= 1024),
        channels=reader.take("channels", int, "1 or 3", lambda value: value in (1, 3)),
        classes=reader.take("classes", int, "2 or more", lambda value: value >= 2),
        activation=reader.take("activation", str, " or ".join(ACTIVATIONS), lambda value: value in ACTIVATIONS),
        dropout=reader.take("dropout", float, "from 0 to below 1", lambda value: 0 <= value < 1),
        precisions=reader.items("precisions", str, "names of precisions", bool),
        stem_width=stem.take("width", int, "1 to 4096", _width),
        stem_stride=stem.take("stride", int, "1 or 2", lambda value: value in (1, 2)),
        head_width=head.take("width", int, "1 to 4096", _width),
        kernels=block.ascending("kernels", int, "odd, 3 to 9", lambda value: value in (3, 5, 7, 9)),
        expands=block.ascending("expands", int, "1 to 16", lambda value: 1 <= value <= 16),
        keeps=block.ascending("keeps", float, "above 0, at most 1", lambda value: 0 < value <= 1),
        round_to=block.take("round_to", int, "1 to 64", lambda value: 1 <= value <= 64),
        stages=tuple(_stage(table) for table in reader.tables("stage")),
        stem_block_width=stem.take("block_width", int, "0 to 4096", lambda value: 0 <= value <= 4096, 0),
        stem_block_activation=_activation(stem, "block_activation"),
        head_mix_width=head.take("mix_width", int, "0 to 4096", lambda value: 0 <= value <= 4096, 0),
        bn_eps=norm.take("eps", float, "above 0, at most 0.1", lambda value: 0 < value <= 0.1, 1e-5),
        bn_momentum=norm.take("momentum", float, "above 0, at most 1", lambda value: 0 < value <= 1, 0.1),
    )
    for part in (stem, head, block, norm):
        part.finish()
    combinations = prod(len(stage.depths) for stage in preset.stages)
    if combinations > MAX_DEPTH_COMBINATIONS:
        allowed = f"at most {MAX_DEPTH_COMBINATIONS}; name fewer stages or depths"
        raise FileFormatError(f"{reader.source}: {combinations} combinations of the stages' depths; allowed: {allowed}")
    return preset


def _stage(table: TableReader) -> Stage:
    stage = Stage(
        width=table.take("width", int, "1 to 4096", _width),
        stride=table.take("stride", int, "1 or 2", lambda value: value in (1, 2)),
        depths=table.ascending("depths", int, "1 to 16", lambda value: 1 <= value <= 16),
        activation=_activation(table, "activation"),
        se=table.flag("se"),
    )
    table.finish()
    return stage


def _activation(table: TableReader, key: str) -> str:
    """Take an activation that may be left out (empty: the space's)."""
    return table.take(key, str, " or ".join(ACTIVATIONS), lambda value: value in ("", *ACTIVATIONS), "")


def _width(value: int) -> bool:
    return 1 <= value <= 4096
