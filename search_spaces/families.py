"""The families of spaces: from a preset, as a TOML file or as the dictionary that files carry, to its space.

A new family is one file with its ``SearchSpace`` and one with its ``Preset``, and a line here.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from nas.errors import FileFormatError
from nas.registry import Registry
from search_spaces.preset import SCHEMA_VERSION, Preset
from search_spaces.space import SearchSpace
from search_spaces.toml_tables import TableReader, read_toml

FAMILIES = Registry("family of spaces")
FAMILIES.register("mbconv", "search_spaces.mbconv:MBConvSpace", "inverted residual blocks, as in MobileNetV3")
FAMILIES.register("bottleneck", "search_spaces.bottleneck:BottleneckSpace", "bottleneck blocks, as in ResNet50")
FAMILIES.register("metaformer", "search_spaces.metaformer:MetaformerSpace", "maps, then tokens, as in EfficientFormer")
FAMILIES.register(
    "factorised", "search_spaces.factorised:FactorisedSpace", "one block a stage, repeated, as in MnasNet and DAMO-YOLO"
)

FIRST_FAMILY = "mbconv"  # that of presets in files written before they named it


def make_space(preset: Preset, precisions: Sequence[str] | None = None) -> SearchSpace:
    """Return the space of a preset of any family.

    Args:
        preset: Its choices.
        precisions: The device's menu; without it, the preset's own.

    Raises:
        UsageError: The precisions are none, or one is there twice.
    """
    return _space_type(preset.family)(preset, precisions)


def read_preset(path: Path) -> tuple[Preset, dict[str, Any]]:
    """Read a preset of any family and its ``[training]`` table (empty where it has none).

    Raises:
        FileFormatError: The file is no TOML, or a key is missing, unknown or out of range; the message names the key
            and what is allowed.
    """
    content = read_toml(path)
    reader = TableReader(path, content)
    reader.take("schema_version", int, str(SCHEMA_VERSION), lambda value: value == SCHEMA_VERSION)
    training = content.pop("training", {})
    if not isinstance(training, dict):
        raise FileFormatError(f"{path}: training is {training!r}; allowed: a table")
    return _take_preset(_take_family(reader), reader), training


def preset_from_dict(content: Mapping[str, Any], source: str) -> Preset:
    """Rebuild a preset from ``Preset.to_dict``, as files carry it, with the checks of a TOML file.

    Raises:
        FileFormatError: The content does not fit; the message begins with ``source``.
    """
    given = {"family": FIRST_FAMILY, **content}
    family = _take_family(TableReader(source, given))
    return _take_preset(family, TableReader(source, _space_type(family).preset_type.as_toml(given)))


def _take_family(reader: TableReader) -> str:
    allowed = " or ".join(map(repr, FAMILIES.names()))
    return str(reader.take("family", str, allowed, lambda value: value in FAMILIES.names()))


def _take_preset(family: str, reader: TableReader) -> Preset:
    preset = _space_type(family).preset_type.take(reader)
    reader.finish()
    return preset


def _space_type(family: str) -> type[SearchSpace]:
    found = FAMILIES.get(family)
    assert isinstance(found, type) and issubclass(found, SearchSpace)
    return found
