"""The default strategy: what it finds, and that every candidate scored has its chance."""

from dataclasses import replace

import numpy as np
import pytest

from nas.errors import InfeasibleError
from nas.search import Problem, search
from nas.search.evolution import CHILDREN, Evolution, constrained_ranks, population_size, survivors
from nas.search.testing import ToySpace, toy_problem, true_front
from search_spaces import get_space

SPACE = ToySpace(blocks=8, choices=3)  # 9,840 networks


def rows(genes: np.ndarray) -> set[bytes]:
    return {row.tobytes() for row in genes}


@pytest.mark.parametrize("seed", range(5))
def test_the_whole_front_of_a_small_space_is_found(seed: int) -> None:
    space = ToySpace(blocks=6, choices=3)  # 1,092 networks
    problem = toy_problem(space, seed)
    assert rows(search(problem, budget=2_000, seed=seed).front.genes) == rows(true_front(problem, space).genes)


def test_nine_tenths_of_the_front_are_found_in_a_third_of_the_space() -> None:
    recalls = []
    for seed in range(10):
        problem = toy_problem(SPACE, seed)
        truth = rows(true_front(problem, SPACE).genes)
        recalls.append(len(rows(search(problem, budget=SPACE.size // 3, seed=seed).front.genes) & truth) / len(truth))
    assert np.median(recalls) >= 0.9


def test_the_optimum_under_a_limit_is_found_in_a_third_of_the_space() -> None:
    found = []
    for seed in range(20):
        problem = toy_problem(SPACE, seed, {"accuracy": "max"}, {"latency_ms": (None, 2.5)})
        best = true_front(problem, SPACE).scores["accuracy"][0]
        found.append(search(problem, budget=SPACE.size // 3, seed=seed).best().scores["accuracy"] == best)
    assert np.mean(found) >= 0.95


def layered_problem() -> Problem:
    """A problem on the default space: additive worth and cost of each block's choice, with diminishing returns."""
    space, rng = get_space("fashion-mbv3"), np.random.default_rng(0)
    counts = [len(space.block_choices(block)) + 1 for block in range(space.num_blocks)]
    cost = [np.r_[0, rng.uniform(0.1, 1, count - 1)] for count in counts]
    worth = [values + np.r_[0, rng.normal(0.2, 0.2, len(values) - 1)] for values in cost]

    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        codes = space.part_codes(genes)[:, 1:-1]
        total = {
            name: sum(table[codes[:, b]] for b, table in enumerate(tables))
            for name, tables in (("worth", worth), ("cost", cost))
        }
        return {"accuracy": 1 - 0.2 * np.exp(-total["worth"] / 5), "latency_ms": total["cost"]}

    return Problem(space, {"accuracy": "max", "latency_ms": "min"}, {}, evaluate)


@pytest.mark.parametrize("budget", [200, 2_000, 20_000])
def test_on_the_default_space_it_beats_random_search(budget: int) -> None:
    problem = layered_problem()
    volumes = {
        name: [search(problem, name, budget, seed).hypervolume(accuracy=0.8, latency_ms=12.0) for seed in range(5)]
        for name in ("evolution", "random")
    }
    assert np.median(volumes["evolution"]) > np.median(volumes["random"])
    assert budget < 1_000 or min(volumes["evolution"]) > max(volumes["random"])


@pytest.mark.parametrize("child", range(10))
def test_every_scored_child_competes_crossed_or_mutated(child: int) -> None:
    """APQ's release scores crossed children and then forgets them; here any child can become the best parent."""
    problem = toy_problem(SPACE, objectives={"accuracy": "max"})
    strategy = Evolution(problem, 200, np.random.default_rng(1))
    first = strategy.ask(200)
    strategy.tell(first, {"accuracy": np.zeros(len(first))})
    children = strategy.ask(200)
    assert len(children) >= 10  # the first half is crossed, the second mutated
    strategy.tell(children, {"accuracy": np.eye(len(children))[child]})
    np.testing.assert_array_equal(strategy._genes[0], children[child])


def test_the_best_seen_is_never_lost() -> None:
    problem = toy_problem(SPACE, objectives={"accuracy": "max"})
    bests: list[float] = []
    search(problem, budget=1_000, progress=lambda evaluated, front: bests.append(front.scores["accuracy"][0]))
    assert bests == sorted(bests)


def test_feasible_comes_before_infeasible_and_less_violation_before_more() -> None:
    losses = np.array([[5.0, 5.0], [0.0, 0.0], [6.0, 6.0], [0.0, 1.0]])
    violations = np.array([0.0, 2.0, 0.0, 1.0])
    assert np.argsort(constrained_ranks(losses, violations, 4)).tolist() == [0, 2, 3, 1]
    assert survivors(losses, violations, 3).tolist() == [0, 2, 3]


@pytest.mark.parametrize(("low", "high"), [(None, 1.2), (4.0, None), (2.0, 2.05)])
def test_only_feasible_candidates_are_on_the_front(low: float | None, high: float | None) -> None:
    result = search(toy_problem(SPACE, constraints={"latency_ms": (low, high)}), budget=2_000)
    latency = result.front.scores["latency_ms"]
    assert len(latency) and (latency >= (low or 0)).all() and (latency <= (high or np.inf)).all()


def screened(problem: Problem) -> Problem:
    """The same problem, whose latencies may be looked at beforehand."""
    return replace(problem, screen=lambda genes: {"latency_ms": problem.evaluate(genes)["latency_ms"]})


def test_where_constraints_can_be_screened_what_meets_them_is_scored_and_more_is_found() -> None:
    problem = replace(layered_problem(), objectives={"accuracy": "max"}, constraints={"latency_ms": (None, 4.0)})
    shares, bests = [], []
    for seed in range(5):
        results = [search(one, budget=1_000, seed=seed) for one in (problem, screened(problem))]
        shares.append([np.mean(one.history.scores["latency_ms"] <= 4.0) for one in results])
        bests.append([one.best().scores["accuracy"] for one in results])
    assert all(other > 1.3 * plain for plain, other in shares)
    assert all(other > plain for plain, other in bests)


def test_a_screened_small_space_is_searched_to_its_last_feasible_network() -> None:
    space = ToySpace(blocks=4, choices=3)
    problem = toy_problem(space, 0, {"accuracy": "max"}, {"latency_ms": (None, 1.5)})
    everything = space.everything()
    feasible = everything[problem.evaluate(everything)["latency_ms"] <= 1.5]
    assert rows(feasible) <= rows(search(screened(problem), budget=10_000).history.genes)


def test_a_screened_limit_that_nothing_meets_ends_in_the_reachable_range() -> None:
    problem = toy_problem(SPACE, 0, {"accuracy": "max"}, {"latency_ms": (None, 0.1)})
    with pytest.raises(InfeasibleError, match=r"meets latency_ms ≤ 0\.1; reachable: latency_ms \d"):
        search(screened(problem), budget=300)


def test_a_budget_of_200_evolves_ten_generations_and_a_large_one_has_a_large_population() -> None:
    assert 200 / (CHILDREN * population_size(200)) >= 10
    assert 1_000 <= population_size(400_000) <= population_size(10**9) == 4_096
    assert population_size(1) >= 2
