"""The experiment "searched for A, run on B": what its matrix compares, and that it goes on where it was stopped."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from tiny_job import Invented, make_tiny

from latency_tables import FULL
from latency_tables.simulated import CostModel, SimulatedDevice
from nas.errors import DeviceError, UsageError
from nas.export import Scorer
from search_spaces import Candidate, SearchSpace

QUICK = replace(FULL, values=1, min_rounds=3, max_rounds=3, warm_seconds=0.01)
DEAR = CostModel(mac_int8_ns=0.5, quantize_element_ns=3.0)
OWN_MS = {"pays": 0.03, "costs": 0.05, "floats": 0.04}
INT8 = {"pays": -0.004, "costs": 0.02, "floats": 0.0}  # milliseconds that a block in int8 adds, as predicted


def devices() -> list[SimulatedDevice]:
    floats = SimulatedDevice("floats", precisions=("fp32",))
    return [SimulatedDevice("pays"), SimulatedDevice("costs", costs=DEAR), floats]


def scorer(job: object, space: SearchSpace, *_: object) -> Scorer:
    accuracy = Invented(space, 0.5, 0.04, -0.01)  # type: ignore[arg-type]
    return Scorer(accuracy, Invented(space, 0.02, 0.01, INT8[job.device.name]), {})  # type: ignore[arg-type, attr-defined]


@pytest.fixture
def run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    folder = repository / "experiments" / "devices"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("devices_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "devices_experiment", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "load_scorer", scorer)
    return module


@pytest.mark.slow
def test_the_matrix_is_of_measured_latencies_and_is_made_once(run: ModuleType, tmp_path: Path) -> None:
    tiny, out = make_tiny(tmp_path), tmp_path / "out"
    options = {"supernet": str(tiny.supernet), "data": str(tiny.images), "budget": 500, "plan": QUICK}
    run.Experiment(out, devices(), **options).run(2)
    cells = json.loads((out / "result.json").read_text())["cells"]
    assert len(cells) == len(run.SHARES) * 4 * 3 and (out / "matrix.png").exists()
    for cell in cells:
        assert len(cell["latency_ms"]) == 2 and 0 <= cell["accuracy"] <= 1
        if cell["searched_for"] == cell["run_on"]:
            assert cell["ratio"] == [1.0, 1.0]
    there = [cell for cell in cells if cell["searched_for"] == "pays" and cell["run_on"] == "costs"]
    assert max(cell["ratio"][0] for cell in there) > 1.05  # int8 that pays on one does not on the other
    assert "| pays | 1.00 [1.00, 1.00] |" in (out / "matrix.md").read_text()
    networks = json.loads((out / "chosen.json").read_text())["networks"]
    used = {
        (run_on, name): {part for one in levels.values() for part in Candidate.from_dict(one[name]).precisions}
        for run_on, levels in networks.items()
        for name in next(iter(levels.values()))
    }
    assert all(parts == {"fp32"} for (run_on, name), parts in used.items() if "floats" in (run_on, name))
    assert all(used[name, run.SHARED] == {"fp32"} for name in networks) and "int8" in used["pays", "pays"]
    before = {path: path.stat().st_mtime_ns for path in out.glob("rounds/*")}
    again = run.Experiment(out, devices(), **options)
    again.run(3)
    assert {path: path.stat().st_mtime_ns for path in out.glob("rounds/*") if path in before} == before
    [first] = out.glob("rounds/0-pays.json")
    first.write_text(first.read_text().replace(again.devices["pays"].fingerprint, "another"))
    with pytest.raises(
        DeviceError, match=r"0-pays.json: of the device another; device 'pays' is .*; name another folder"
    ):
        again.run(1)
    with pytest.raises(UsageError, match=r"chosen.json: of .*'budget': 500.*not of .*'budget': 7.*another folder"):
        run.Experiment(out, devices(), **{**options, "budget": 7}).run(1)


def test_the_spread_is_of_rounds_and_the_ratio_of_levels(run: ModuleType) -> None:
    from devices_report import cells_of, spread_of

    ids = {"b": {"90": {"a": "x", "b": "y"}, "92": {"a": "z", "b": "y"}}}
    taken = ((2, 1, 8), (9, 3, 3))
    rounds = [{key: {"latency_ms": ms} for key, ms in zip("xyz", values, strict=True)} for values in taken]
    cells = cells_of(ids, {"b": {key: {"accuracy": 0.9} for key in "xyz"}}, {"b": rounds})
    assert spread_of(cells, "a", "b") == pytest.approx(((4 + 3**0.5) / 2, 3**0.5, 4))
    assert spread_of(cells, "b", "b") == (1, 1, 1)


def test_one_for_all_has_the_least_largest_ratio_of_its_accuracy(run: ModuleType, tmp_path: Path) -> None:
    space = make_tiny(tmp_path).space
    scorers = {device.name: scorer(SimpleNamespace(device=device), space) for device in devices()}
    job = SimpleNamespace(budget=3000, seed=0)
    settings = {name: SimpleNamespace(space=space, scorer=one, job=job) for name, one in scorers.items()}
    found = space.genes(run.one_for_all(settings, OWN_MS, 0.6))[None]
    pool = space.sample(5000, np.random.default_rng(0))
    pool = pool[scorers["pays"].accuracy.predict(pool).mean >= 0.6]

    def largest(rows: np.ndarray) -> np.ndarray:
        return np.max([scorers[name].latency.predict(rows).mean / ms for name, ms in OWN_MS.items()], axis=0)

    assert scorers["pays"].accuracy.predict(found).mean[0] >= 0.6
    assert largest(found)[0] <= largest(pool).min()
