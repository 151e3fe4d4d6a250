"""What commands print: tables that a terminal shows nicely and a pipe gets as plain columns, and JSON."""

import contextlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from typing import Any


def mend_streams() -> None:
    """Make standard output and error fit to print on: what they lack becomes ``?``, a closed one takes all."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))  # noqa: SIM115 - for as long as the process
        with contextlib.suppress(AttributeError):  # not a real stream
            getattr(sys, name).reconfigure(errors="replace")


def close_output() -> None:
    """Forget what standard output could not be told, so that Python does not try again when it ends."""
    with contextlib.suppress(OSError, ValueError):  # not a real stream
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def print_json(content: Mapping[str, Any] | Sequence[Any]) -> None:
    """Print one JSON document on standard output."""
    print(json.dumps(content, indent=1, allow_nan=False))


def print_table(columns: Sequence[str], rows: Sequence[Sequence[str]], *, title: str = "", numbers: str = "") -> None:
    """Print a table on standard output.

    Args:
        columns: Their heads.
        rows: One text a column.
        title: A line above it.
        numbers: One character a column, ``r`` for those aligned to the right; the rest to the left.
    """
    aligned = numbers.ljust(len(columns))
    if sys.stdout.isatty():
        _print_rich(columns, rows, title, aligned)
        return
    if title:
        print(title)
    widths = [max(len(line[i]) for line in (columns, *rows)) for i in range(len(columns))]
    for line in (columns, *rows):
        cells = [
            cell.rjust(width) if side == "r" else cell.ljust(width)
            for cell, width, side in zip(line, widths, aligned, strict=True)
        ]
        print("  ".join(cells).rstrip())


def _print_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], title: str, aligned: str) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(
        title=title or None, title_justify="left", box=box.SIMPLE_HEAD, header_style="bold", padding=(0, 1, 0, 0)
    )
    for number, (name, side) in enumerate(zip(columns, aligned, strict=True), start=1):
        wraps = number == len(columns) and side != "r"  # a last column of prose gives way to the others
        table.add_column(name, justify="right" if side == "r" else "left", no_wrap=not wraps)
    for row in rows:
        chosen = row[0].startswith("→")
        table.add_row(*(Text(cell) for cell in row), style="bold green" if chosen else None)
    Console().print(table)
