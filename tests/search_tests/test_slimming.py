"""Slimming: the walk from the largest network, and where it ends."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from tiny_families import tiny_metaformer
from tiny_training import noise_training

from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nas.errors import UsageError
from nas.search import Problem, search
from nas.search.slimming import Slimming
from nas.search.testing import ToySpace, toy_problem

SPACE = ToySpace(blocks=6, choices=3)


def walk(problem: Problem, asks: int = 200) -> Slimming:
    strategy = Slimming(problem, 600, np.random.default_rng(0))
    for _ in range(asks):
        genes = strategy.ask(600)
        if not len(strategy._open):
            break
        strategy.tell(genes, problem.score(genes))
    return strategy


def test_each_step_loses_the_least_accuracy_for_its_latency_until_the_limit() -> None:
    problem = toy_problem(SPACE, objectives={"accuracy": "max"}, constraints={"latency_ms": (None, 2.0)})
    taken = walk(problem).taken
    np.testing.assert_array_equal(taken[0], problem.training.actions(np.random.default_rng(0)).starts()[0])
    scores = problem.score(taken)
    assert (scores["latency_ms"][:-1] > 2.0).all() and scores["latency_ms"][-1] <= 2.0
    for before, after in pairwise(taken):
        made = problem.training.actions(np.random.default_rng(0)).smaller(before)
        now, there = problem.score(before[None]), problem.score(made)
        gains = now["latency_ms"] - there["latency_ms"]
        losses = np.where(gains > 0, (now["accuracy"] - there["accuracy"]) / gains, np.inf)
        np.testing.assert_array_equal(made[losses.argmin()], after)


def test_without_a_limit_it_walks_on_to_where_nothing_gains() -> None:
    problem = toy_problem(SPACE)
    latencies = problem.score(walk(problem).taken)["latency_ms"]
    assert (np.diff(latencies) < 0).all() and latencies[-1] < 0.25 * latencies[0]


def test_a_metaformer_is_slimmed_to_the_limit() -> None:
    space = tiny_metaformer()
    costs = NetworkCosts(space, Images(1, 3))

    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        macs = costs.predict(genes, "macs_m")
        return {"accuracy": np.log(macs), "latency_ms": macs}

    limit = 0.3 * float(evaluate(space.largest()[None])["latency_ms"][0])
    training = noise_training(space, evaluate)
    problem = Problem(space, {"accuracy": "max"}, {"latency_ms": (None, limit)}, evaluate, training=training)
    found = search(problem, "slimming", budget=60).best()
    assert 0.5 * limit < found.scores["latency_ms"] <= limit


def test_scores_alone_are_refused() -> None:
    problem = replace(toy_problem(SPACE), training=None)
    with pytest.raises(UsageError, match=r"^strategy 'slimming' trains while it searches, and this problem "):
        Slimming(problem, 10, np.random.default_rng(0))
