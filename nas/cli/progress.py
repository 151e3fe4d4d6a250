"""Progress on standard error: bars on a terminal, plain lines in a pipe, nothing when quiet."""

import contextlib
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import RenderableType


class Listener(Protocol):
    """Shows how far a stage is; ``detail`` is a word more, such as its speed."""

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        """Show ``done`` of ``total``."""


PLAIN_SECONDS = 10.0  # between two lines of one stage


@dataclass(frozen=True)
class Display:
    """What shows a job: a listener for its stages, one for lines worth reading, and what stands below the bars."""

    listener: Listener
    note: Callable[[str], None]
    show: Callable[["RenderableType"], None] = lambda shown: None


@contextlib.contextmanager
def progress_on(quiet: bool) -> Iterator[Display]:
    """Yield what shows a job's stages and notes."""
    if quiet:
        yield Display(lambda stage, done, total, detail="": None, lambda line: None)
    elif sys.stderr.isatty():
        with _bars() as display:
            yield display
    else:
        yield Display(_PlainLines(), lambda line: print(line, file=sys.stderr, flush=True))


class _PlainLines:
    """One line when a stage begins, now and then while it goes on, and when it ends."""

    def __init__(self) -> None:
        self._stage = ""
        self._ended: set[str] = set()
        self._begun = self._said = 0.0

    def __call__(self, stage: str, done: int, total: int, detail: str = "") -> None:
        now = time.monotonic()
        if stage != self._stage:
            self._stage, self._begun, self._said = stage, now, now
            self._ended.discard(stage)
        ended = done >= total and stage not in self._ended
        if ended or (now - self._said >= PLAIN_SECONDS and done < total):
            self._said = now
            words = [f"{done} of {total}", f"{now - self._begun:.0f} s", detail]
            print(f"{stage}: {', '.join(filter(None, words))}", file=sys.stderr, flush=True)
        if ended:
            self._ended.add(stage)


@contextlib.contextmanager
def _bars() -> Iterator[Display]:
    from rich.console import Console, RenderableType
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description:<12}"), BarColumn(bar_width=36), MofNCompleteColumn(), TimeElapsedColumn(),
        TimeRemainingColumn(compact=True, elapsed_when_finished=False), TextColumn("{task.fields[detail]}"),
    )  # fmt: skip

    class Bars(Progress):
        """Bars, and whatever is shown below them."""

        below: RenderableType = ""

        def get_renderables(self) -> Iterable[RenderableType]:
            yield from super().get_renderables()
            yield self.below

    with Bars(*columns, console=Console(stderr=True)) as bars:
        tasks = {}

        def show(shown: RenderableType) -> None:
            bars.below = shown

        def listen(stage: str, done: int, total: int, detail: str = "") -> None:
            if stage not in tasks:
                tasks[stage] = bars.add_task(stage, total=total, detail=detail)
            bars.update(tasks[stage], completed=done, total=total, detail=detail)

        yield Display(
            listen, lambda line: bars.console.print(line, highlight=False, markup=False, soft_wrap=True), show
        )
