"""How a long job says where it is, to whoever listens: (stage, done, total), and now and then a line."""

from collections.abc import Callable
from dataclasses import dataclass


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _no_note(line: str) -> None:
    pass


@dataclass(frozen=True)
class Progress:
    """A listener that is called with (stage, done, total), and one for lines of text worth showing."""

    listener: Callable[[str, int, int], None] = _silent
    note: Callable[[str], None] = _no_note

    def part(self, stage: str) -> Callable[[int, int], None]:
        """Return a callable (done, total) that reports on one stage."""
        return lambda done, total: self.listener(stage, done, total)


NO_PROGRESS = Progress()
