"""Reads TOML, a table key by key, so that a wrong key is named with what is allowed."""

import tomllib
from pathlib import Path
from typing import Any

from nas.errors import FileFormatError
from nas.files import read_bytes

MAX_CHOICES = 36  # of one gene, which is one letter or digit in files
REQUIRED: Any = object()


def read_toml(path: Path) -> dict[str, Any]:
    """Return the content of a TOML file.

    Raises:
        FileFormatError: It cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(read_bytes(path).decode())
    except (UnicodeDecodeError, tomllib.TOMLDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path}: not a TOML file ({error})") from error


class TableReader:
    """Takes keys out of a TOML table one by one, so that what is left over is unknown.

    ``fits`` says whether a value of the right type is allowed; ``allowed`` says the same in words. Every method raises
    ``FileFormatError`` for a value that is not allowed, naming the key, the value and what is.

    Args:
        source: Begins every message: the file's path.
        content: The table; keys that are taken are removed.
        prefix: Of the keys in messages, such as ``stem.``.
    """

    def __init__(self, source: Path | str, content: dict[str, Any], prefix: str = ""):
        self.source, self.content, self.prefix = source, content, prefix
        self.known: list[str] = []

    def error(self, key: str, value: Any, allowed: str) -> FileFormatError:
        """Return the error for a value."""
        return FileFormatError(f"{self.source}: {self.prefix}{key} is {value!r}; allowed: {allowed}")

    def take(self, key: str, kind: type, allowed: str, fits: Any = lambda _: True, default: Any = REQUIRED) -> Any:
        """Take one value of type ``kind``; where there is none, ``default``."""
        self.known.append(key)
        if key not in self.content and default is not REQUIRED:
            return default
        if key not in self.content:
            raise FileFormatError(f"{self.source}: {self.prefix}{key} is missing; allowed: {allowed}")
        value = self.content.pop(key)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or isinstance(value, bool) or not fits(value):
            raise self.error(key, value, allowed)
        return value

    def flag(self, key: str, default: bool = False) -> bool:
        """Take true or false; where there is neither, ``default``."""
        self.known.append(key)
        value = self.content.pop(key, default)
        if not isinstance(value, bool):
            raise self.error(key, value, "true or false")
        return value

    def items(self, key: str, kind: type, allowed: str, fits: Any, default: Any = REQUIRED) -> Any:
        """Take a list whose items all fit, none twice, as a tuple; where there is none, ``default``."""
        if key not in self.content and default is not REQUIRED:
            self.known.append(key)
            return default
        values = self.take(key, list, f"a list of {allowed}", bool)
        if kind is float:
            values = [float(v) if isinstance(v, int) and not isinstance(v, bool) else v for v in values]
        wrong = any(not isinstance(value, kind) or isinstance(value, bool) or not fits(value) for value in values)
        if wrong or len(set(values)) < len(values) or len(values) > MAX_CHOICES:
            raise self.error(key, values, f"a list of {allowed}, none twice, at most {MAX_CHOICES}")
        return tuple(values)

    def ascending(self, key: str, kind: type, allowed: str, fits: Any) -> tuple[Any, ...]:
        """Take such a list in ascending order."""
        values = self.items(key, kind, allowed, fits)
        if list(values) != sorted(values):
            raise self.error(key, list(values), f"a list of {allowed}, ascending")
        return values

    def table(self, key: str, default: Any = REQUIRED) -> "TableReader":
        """Take a table inside this one."""
        return TableReader(self.source, self.take(key, dict, "a table", default=default), f"{self.prefix}{key}.")

    def tables(self, key: str, default: Any = REQUIRED) -> list["TableReader"]:
        """Take a list of tables."""
        items = self.take(key, list, f"one [[{self.prefix}{key}]] table each", bool, default)
        if any(not isinstance(item, dict) for item in items):
            raise self.error(key, items, "tables")
        return [TableReader(self.source, item, f"{self.prefix}{key}[{number}].") for number, item in enumerate(items)]

    def finish(self) -> None:
        """Refuse what is left."""
        if self.content:
            key, allowed = next(iter(self.content)), ", ".join(self.known)
            raise FileFormatError(f"{self.source}: {self.prefix}{key} is an unknown key; allowed: {allowed}")
