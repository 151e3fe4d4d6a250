"""The enumerated part of a space holds each of its networks once, and a search of it stays inside."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from nas.search import Problem, search


@pytest.fixture
def run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module, with few genes free."""
    folder = repository / "experiments" / "brute_force"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("brute_force_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "FREE", ("resolution", "depth_0", "depth_1", "block_0_0.kernel", "block_0_3.kernel"))
    monkeypatch.setattr(module, "BUDGET", 200)
    return module


def test_everything_is_there_once_and_nothing_else_is_searched(run: ModuleType) -> None:
    part = run.part_of("fashion-mbv3", ["fp32"])
    everything = np.concatenate(list(part.everything()))
    with_last_block = 1 * 3 + 2  # of three depths, one has the block whose kernel is free
    assert part.size == len(np.unique(everything, axis=0)) == 3 * 3 * 3 * with_last_block
    np.testing.assert_array_equal(everything, part.canonical(everything))
    known = {row.tobytes() for row in everything}
    rng = np.random.default_rng(0)
    drawn = part.sample(3_000, rng)
    changed = part.mutate(part.crossover(drawn, drawn[::-1], rng), rng, 0.1)
    assert {row.tobytes() for row in drawn} == known and {row.tobytes() for row in changed} <= known


def test_ranks_are_counted_from_the_best_there_is(run: ModuleType) -> None:
    part = run.part_of("fashion-mbv3", ["fp32"])
    weights = np.random.default_rng(0).random(part.num_genes)

    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        return {"accuracy": genes @ weights, "latency_ms": 1.0 + genes.sum(axis=1)}

    problem = Problem(part, {"accuracy": "max", "latency_ms": "min"}, {}, evaluate)
    truth, size = run.enumerate_all(part, problem)
    assert size == part.size
    limit = float(np.median(truth["latency_ms"]))
    for line in run.lines_of(problem, [limit], truth, 0):
        name, _, _, best, found, rank, _ = line
        assert float(best) == pytest.approx(truth["accuracy"][truth["latency_ms"] <= limit].max())
        assert (rank == 1) == (float(found) == pytest.approx(float(best))) and name in ("whole front", "one objective")
    assert search(problem, budget=10_000).exhausted
