"""The experiment on new devices: no setting of the new device is known, and its tables say what was found."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from shared_data import shared_data

from nasbench import Benchmark
from predictors.few_shot import FewShot, Known, few_shot


@pytest.fixture(scope="module")
def run() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "experiments" / "few_shot" / "run.py"
    spec = importlib.util.spec_from_file_location("few_shot_experiment", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["few_shot_experiment"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def invented(devices: int = 4) -> Benchmark:
    rng = np.random.default_rng(0)
    amounts = np.column_stack([np.ones(200), rng.uniform(1, 9, (200, 2))])
    names = ("gpu_1", "gpu_32", "phone", "board_1")[:devices]
    latency = {name: amounts @ rng.uniform(0.1, 3, 3) for name in names}
    return Benchmark("invented", Path("x"), tuple(map(str, range(200))), {}, latency, amounts, ("n", "a", "b"))


def test_a_device_s_other_settings_are_not_known(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[set[str]] = []

    def watched(known: Known, ms: np.ndarray) -> FewShot:
        seen.append(set(known.sources))
        return few_shot(known, ms)

    assert run.kind("titan_rtx_64") == "titan_rtx" and run.kind("pixel3") == "pixel3"
    monkeypatch.setattr(run, "few_shot", watched)
    monkeypatch.setattr(run, "SEEDS", 1)
    list(run.results(invented(3), 20, tables=False))
    assert {frozenset(names) for names in seen if names} == {frozenset({"phone"}), frozenset({"gpu_1", "gpu_32"})}


@pytest.mark.parametrize("tables", [False, True])
def test_every_device_is_new_once_a_seed_and_has_its_row(
    run: ModuleType, tables: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(run, "SEEDS", 2)
    monkeypatch.setattr(run, "JUDGED", 100)
    found = list(run.results(invented(), 20, tables=tables))
    assert len(found) == 8 and all(one.errors.networks == 100 for one in found)
    rows = list(run.device_rows(found))
    assert [row.split(" | ")[0] for row in rows[2:]] == ["| gpu_1", "| gpu_32", "| phone", "| board_1", "| mean"]
    assert max(one.errors.mean for one in found) < 0.01  # without noise the table is exact


def test_settings_above_the_bound_are_counted_and_named(run: ModuleType) -> None:
    text = run.above({"phone (x)": 0.184, "gpu (x)": 0.08, "phone (y)": 0.0801})
    assert "2 of 3 settings are more than 8% off on average: phone (x) 18.4%, phone (y) 8.0%." in text
    assert "0 of 1 settings are more than 8% off on average: none." in run.above({"gpu (x)": 0.01})


@pytest.mark.slow
def test_a_published_one_is_predicted_within_the_bound(run: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "SEEDS", 1)
    monkeypatch.setattr(run, "BENCHMARKS", ("help-fbnet",))
    text = run.report(shared_data("help_latency"))
    summary = [row.split(" | ") for row in text.splitlines() if row.startswith("| help-fbnet | 20")]
    assert len(summary) == 2 and all(float(row[3].rstrip("%")) < 8 for row in summary)
