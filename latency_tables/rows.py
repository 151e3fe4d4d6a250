"""Measured networks on disk: a CSV that only grows, so that a calibration cut short goes on where it was.

Rows are appended a batch at a time and synced. A line cut short by the end of a process is passed over.
"""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latency_tables.measurement import NOISY, OK, Floats, Measurement
from latency_tables.table import MEND
from nas.errors import FileFormatError
from nas.files import append_lines, read_bytes
from search_spaces import Genes

COLUMNS = (
    "role", "latency_ms", "ci_low_ms", "ci_high_ms", "raw_ms", "mean_ms", "reference_ms", "baseline_ms", "seconds",
    "rounds", "quality", "genes",
)  # fmt: skip
MOST = 1e7  # milliseconds, or seconds, of anything that was ever measured


@dataclass(frozen=True)
class MeasuredRow:
    """One network, once.

    ``role`` says what for; ``baseline_ms`` is the reference timing that drift is corrected to; ``seconds`` is what
    building and timing it took, an equal share of its batch.
    """

    role: str
    latency_ms: float
    ci_low_ms: float
    ci_high_ms: float
    raw_ms: float
    mean_ms: float
    reference_ms: float
    baseline_ms: float
    seconds: float
    rounds: int
    quality: str
    genes: tuple[int, ...]


def measured_row(
    role: str, genes: Genes | Sequence[int], measurement: Measurement, *, baseline_ms: float, seconds: float
) -> MeasuredRow:
    """Return the row of a measurement; the other arguments are as in the row."""
    shared = {
        name: getattr(measurement, name) for name in MeasuredRow.__dataclass_fields__ if hasattr(measurement, name)
    }
    own = tuple(map(int, genes))
    return MeasuredRow(role=role, genes=own, baseline_ms=baseline_ms, seconds=seconds, **shared)


def append_rows(path: Path, rows: Sequence[MeasuredRow]) -> None:
    """Append and sync; the header is written first where the file is new.

    Raises:
        OutputError: The system refuses; rows that are whole stay.
    """
    append_lines(path, ",".join(COLUMNS), [_line(row) for row in rows])


def _line(row: MeasuredRow) -> str:
    return ",".join([*(str(getattr(row, name)) for name in COLUMNS[:-1]), " ".join(map(str, row.genes))])


def read_rows(path: Path) -> list[MeasuredRow]:
    """Read what was appended, without an unfinished last line, which the next ``append_rows`` drops.

    Raises:
        FileFormatError: A whole line does not fit; the message says which.
    """
    if not os.path.exists(path):
        return []
    data = read_bytes(path)
    lines = data[: data.rfind(b"\n") + 1].decode("utf-8", errors="replace").splitlines()
    if not lines:
        return []
    if tuple(lines[0].split(",")) != COLUMNS:
        raise FileFormatError(f"{path}: columns {lines[0]!r}; allowed: {','.join(COLUMNS)}; {MEND}")
    return [_row(path, number, line) for number, line in enumerate(lines[1:], start=2)]


def _row(path: Path, number: int, line: str) -> MeasuredRow:
    try:
        fields = dict(zip(COLUMNS, line.split(","), strict=True))
        numbers = {name: float(fields[name]) for name in COLUMNS[1:9]}
        if wrong := [name for name, value in numbers.items() if not 0 < value <= MOST]:
            raise ValueError(f"{wrong[0]} is {numbers[wrong[0]]:g}; allowed: above 0, at most {MOST:g}")
        if fields["quality"] not in (OK, NOISY):
            raise ValueError(f"quality is {fields['quality']!r}; allowed: {OK}, {NOISY}")
        genes, rounds = tuple(map(int, fields["genes"].split())), int(fields["rounds"])
        if rounds < 1:
            raise ValueError(f"{rounds} rounds; allowed: 1 or more")
        return MeasuredRow(fields["role"], **numbers, rounds=rounds, quality=fields["quality"], genes=genes)
    except ValueError as error:
        raise FileFormatError(f"{path}: line {number} does not fit ({error}); {MEND}") from error


def genes_of(rows: Sequence[MeasuredRow]) -> Genes:
    """Return the rows' genes ``(n, num_genes)``."""
    return np.array([row.genes for row in rows], np.int8)


def quiet_rows(rows: Sequence[MeasuredRow], fewest: int) -> list[MeasuredRow]:
    """Return those that are not noisy; all of them where those are less than half, or than ``fewest``."""
    quiet = [row for row in rows if row.quality == OK]
    return quiet if len(quiet) >= max(fewest, len(rows) / 2) else list(rows)


def latencies_of(rows: Sequence[MeasuredRow]) -> Floats:
    """Return the rows' drift-corrected milliseconds ``(n,)``."""
    return np.array([row.latency_ms for row in rows], np.float64)
