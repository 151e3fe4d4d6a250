"""Names to things, refusing to guess: an unknown name lists what there is and suggests the nearest spelling."""

import difflib
import importlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from nas.errors import UsageError


def unknown_name(kind: str, name: str, allowed: Iterable[str]) -> UsageError:
    """Return the error for a name that is not among ``allowed``, with the nearest spelling."""
    names = sorted(allowed)
    spellings = {spelling.casefold(): spelling for spelling in names}
    near = difflib.get_close_matches(name.casefold(), spellings, n=1, cutoff=0.5)
    hint = f" Did you mean {spellings[near[0]]!r}?" if near else ""
    return UsageError(f"unknown {kind} {name!r}; there is: {', '.join(names) or 'none'}.{hint}")


@dataclass(frozen=True)
class Entry:
    """One registered thing: where it lives (``module:attribute``, imported on first use), what it is for, its cost."""

    target: str
    summary: str
    cost: str = ""

    def load(self) -> Any:
        """Import and return the registered object."""
        module, _, attribute = self.target.partition(":")
        return getattr(importlib.import_module(module), attribute)


@dataclass
class Registry:
    """A table of names. Entries are strings, so that listing them imports nothing heavy."""

    kind: str
    entries: dict[str, Entry] = field(default_factory=dict)

    def register(self, name: str, target: str, summary: str, cost: str = "") -> None:
        """Add ``name``; ``target`` is ``module:attribute``."""
        if name in self.entries:
            raise ValueError(f"{self.kind} {name!r} is registered twice")
        self.entries[name] = Entry(target, summary, cost)

    def names(self) -> list[str]:
        """Return the registered names in the order of registration."""
        return list(self.entries)

    def get(self, name: str) -> Callable[..., Any]:
        """Return the object registered under ``name``.

        Raises:
            UsageError: The name is unknown; the message lists the names and suggests the nearest.
        """
        if name not in self.entries:
            raise unknown_name(self.kind, name, self.entries)
        loaded: Callable[..., Any] = self.entries[name].load()
        return loaded
