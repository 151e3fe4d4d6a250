"""Ctrl-C and SIGTERM: one line that says what is kept, exit code 130."""

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from types import FrameType

import typer

INTERRUPTED = 130


class Interrupted(typer.Abort):
    """An interrupt, and what is kept."""


@contextlib.contextmanager
def kept_after_interrupt(kept: Callable[[], str]) -> Iterator[None]:
    """Let an interrupt of the block end the command with "interrupted; " and what ``kept`` says."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted(kept()) from None


@contextlib.contextmanager
def interrupted_by_sigterm() -> Iterator[None]:
    """Make SIGTERM an interrupt in the block, so that what is half-written is removed as after Ctrl-C."""
    if threading.current_thread() is not threading.main_thread() or signal.getsignal(signal.SIGTERM) != signal.SIG_DFL:
        yield  # somebody else handles it
        return
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt
