"""Finds a space by its name or by the path of a preset."""

from collections.abc import Sequence
from pathlib import Path

from nas.registry import unknown_name
from search_spaces.bottleneck import BottleneckSpace
from search_spaces.bottleneck_preset import read_bottleneck_preset
from search_spaces.mbconv import MBConvSpace
from search_spaces.preset import read_preset

PRESETS = Path(__file__).parent / "presets"
BOTTLENECK_PRESETS = PRESETS / "bottleneck"


def get_space(name: str | Path, precisions: Sequence[str] | None = None) -> MBConvSpace:
    """Return the space called ``name``, or that of the preset file ``name`` (a path that ends in ``.toml``).

    Args:
        name: A shipped preset's name, or a path.
        precisions: The device's menu; without it, the preset's own.

    Raises:
        UsageError: No preset has that name; the message lists them.
        FileFormatError: The preset file does not fit.
    """
    return MBConvSpace(read_preset(preset_path(name))[0], precisions)


def get_bottleneck_space(name: str | Path) -> BottleneckSpace:
    """Return the space of bottleneck networks called ``name``, or that of a preset file (a path in ``.toml``).

    Raises:
        UsageError: No preset of that family has that name; the message lists them.
        FileFormatError: The preset file does not fit.
    """
    if str(name).endswith(".toml"):
        return BottleneckSpace(read_bottleneck_preset(Path(name)))
    names = list_bottleneck_spaces()
    if str(name) not in names:
        raise unknown_name("space of bottleneck networks", str(name), names)
    return BottleneckSpace(read_bottleneck_preset(BOTTLENECK_PRESETS / f"{name}.toml"))


def list_bottleneck_spaces() -> dict[str, str]:
    """Return the shipped presets of bottleneck networks: name and one line on what each is for."""
    paths = sorted(BOTTLENECK_PRESETS.glob("*.toml"))
    return {path.stem: read_bottleneck_preset(path).summary for path in paths}


def preset_path(name: str | Path) -> Path:
    """Return the TOML file behind a space's name, or the path itself."""
    if str(name).endswith(".toml"):
        return Path(name)
    path = PRESETS / f"{name}.toml"
    if str(name) not in list_names():
        raise unknown_name("space", str(name), list_names())
    return path


def list_names() -> list[str]:
    """Return the names of the shipped presets."""
    return sorted(path.stem for path in PRESETS.glob("*.toml"))


def list_spaces() -> dict[str, str]:
    """Return the shipped presets: name and one line on what each is for."""
    return {name: read_preset(preset_path(name))[0].summary for name in list_names()}
