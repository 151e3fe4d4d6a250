"""What the presets of all families share: a space's choices as a frozen value that knows its digest and its menus.

A preset is read from a TOML file, and from the dictionary that files carry (``to_dict``), by the same checks. Each
family has a class of its own, whose module shows its TOML.
"""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar, Self

from search_spaces.toml_tables import TableReader

SCHEMA_VERSION = 1
NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]{0,63}")  # it becomes part of folder names
MOST_PIXELS = 1024
DEPTHS = "depths"  # the one elastic dimension that is chosen by stage
ACTIVATIONS = ("relu", "hswish", "relu6")  # of convolutional networks
SE_REDUCTION = 4  # squeeze-and-excitation squeezes to a quarter of the channels
BATCH_NORM = {"bn_eps": ("batch_norm", "eps"), "bn_momentum": ("batch_norm", "momentum")}


@dataclass(frozen=True)
class Stage:
    """A run of blocks of one width: output channels, stride of the first block, and the depths to choose from.

    Attributes:
        width: Output channels.
        stride: Of the first block.
        depths: How many blocks there may be.
    """

    width: int
    stride: int
    depths: tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Preset(ABC):
    """A space's choices, as far as every family has them; a family adds its own.

    Attributes:
        family: Which family it is of; class attribute, as are the next three.
        tables: Attributes that a TOML file holds in a table or under another key, to that table and key.
        elastic_names: The elastic dimensions: menus of the preset by name, and ``depths``.
        sorted_by: Those whose growth asks the supernet to sort its channels.
        name: Name of the space.
        summary: One line on what it is for.
        resolutions: Sides of the square input, ascending, in pixels.
        channels: Channels of the input; a supernet trained on other images has its own.
        classes: Likewise.
        dropout: Before the classifier, while training.
        precisions: The menu; a device restricts it to what it executes.
        stages: The stages, in order.
        bn_eps: Of every batch norm.
        bn_momentum: Likewise.
    """

    family: ClassVar[str]
    tables: ClassVar[Mapping[str, tuple[str, str]]] = BATCH_NORM
    elastic_names: ClassVar[tuple[str, ...]]
    sorted_by: ClassVar[tuple[str, ...]]

    name: str
    summary: str
    resolutions: tuple[int, ...]
    channels: int
    classes: int
    dropout: float
    precisions: tuple[str, ...]
    stages: tuple[Stage, ...]
    bn_eps: float = 1e-5
    bn_momentum: float = 0.1

    @classmethod
    @abstractmethod
    def take(cls, reader: TableReader) -> Self:
        """Take every key of a preset's TOML file.

        Raises:
            FileFormatError: A key is missing or out of range; the message names the key and what is allowed.
        """

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change whenever a choice changes; keys at their defaults do not count."""
        content = json.dumps({**without_defaults(self), "summary": ""}, sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:12]

    @property
    def elastic(self) -> dict[str, int]:
        """The elastic dimensions, which a stage of training can open, to the number of choices that each has."""
        depths = max(len(stage.depths) for stage in self.stages)
        return {name: depths if name == DEPTHS else len(getattr(self, name)) for name in self.elastic_names}

    def restricted(self, open: Mapping[str, int]) -> Self:
        """Return the part with only the last ``open[name]`` choices of each elastic dimension; 1 where it is absent.

        Raises:
            ValueError: A name is not elastic, or has not so many choices.
        """
        for name, count in open.items():
            if not 1 <= count <= self.elastic.get(name, 0):
                raise ValueError(f"{count} choices of {name} open; elastic are {self.elastic}")
        menus = {name: getattr(self, name)[-open.get(name, 1) :] for name in self.elastic_names if name != DEPTHS}
        deepest = open.get(DEPTHS, 1)
        stages = tuple(replace(stage, depths=stage.depths[-deepest:]) for stage in self.stages)
        return replace(self, stages=stages, **menus)

    def to_dict(self) -> dict[str, Any]:
        """Return the preset as files carry it: JSON types, with its family."""
        content: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return {"family": self.family, **content}

    @classmethod
    def as_toml(cls, content: Mapping[str, Any]) -> dict[str, Any]:
        """Return what ``to_dict`` returned, less the family, in the tables of a TOML file."""
        flat = json.loads(json.dumps(dict(content)))
        nested: dict[str, dict[str, Any]] = {table: {} for table, _ in cls.tables.values()}
        for name, (table, key) in cls.tables.items():
            if name in flat:
                nested[table][key] = flat.pop(name)
        if "stages" in flat:
            flat["stage"] = flat.pop("stages")
        return {**flat, **nested}


def take_common(reader: TableReader, *, fewest_pixels: int) -> dict[str, Any]:
    """Take the keys that presets of every family have, but the stages; return them by attribute."""
    norm = reader.table("batch_norm", {})
    pixels = f"pixels from {fewest_pixels} to {MOST_PIXELS}"
    common = {
        "name": reader.take("name", str, "1 to 64 of A-Z a-z 0-9 . _ -, no dot first", NAME.fullmatch),
        "summary": reader.take("summary", str, "a line of text"),
        "resolutions": reader.ascending("resolutions", int, pixels, lambda n: fewest_pixels <= n <= MOST_PIXELS),
        "channels": reader.take("channels", int, "1 or 3", lambda value: value in (1, 3)),
        "classes": reader.take("classes", int, "2 or more", lambda value: value >= 2),
        "dropout": reader.take("dropout", float, "from 0 to below 1", lambda value: 0 <= value < 1),
        "precisions": reader.items("precisions", str, "names of precisions", bool),
        "bn_eps": norm.take("eps", float, "above 0, at most 0.1", lambda value: 0 < value <= 0.1, 1e-5),
        "bn_momentum": norm.take("momentum", float, "above 0, at most 1", lambda value: 0 < value <= 1, 0.1),
    }
    norm.finish()
    return common


def take_width(table: TableReader, key: str) -> int:
    """Take a number of channels."""
    return int(table.take(key, int, "1 to 4096", lambda value: 1 <= value <= 4096))


def take_round_to(table: TableReader) -> int:
    """Take what numbers of channels are multiples of."""
    return int(table.take("round_to", int, "1 to 64", lambda value: 1 <= value <= 64))


def take_keeps(table: TableReader) -> tuple[float, ...]:
    """Take the menu of shares of the channels that a block keeps."""
    return table.ascending("keeps", float, "above 0, at most 1", lambda value: 0 < value <= 1)


def take_shape(table: TableReader) -> dict[str, Any]:
    """Take what stages of every family have: width, stride and depths; return them by attribute."""
    return {
        "width": take_width(table, "width"),
        "stride": table.take("stride", int, "1 or 2", lambda value: value in (1, 2)),
        "depths": table.ascending("depths", int, "1 to 16", lambda value: 1 <= value <= 16),
    }


def squeezed_channels(middle: int, round_to: int) -> int:
    """Return the channels inside the squeeze-and-excitation of ``middle`` channels."""
    return make_divisible(middle // SE_REDUCTION, round_to)


def make_divisible(value: float, divisor: int) -> int:
    """Return the multiple of ``divisor`` nearest to ``value``, the next one where that would lose over a tenth.

    The rule of MobileNetV3's code (Howard et al., 2019) for channels.
    """
    rounded = max(divisor, int(value + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * value else rounded


def without_defaults(value: Any) -> Any:
    """Return a dataclass, and those in its tuples, as dictionaries of what is not at its default.

    Of these, digests are made: a key that is added later changes none where it is left out.
    """
    if isinstance(value, tuple):
        return [without_defaults(item) for item in value]
    if not is_dataclass(value):
        return value
    content = {field.name: getattr(value, field.name) for field in fields(value)}
    return {
        field.name: without_defaults(content[field.name])
        for field in fields(value)
        if content[field.name] != field.default
    }
