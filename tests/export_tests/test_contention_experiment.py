"""The experiment under background load: its plan, its load, and what it makes of the lines."""

import importlib.util
import time
from itertools import pairwise
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nas.files import write_csv


@pytest.fixture
def run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module."""
    folder = repository / "experiments" / "contention"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("contention_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "contention_experiment", module)
    spec.loader.exec_module(module)
    return module


def test_loads_begin_with_none_change_each_time_and_fill_the_run(run: ModuleType) -> None:
    plan = run.phases(100.0, 4, np.random.default_rng(0))
    loads = [phase.load for phase in plan]
    assert loads[0] == 0 and plan[-1].until == 100 and set(loads) <= set(range(5)) and len(set(loads)) > 2
    assert all(a != b for a, b in pairwise(loads))


@pytest.mark.slow
def test_the_load_works_as_many_processes_as_it_is_told_and_leaves_none(run: ModuleType) -> None:
    with run.Load(1) as load:
        [process] = load._processes
        seconds = Path(f"/proc/{process.pid}/stat")
        if not seconds.exists():
            pytest.skip("no /proc here")

        def used() -> int:
            return sum(map(int, seconds.read_text().rpartition(")")[2].split()[11:13]))

        time.sleep(2)
        load.set(1)
        idle = used()
        time.sleep(2)
        assert used() - idle > 20  # hundredths of a second
    assert not process.is_alive()


def test_the_report_counts_what_is_right_and_in_time(run: ModuleType, tmp_path: Path) -> None:
    lines = [
        (second, 2, arm, "net", ms, correct)
        for second in range(10)
        for arm, ms, correct in (("switcher", 9, 0.8), ("slow", 20 if second else 9, 1.0), ("fast", 5, 0.5))
    ]
    write_csv(tmp_path / "results.csv", run.COLUMNS, lines)
    run.write_report(tmp_path, 10.0, "switcher")
    text = (tmp_path / "README.md").read_text()
    assert "| switcher | 100.0 % | 80.0 % | 80.0 % |" in text and "| fixed slow | 10.0 % | 100.0 % | 10.0 % |" in text
    assert "keeps +30.0 points beside the best fixed network, fast" in text and (tmp_path / "contention.png").exists()
