"""Maximum entropy: accuracy steers nothing, limits hold, and a space that says nothing of its layers is refused."""

import numpy as np
import pytest

from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nas.errors import UsageError
from nas.search import Problem, search
from nas.search.entropy import entropy_of
from nas.search.testing import ToySpace, toy_problem
from search_spaces import get_space


def test_what_accuracy_is_told_changes_nothing() -> None:
    problem = toy_problem(ToySpace(), constraints={"latency_ms": (None, 2.0)})

    def other(genes: np.ndarray) -> dict[str, np.ndarray]:
        return {**problem.evaluate(genes), "accuracy": genes[:, 0].astype(float)}

    again = Problem(problem.space, problem.objectives, problem.constraints, other)
    first, second = (search(one, "entropy", 300).history.genes for one in (problem, again))
    np.testing.assert_array_equal(first, second)


def test_it_finds_more_entropy_within_limits_of_macs_and_size_than_uniform_sampling() -> None:
    space = get_space("fashion-mbv3")
    costs = NetworkCosts(space, Images(1, 10))

    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        return {
            "accuracy": np.zeros(len(genes)),
            **{name: costs.predict(genes, name) for name in ("macs_m", "size_mb")},
        }

    limits = {"macs_m": (None, 8.0), "size_mb": (None, 0.6)}
    problem = Problem(space, {"accuracy": "max"}, limits, evaluate)
    most = {}
    for strategy in ("entropy", "random"):
        history = search(problem, strategy, 2000).history
        most[strategy] = entropy_of(space)(history.genes[problem.violations(history.scores) == 0]).max()
    assert most["entropy"] > most["random"] + 10


def test_a_space_that_says_nothing_of_its_layers_is_refused() -> None:
    class Opaque(ToySpace):
        entropy = None

    with pytest.raises(UsageError, match="space 'toy' says nothing of its layers; allowed: a SearchSpace, or a space"):
        search(toy_problem(Opaque()), "entropy", 10)
