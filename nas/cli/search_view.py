"""What ``nas search`` shows while it searches: the front so far and how fast it goes."""

import time
from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from nas.cli.progress import Display

if TYPE_CHECKING:
    from rich.table import Table

    from nas.search import Scored

STAGE = "search"
ROWS = 8  # of the front, spread over it
SECONDS = 0.2  # between two pictures
COLUMNS: dict[str, tuple[str, Callable[[float], str]]] = {  # a score's head, and how it is written
    "accuracy": ("accuracy %", lambda value: f"{100 * value:.2f}"),
    "latency_ms": ("ms", lambda value: f"{value:.4f}"),
    "latency_ratio": ("largest ratio", lambda value: f"{value:.3f}"),
    "size_mb": ("MB", lambda value: f"{value:.3f}"),
    "macs_m": ("million MACs", lambda value: f"{value:.2f}"),
    "memory_mb": ("MB of memory", lambda value: f"{value:.3f}"),
}


class SearchView:
    """Listens to a job: the front goes below a terminal's bars, its size and the rate beside them or into lines."""

    def __init__(self, display: Display):
        self._display = display
        self._begun = self._shown = 0.0
        self._front = 0

    def listen(self, stage: str, done: int, total: int) -> None:
        """Show a stage; that of the search with its rate."""
        if stage != STAGE:
            self._display.show("")
        self._display.listener(stage, done, total, self._detail(done) if stage == STAGE else "")

    def front(self, front: "Scored") -> None:
        """Take in the front so far."""
        now = time.monotonic()
        self._begun = self._begun or now
        self._front = len(front)
        if now - self._shown > SECONDS and len(front):
            self._shown = now
            self._display.show(picture(front))

    def _detail(self, done: int) -> str:
        seconds = time.monotonic() - self._begun
        rate = f", {done / seconds:,.0f} a second" if self._begun and seconds > SECONDS else ""
        return f"front of {self._front}{rate}"


def picture(front: "Scored") -> "Table":
    """Return some networks of a front as a table, fastest first."""
    from rich import box
    from rich.table import Table

    names = [name for name in COLUMNS if name in front.scores]
    table = Table(box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title="front, predicted", title_justify="left")
    for name in names:
        table.add_column(COLUMNS[name][0], justify="right")
    for row in np.unique(np.linspace(0, len(front) - 1, ROWS).round().astype(int)):
        table.add_row(*(COLUMNS[name][1](front.scores[name][row]) for name in names))
    return table
