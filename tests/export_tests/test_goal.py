"""Objectives and limits of a job: what is wrong use, what is infeasible, and that what is chosen is within them."""

from pathlib import Path

import numpy as np
import pytest
from tiny_job import Tiny, invented_scorer, make_tiny, tiny_job

from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nas.errors import InfeasibleError, UsageError
from nas.export import run_search
from nas.export.goal import Goal
from nas.export.result import read_result


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"objectives": ("accuracy", "latencyy")}, r"unknown objective 'latencyy'; there is: .*Did you mean 'latency'"),
        ({"objectives": ("size", "size")}, r"objectives size, size; allowed: one or more, none twice"),
        ({"objectives": ()}, r"objectives none; allowed: one or more"),
        ({"limits": {"size": 0.0}}, r"size budget 0\.0 MB; allowed: a number above 0"),
        ({"limits": {"macs": float("nan")}}, r"macs budget nan million; allowed: a number above 0"),
        ({"confident": True}, r"confident without a latency budget; name one with --latency, or leave out --confident"),
    ],
)
def test_what_is_no_goal_is_refused(arguments: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Goal(**arguments)


def test_every_figure_may_be_an_objective_or_a_limit(tiny: Tiny) -> None:
    goal = Goal(("accuracy", "size", "memory"), {"latency": 0.06, "macs": 0.4})
    problem, genes = goal.problem(tiny.space), tiny.space.sample(9, np.random.default_rng(0))
    costs = NetworkCosts(tiny.space, Images(1, 3))
    scores = goal.scores(genes, invented_scorer(tiny.space), costs)
    assert set(problem.names) == {"accuracy", "size_mb", "memory_mb", "latency_ms", "macs_m"} == set(scores)
    np.testing.assert_array_equal(scores["size_mb"], costs.predict(genes, "size_mb"))
    assert problem.objectives == {"accuracy": "max", "size_mb": "min", "memory_mb": "min"}


def test_a_confident_limit_is_on_the_upper_end(tiny: Tiny) -> None:
    goal = Goal(limits={"latency": 0.05}, confident=True)
    problem, genes = goal.problem(tiny.space), tiny.space.sample(50, np.random.default_rng(0))
    scores = goal.scores(genes, invented_scorer(tiny.space), NetworkCosts(tiny.space, Images(1, 3)))
    np.testing.assert_array_equal(problem.violations(scores) == 0, scores["latency_ms"] * 1.1 <= 0.05)


def test_what_is_chosen_is_within_every_budget_and_the_result_says_so(tiny: Tiny, tmp_path: Path) -> None:
    costs = NetworkCosts(tiny.space, Images(1, 3))
    sizes = costs.predict(tiny.space.sample(500, np.random.default_rng(0)), "size_mb")
    limit = float(np.quantile(sizes, 0.3))
    job = tiny_job(tiny, tmp_path / "out", limits={"size": limit}, objectives=("accuracy", "latency", "macs"))
    outcome = run_search(job, scorer=invented_scorer(tiny.space))
    assert outcome.chosen is not None and outcome.chosen.entry.counted["size_mb"] <= limit
    finalists = [one for one in outcome.verified if one.entry.role == "finalist"]
    assert all(one.entry.counted["size_mb"] <= limit for one in finalists)
    result = read_result(tmp_path / "out")
    assert result["limits"] == {"size": limit} and result["objectives"] == ["accuracy", "latency", "macs"]
    assert set(result["front"][0]["counted"]) == {"size_mb", "macs_m", "memory_mb"}


def test_a_budget_that_nothing_meets_says_what_is_reachable(tiny: Tiny, tmp_path: Path) -> None:
    costs = NetworkCosts(tiny.space, Images(1, 3))
    least = costs.predict(tiny.space.smallest("int8")[None], "size_mb")[0]
    job = tiny_job(tiny, tmp_path / "out", limits={"size": 1e-6})
    with pytest.raises(InfeasibleError, match=rf"meets size_mb ≤ 1e-06; reachable: size_mb {least:.4g} to \d"):
        run_search(job, scorer=invented_scorer(tiny.space))
