"""The experiment on rewards: what sees latency is as accurate and no slower, and what is measured is measured once."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from shared_data import shared_data

from latency_tables.device import DEVICES
from nas.registry import Entry


@pytest.fixture
def folder(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = repository / "experiments" / "search" / "reward"
    monkeypatch.syspath_prepend(found)
    monkeypatch.syspath_prepend(repository)
    return found


@pytest.fixture
def run(folder: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("reward_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_sees_latency_is_as_accurate_and_no_slower(folder: Path) -> None:
    from pairs import find_blind, find_pair

    from experiments.search.tabular import CellSpace

    rng = np.random.default_rng(0)
    cost = rng.uniform(1, 5, (6, 5))

    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        latency = cost[np.arange(6), genes].sum(axis=1)
        return {"accuracy": 0.5 + genes.sum(axis=1) / 100, "macs_m": genes.sum(axis=1) + 1.0, "latency_ms": latency}

    space = CellSpace()
    rows = [find_blind(space, evaluate, 12.0, 200, seed) for seed in range(3)]
    pairs = [find_pair(space, evaluate, row, 200, seed) for seed, row in enumerate(rows)]
    for pair in pairs:
        assert pair.blind.scores["macs_m"] <= 12
        assert pair.aware.scores["accuracy"] >= pair.blind.scores["accuracy"]
        assert pair.aware.scores["latency_ms"] <= pair.blind.scores["latency_ms"]
    assert any(pair.aware.scores["latency_ms"] < pair.blind.scores["latency_ms"] for pair in pairs)


def test_multiply_adds_are_those_of_the_digits(run: ModuleType) -> None:
    macs = run.multiply_adds()
    assert macs[0] == 0 and macs[int("222222", 5)] == 6 and macs[int("300400", 5)] == 9


def test_it_prints_a_line_a_device(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    data = shared_data("help_latency").parent
    monkeypatch.setattr(run, "BUDGET", 60)
    monkeypatch.setattr(run, "LEVELS", (0.6,))
    run.main([str(data), "--seeds", "1", "--devices", "pixel3"])
    assert "\n| pixel3 | " in capsys.readouterr().out


@pytest.mark.slow
def test_what_was_measured_is_not_measured_again(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    import on_device

    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path))
    entry = Entry("latency_tables.simulated:SimulatedDevice", "for tests")
    monkeypatch.setitem(DEVICES.entries, "simulated", entry)
    monkeypatch.setattr(on_device, "BUDGET", 100)
    first = on_device.device_table("simulated", tmp_path / "searches.csv", 1)
    lines = (tmp_path / "searches.csv").read_text()
    assert first.count("\n") == 1 + 2 * len(on_device.MACS) and lines.count("\n") == first.count("\n")
    assert on_device.device_table("simulated", tmp_path / "searches.csv", 1) == first
    assert (tmp_path / "searches.csv").read_text() == lines
