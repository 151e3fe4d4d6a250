"""Finds a space by its name or by the path of a preset."""

from collections.abc import Sequence
from pathlib import Path

from nas.registry import unknown_name
from search_spaces.families import make_space, read_preset
from search_spaces.space import SearchSpace

PRESETS = Path(__file__).parent / "presets"


def get_space(name: str | Path, precisions: Sequence[str] | None = None) -> SearchSpace:
    """Return the space called ``name``, or that of the preset file ``name`` (a path that ends in ``.toml``).

    Args:
        name: A shipped preset's name, or a path.
        precisions: The device's menu; without it, the preset's own.

    Raises:
        UsageError: No preset has that name; the message lists them.
        FileFormatError: The preset file does not fit.
    """
    return make_space(read_preset(preset_path(name))[0], precisions)


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
