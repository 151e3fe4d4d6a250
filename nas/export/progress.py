"""How a long job says where it is: (stage, done, total), to whoever listens."""

from collections.abc import Callable
from dataclasses import dataclass


def _silent(stage: str, done: int, total: int) -> None:
    pass


@dataclass(frozen=True)
class Progress:
    """Wraps a listener that is called with (stage, done, total)."""

    listener: Callable[[str, int, int], None] = _silent

    def part(self, stage: str) -> Callable[[int, int], None]:
        """Return a callable (done, total) that reports on one stage."""
        return lambda done, total: self.listener(stage, done, total)


NO_PROGRESS = Progress()
