"""Ctrl-C: one line that says what is kept, exit code 130."""

import contextlib
import sys
from collections.abc import Callable, Iterator

import typer


@contextlib.contextmanager
def kept_after_interrupt(kept: Callable[[], str]) -> Iterator[None]:
    """Turn an interrupt of the block into one line on standard error, "interrupted; " and what ``kept`` says."""
    try:
        yield
    except KeyboardInterrupt:
        print(f"interrupted; {kept()}", file=sys.stderr)
        raise typer.Exit(130) from None
