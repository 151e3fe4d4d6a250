"""Measured networks are kept whatever happens to the process that measures."""

from dataclasses import replace
from pathlib import Path

import pytest

from latency_tables.rows import MeasuredRow, append_rows, genes_of, latencies_of, quiet_rows, read_rows
from nas.errors import FileFormatError, OutputError

ROW = MeasuredRow("spread", 0.5, 0.49, 0.51, 0.52, 0.6, 0.2, 0.19, 1.5, 5, "ok", (0, 1, 2))


def test_rows_come_back_in_order(tmp_path: Path) -> None:
    path = tmp_path / "new" / "networks.csv"
    assert read_rows(path) == []
    append_rows(path, [ROW])
    append_rows(path, [replace(ROW, role="random", quality="noisy"), replace(ROW, latency_ms=0.25)])
    rows = read_rows(path)
    assert [row.role for row in rows] == ["spread", "random", "spread"] and rows[0] == ROW
    assert genes_of(rows).shape == (3, 3) and latencies_of(rows).tolist() == [0.5, 0.5, 0.25]


@pytest.mark.parametrize("kept", [1, 40, 100])
def test_a_line_cut_short_is_dropped_and_writing_goes_on(tmp_path: Path, kept: int) -> None:
    path = tmp_path / "networks.csv"
    append_rows(path, [ROW, replace(ROW, role="random")])
    header, first, second = path.read_bytes().splitlines(keepends=True)
    whole = header + first + second
    path.write_bytes(whole[: len(header) + len(first) + min(kept, len(second) - 1)])
    torn = path.read_bytes()
    assert read_rows(path) == [ROW] and path.read_bytes() == torn
    append_rows(path, [replace(ROW, role="searched")])
    assert [row.role for row in read_rows(path)] == ["spread", "searched"]


def test_a_place_that_cannot_be_written_is_named() -> None:
    assert read_rows(Path("/proc/nope/networks.csv")) == []
    with pytest.raises(OutputError, match=r"networks\.csv: cannot be written"):
        append_rows(Path("/proc/nope/networks.csv"), [ROW])


def test_a_header_cut_short_is_an_empty_file(tmp_path: Path) -> None:
    path = tmp_path / "networks.csv"
    path.write_text("role,laten")
    assert read_rows(path) == []
    append_rows(path, [ROW])
    assert read_rows(path) == [ROW]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("role,", "rolle,", r"networks\.csv: columns 'rolle,.*; allowed: role,"),
        ("0.49", "-0.49", r"networks\.csv: line 2 does not fit \(ci_low_ms is -0.49; allowed: above 0, at"),
        ("0.49", "nan", r"line 2 does not fit"),
        ("0.49", "fast", r"line 2 does not fit .*fast.*delete its folder and run `nas calibrate` again"),
        (",ok,", ",", r"line 2 does not fit"),
    ],
)
def test_a_damaged_line_is_named(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "networks.csv"
    append_rows(path, [ROW])
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message):
        read_rows(path)


def test_noisy_rows_are_left_out_unless_most_are_noisy() -> None:
    quiet, noisy = ROW, replace(ROW, quality="noisy")
    assert quiet_rows([quiet, noisy], 1) == [quiet]
    assert quiet_rows([quiet, noisy], 2) == [quiet, noisy]
    assert quiet_rows([quiet, noisy, noisy], 1) == [quiet, noisy, noisy]
