"""How a long job says where it is, to whoever listens: (stage, done, total), and now and then a line."""

from collections.abc import Callable
from dataclasses import dataclass

from nas.search import Scored


def _silent(stage: str, done: int, total: int) -> None:
    pass


def _no_note(line: str) -> None:
    pass


def _no_front(front: Scored) -> None:
    pass


@dataclass(frozen=True)
class Progress:
    """Listeners: to (stage, done, total), to lines of text worth showing, and to the front of a search so far."""

    listener: Callable[[str, int, int], None] = _silent
    note: Callable[[str], None] = _no_note
    front: Callable[[Scored], None] = _no_front

    def part(self, stage: str) -> Callable[[int, int], None]:
        """Return a callable (done, total) that reports on one stage."""
        return lambda done, total: self.listener(stage, done, total)


NO_PROGRESS = Progress()
