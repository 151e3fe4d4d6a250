"""Reads published CSV files, gzipped or not, column by column, and names the file and line of what does not fit."""

import csv
import gzip
import io
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from nas.errors import FileFormatError
from nas.files import MAX_BYTES, is_file, read_bytes
from nasbench.benchmark import Floats


@dataclass(frozen=True)
class Columns:
    """A file's columns as text, each ``(n,)``; ``path`` is named in errors."""

    path: Path
    columns: dict[str, tuple[str, ...]]

    def text(self, name: str) -> tuple[str, ...]:
        """Return a column as it is written: digits that spell a network must not become a number."""
        if name not in self.columns:
            raise FileFormatError(f"{self.path}: no column {name!r}; it has {', '.join(self.columns)}")
        return self.columns[name]

    def numbers(self, name: str) -> Floats:
        """Return a column as numbers ``(n,)``, all finite."""
        found = self.text(name)
        try:
            values = np.array(found, np.float64)
        except ValueError as error:
            raise FileFormatError(f"{self.path}: column {name!r}: {error}; allowed: numbers") from error
        if not np.isfinite(values).all():
            line = int(np.argmin(np.isfinite(values))) + 2
            raise FileFormatError(f"{self.path}: line {line}, column {name!r}: {found[line - 2]}; allowed: finite")
        return values


def read_columns(path: Path) -> Columns:
    """Read a CSV, gzipped if its name ends in ``.gz``, whose first line names its columns.

    Raises:
        FileFormatError: It is missing or damaged, or has no rows.
    """
    try:
        lines = list(csv.reader(io.StringIO(unzipped(path).decode()), strict=True))
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path}: not a CSV file ({error})") from error
    head, rows = (lines[0], lines[1:]) if lines else ([], [])
    for number, row in enumerate(rows, start=2):
        if len(row) != len(head):
            raise FileFormatError(f"{path}: line {number} has {len(row)} fields; allowed: {len(head)}")
    if not rows:
        raise FileFormatError(f"{path}: no rows; fetch it again")
    return Columns(path, dict(zip(head, zip(*rows, strict=True), strict=True)))


def unzipped(path: Path) -> bytes:
    """Read a file, unzipped if it ends in ``.gz``, at most ``MAX_BYTES`` of it.

    Raises:
        FileFormatError: It is missing, damaged or too large.
    """
    data = read_bytes(path)
    if path.suffix != ".gz":
        return data
    try:
        with gzip.GzipFile(fileobj=io.BytesIO(data)) as file:
            content = file.read(MAX_BYTES + 1)
    except (OSError, EOFError, zlib.error) as error:
        raise FileFormatError(f"{path}: not a whole gzip file ({error}); fetch it again") from error
    if len(content) > MAX_BYTES:
        raise FileFormatError(f"{path}: more than {MAX_BYTES} bytes unzipped; allowed: at most those")
    return content


def find(folder: Path, names: Sequence[str], source: str) -> Path:
    """Return the first of ``names`` that is in ``folder``, or in a folder of it.

    Raises:
        FileFormatError: None is; the message says where they come from.
    """
    for name in names:
        for path in (folder / name, *sorted(folder.glob(f"*/{name}"))):
            if is_file(path):
                return path
    raise FileFormatError(f"{folder}: no {' or '.join(names)} in it or in its folders; {source}")
