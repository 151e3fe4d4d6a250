"""What every search strategy owes its user. A new strategy is one more line in STRATEGIES."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_training import noise_training

from nas.errors import InfeasibleError
from nas.search import Problem, get_strategy, list_strategies, search
from nas.search.journal import CHECKED
from nas.search.strategy import STRATEGIES as REGISTERED
from nas.search.testing import ToySpace, toy_problem
from search_spaces import get_space

STRATEGIES = {  # to how many candidates a test may ask of it; below SLOW, the tests of it are slow ones
    "evolution": 600,
    "random": 600,
    "aging": 600,
    "local": 600,
    "linas": 100,
    "rl": 200,
    "entropy": 600,
    "proxyless": 600,
    "proxyless:reinforce": 600,
    "slimming": 600,
    "optuna:nsgaii": 100,
    "optuna:nsgaiii": 100,
    "optuna:tpe": 60,
    "optuna:gp": 20,
}
SLOW = 100

SPACE = ToySpace(blocks=8, choices=3)  # 9,840 networks
BOTH = {"accuracy": "max", "latency_ms": "min"}

every_strategy = pytest.mark.parametrize(
    "name", [pytest.param(name, marks=pytest.mark.slow if most < SLOW else ()) for name, most in STRATEGIES.items()]
)


def few(name: str, count: int) -> int:
    """Return ``count``, or as many as the strategy may be asked for."""
    return min(count, STRATEGIES[name])


def test_every_registered_strategy_is_held_to_the_contract() -> None:
    assert list(list_strategies()) == list(STRATEGIES)


@every_strategy
def test_it_says_in_one_line_what_it_is_for_and_what_it_costs(name: str) -> None:
    summary = list_strategies()[name]
    assert summary and "\n" not in summary and len(summary) < 80
    assert REGISTERED.entries[name].cost


@every_strategy
def test_it_asks_for_canonical_rows_no_more_than_wanted_and_none_twice(name: str) -> None:
    problem = toy_problem(SPACE)
    strategy = get_strategy(name)(problem, 500, np.random.default_rng(0))
    asked = []
    for n in (1, 7, few(name, 100), few(name, 392)):
        genes = strategy.ask(n)
        assert 1 <= len(genes) <= n
        assert genes.dtype == np.int8 and genes.shape[1] == SPACE.num_genes
        np.testing.assert_array_equal(genes, SPACE.canonical(genes))
        strategy.tell(genes, problem.score(genes))
        asked.append(genes)
    everything = np.concatenate(asked)
    assert len(np.unique(everything, axis=0)) == len(everything)


@every_strategy
def test_what_it_returned_and_was_told_stays_as_it_was(name: str) -> None:
    problem = toy_problem(SPACE)
    strategy = get_strategy(name)(problem, 300, np.random.default_rng(0))
    kept = []
    for _ in range(3):
        genes = strategy.ask(few(name, 60))
        scores = problem.score(genes)
        kept.append((genes, genes.copy(), scores, {key: values.copy() for key, values in scores.items()}))
        strategy.tell(genes, scores)
    for genes, genes_before, scores, scores_before in kept:
        np.testing.assert_array_equal(genes, genes_before)
        for key, values in scores_before.items():
            np.testing.assert_array_equal(scores[key], values)


@every_strategy
@pytest.mark.parametrize("budget", [1, 2, 37, 600])
def test_it_spends_the_budget_exactly(name: str, budget: int) -> None:
    budget = few(name, budget)
    result = search(toy_problem(SPACE), name, budget=budget)
    assert result.evaluated == budget and not result.exhausted
    assert len(np.unique(result.history.genes, axis=0)) == budget


@every_strategy
def test_a_small_budget_is_scored_in_several_batches(name: str) -> None:
    batches: list[int] = []
    search(toy_problem(SPACE), name, budget=few(name, 200), progress=lambda evaluated, front: batches.append(evaluated))
    assert len(batches) >= 8


@every_strategy
def test_a_small_space_is_searched_to_its_last_network_and_no_further(name: str) -> None:
    space = ToySpace(blocks=3, choices=3)
    result = search(toy_problem(space), name, budget=100_000)
    assert result.exhausted and result.evaluated == space.size == 39


@every_strategy
def test_a_space_whose_size_is_overstated_still_comes_to_an_end(name: str) -> None:
    class Boastful(ToySpace):
        @property
        def size(self) -> int:
            return 10**9

    space = Boastful(blocks=3, choices=2)
    result = search(toy_problem(space), name, budget=100_000)
    assert result.exhausted and result.evaluated == 14


@every_strategy
def test_the_same_seed_gives_the_same_search_and_another_seed_another(name: str) -> None:
    problem = toy_problem(SPACE)
    first, again, other = (search(problem, name, budget=few(name, 400), seed=seed) for seed in (3, 3, 4))
    np.testing.assert_array_equal(first.history.genes, again.history.genes)
    np.testing.assert_array_equal(first.front.genes, again.front.genes)
    assert not np.array_equal(first.history.genes, other.history.genes)


@every_strategy
@pytest.mark.parametrize(
    ("objectives", "constraints"),
    [
        ({"accuracy": "max"}, {}),
        ({"accuracy": "max"}, {"latency_ms": (None, 3.0)}),
        ({"latency_ms": "min"}, {"accuracy": (0.7, None)}),
        (BOTH, {"latency_ms": (2.0, 3.5), "accuracy": (0.6, None)}),
        ({**BOTH, "size_mb": "min"}, {}),
    ],
)
def test_the_front_is_what_the_definition_says(name: str, objectives: dict, constraints: dict) -> None:
    plain = toy_problem(SPACE)

    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        return {**plain.evaluate(genes), "size_mb": genes[:, 1:].sum(axis=1).astype(float)}

    problem = Problem(SPACE, objectives, constraints, evaluate, training=replace(plain.training, evaluate=evaluate))
    result = search(problem, name, budget=few(name, 300))
    losses, violations = problem.losses(result.history.scores), problem.violations(result.history.scores)
    expected = {
        row.tobytes()
        for row, loss, violation in zip(result.history.genes, losses, violations, strict=True)
        if violation == 0
        and not any((other <= loss).all() and (other < loss).any() for other in losses[violations == 0])
    }
    assert {row.tobytes() for row in result.front.genes} == expected


@every_strategy
def test_an_impossible_constraint_ends_in_an_error_with_the_reachable_range(name: str) -> None:
    with pytest.raises(InfeasibleError, match=r"meets latency_ms ≤ 0\.1; reachable: latency_ms \d.* to \d"):
        search(toy_problem(SPACE, constraints={"latency_ms": (None, 0.1)}), name, budget=few(name, 500))


@every_strategy
@pytest.mark.parametrize("share", [0, 0.001, 0.4, 0.9])
def test_an_interrupted_search_goes_on_to_the_same_result(name: str, share: float, tmp_path: Path) -> None:
    problem, budget = toy_problem(SPACE), few(name, 400)
    stop_after = share * budget
    scored = 0

    def until_interrupted(genes: np.ndarray) -> dict[str, np.ndarray]:
        nonlocal scored
        if scored >= stop_after:
            raise KeyboardInterrupt
        scored += len(genes)
        return dict(problem.evaluate(genes))

    state = tmp_path / "state.npz"
    with pytest.raises(KeyboardInterrupt):
        search(replace(problem, evaluate=until_interrupted), name, budget=budget, seed=5, storage=state)
    calls = []

    def counted(genes: np.ndarray) -> dict[str, np.ndarray]:
        calls.append(len(genes))
        return dict(problem.evaluate(genes))

    resumed = search(replace(problem, evaluate=counted), name, budget=budget, seed=5, storage=state)
    undisturbed = search(problem, name, budget=budget, seed=5)
    assert budget - scored <= sum(calls) <= budget - scored + CHECKED  # of what is stored, the first few
    np.testing.assert_array_equal(resumed.history.genes, undisturbed.history.genes)
    np.testing.assert_array_equal(resumed.front.scores["accuracy"], undisturbed.front.scores["accuracy"])


@every_strategy
def test_it_searches_the_default_space(name: str) -> None:
    space = get_space("fashion-mbv3")

    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        codes = space.part_codes(genes)[:, 1:-1]
        return {"accuracy": codes.sum(axis=1) / 1e4, "latency_ms": (codes > 0).sum(axis=1) + 1.0}

    budget = few(name, 600)
    problem = Problem(space, BOTH, {}, evaluate, training=noise_training(space, evaluate))
    result = search(problem, name, budget=budget)
    np.testing.assert_array_equal(result.front.genes, space.canonical(result.front.genes))
    assert result.evaluated == budget
