"""The experiment on published tables: what it measures is right, and every method ends in the tables."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from shared_data import shared_data


@pytest.fixture
def run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module; its results go into a temporary folder, its budgets are small."""
    folder = repository / "experiments" / "search"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("search_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, "search_experiment", module)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "BUDGETS", (10, 30))
    return module


def test_nothing_is_missing_of_everything_and_much_of_one_cell(run: ModuleType) -> None:
    from tabular import CellSpace, Tables

    rng = np.random.default_rng(0)
    tables = Tables(rng.random(15_625), rng.uniform(1, 20, 15_625))
    everything = np.stack(np.unravel_index(np.arange(15_625), [5] * 6), axis=1).astype(np.int8)
    np.testing.assert_array_equal(tables.evaluate(everything)["accuracy"], tables.accuracy)
    assert run.regret(tables, everything) == 0 and run.missing_volume(tables, everything) == 0
    worst = everything[[tables.accuracy.argmin()]]
    assert run.missing_volume(tables, worst) > 50
    space = CellSpace()
    assert len(np.unique(space.sample(200_000, rng), axis=0)) == space.size == 15_625


def test_every_method_ends_in_the_tables(run: ModuleType, tmp_path: Path) -> None:
    data = shared_data("nasbench201").parent
    peers = ["Optuna nsgaii"]
    if importlib.util.find_spec("pymoo"):
        peers.append("pymoo NSGA-II")
    methods = ["evolution", "aging", "local", "linas", "random", *peers]
    run.main(["--data", str(data), "--seeds", "1", "--methods", ",".join(methods)])
    report = (tmp_path / "README.md").read_text()
    assert all(report.count(f"| {method} | ") == 2 for method in methods) and (tmp_path / "queries.png").exists()
    assert len((tmp_path / "results.csv").read_text().splitlines()) == 1 + 2 * 2 * len(methods)
