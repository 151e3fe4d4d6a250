"""What every published benchmark owes its user. A new one is one more line in ``tiny_benchmarks``."""

from pathlib import Path

import numpy as np
import pytest
from shared_data import shared_data
from tiny_benchmarks import BENCHMARKS

from nas.errors import FileFormatError, UsageError
from nasbench import get_benchmark, list_benchmarks

REAL = {"nasbench201": 15_625, "help-nasbench201": 15_625, "help-fbnet": 5000, "help-ofa": 5000, "ofa-note10": 480}

every_benchmark = pytest.mark.parametrize("name", BENCHMARKS)


def test_every_registered_benchmark_is_held_to_the_contract() -> None:
    assert list(list_benchmarks()) == list(BENCHMARKS)
    assert all(summary and "\n" not in summary for summary in list_benchmarks().values())


def test_an_unknown_name_is_refused() -> None:
    with pytest.raises(UsageError, match=r"unknown benchmark 'nasbench-201'.*Did you mean 'nasbench201'"):
        get_benchmark("nasbench-201", ".")


@every_benchmark
def test_a_tiny_one_is_read_whole(name: str, tmp_path: Path) -> None:
    path = BENCHMARKS[name](tmp_path)
    found = get_benchmark(name, tmp_path)
    assert found.name == name and found.source == path
    assert len(found) == (2 if name in ("help-fbnet", "help-ofa") else 3)
    assert found.accuracy or found.latency_ms
    assert found.amounts.shape == (len(found), len(found.amount_names)) and found.amounts.sum() > 0
    for values in (*found.accuracy.values(), *found.latency_ms.values()):
        assert values.dtype == np.float64 and values.shape == (len(found),)


@every_benchmark
def test_files_may_lie_in_a_folder_of_the_folder(name: str, tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    BENCHMARKS[name](tmp_path / "inner")
    assert len(get_benchmark(name, tmp_path)) >= 2


@every_benchmark
def test_without_its_files_one_line_says_where_they_come_from(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"^[^\n]*no [^\n]+ in it[^\n]+github\.com/[^\n]+$"):
        get_benchmark(name, tmp_path)


@every_benchmark
def test_a_damaged_file_is_named(name: str, tmp_path: Path) -> None:
    path = BENCHMARKS[name](tmp_path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(FileFormatError, match=rf"{path.name}[^\n]*(fetch it again)"):
        get_benchmark(name, tmp_path)


@pytest.mark.parametrize("name", REAL)
def test_the_published_one_is_read(name: str) -> None:
    found = get_benchmark(name, shared_data(""))
    assert len(found) == REAL[name]
