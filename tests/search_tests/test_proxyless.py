"""ProxylessNAS: the two rules, the expected latency, the network it comes to, and what it refuses."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_families import tiny_bottleneck
from tiny_space import tiny_space
from tiny_training import noise_training

from nas.errors import UsageError
from nas.search import Problem, get_strategy
from nas.search.cost import cost_of
from nas.search.proxyless import Proxyless, ProxylessReinforce, expected_cost
from nas.search.testing import ToySpace, toy_problem
from nas.search.training import Schedule

SPACE = ToySpace(blocks=8, choices=3)
ONE = {"accuracy": "max"}
LIMIT = {"latency_ms": (None, 4.6)}


def strategy_of(kind: type[Proxyless], steps: int, number: int = 0, constraints: dict | None = None) -> Proxyless:
    toy = toy_problem(SPACE, number, ONE, constraints)
    schedule = Schedule(warmup=4, steps=steps, every=1, learning_rate=0.1)
    return kind(replace(toy, training=replace(toy.training, schedule=schedule)), 100, np.random.default_rng(0))


def run(strategy: Proxyless) -> np.ndarray:
    """Let it train to its end and return the accuracy and latency of the network it comes to."""
    while len(strategy.ask(100)) and strategy._steps < 4 + strategy._paths.schedule.steps:
        pass
    scores = strategy._paths.costs(strategy.derived()[None])
    return np.array([scores["accuracy"][0], scores["latency_ms"][0]])


@pytest.mark.parametrize("kind", [Proxyless, ProxylessReinforce])
def test_it_comes_to_better_networks_than_random_ones_of_that_latency(kind: type[Proxyless]) -> None:
    ranks = []
    for number in range(3):
        scores = toy_problem(SPACE, number).score(SPACE.everything())
        limit = float(np.median(scores["latency_ms"]))
        accuracy, latency = run(strategy_of(kind, 250, number, constraints={"latency_ms": (None, limit)}))
        assert 0.95 * limit < latency <= limit
        near = (scores["latency_ms"] > 0.95 * limit) & (scores["latency_ms"] <= limit)
        ranks.append((scores["accuracy"][near] < accuracy).mean())
    assert np.mean(ranks) > 0.7


def test_the_expected_latency_comes_to_the_one_wanted() -> None:
    strategy = strategy_of(Proxyless, 250, constraints=LIMIT)
    run(strategy)
    costs = strategy._paths.costs(strategy._paths.genes(strategy._draw(2000)))["latency_ms"]
    assert costs.mean() == pytest.approx(4.6, rel=0.15)


def test_without_a_cost_the_gradient_goes_to_the_most_accurate_network() -> None:
    accuracy, _ = run(strategy_of(Proxyless, 250))
    assert accuracy > np.quantile(toy_problem(SPACE).score(SPACE.everything())["accuracy"], 0.95)


def test_the_two_drawn_paths_stay_as_probable_together_as_they_were() -> None:
    strategy = strategy_of(Proxyless, 40)
    for _ in range(5):
        before, pairs = strategy.probabilities(), []
        draw = strategy._pair
        strategy._pair = lambda alpha, draw=draw, pairs=pairs: pairs.append(draw(alpha)) or pairs[-1]  # type: ignore[method-assign,func-returns-value]
        strategy._step_architecture()
        strategy._pair = draw  # type: ignore[method-assign]
        moved = 0
        for old, new, pair in zip(before, strategy.probabilities(), pairs, strict=True):
            assert new[pair.numpy()].sum() == pytest.approx(old[pair.numpy()].sum(), rel=1e-5)
            moved += not np.allclose(old, new)
        assert moved


def test_the_expected_latency_of_an_additive_table_is_the_sum_over_it() -> None:
    """Enumerated: the derivative by a probability is the mean latency of the networks with that option."""
    space = ToySpace(blocks=3, choices=2)
    problem = toy_problem(space)
    paths = problem.training.paths()
    rng, count = np.random.default_rng(0), 20_000
    picks = np.stack([rng.integers(options, size=count) for options in paths.counts], axis=1)
    cost = cost_of(problem, paths.costs, rng)
    mean, coefficients = expected_cost(cost, paths, picks)
    grid = np.indices(paths.counts).reshape(len(paths.counts), -1).T
    values = cost.of(paths.genes(grid))
    assert mean == pytest.approx(values.mean(), rel=0.01)
    for choice, found in enumerate(coefficients):
        exact = [values[grid[:, choice] == option].mean() for option in range(paths.counts[choice])]
        np.testing.assert_allclose(found, exact, rtol=0.01)


@pytest.mark.parametrize(
    ("objectives", "constraints", "name", "target"),
    [
        (ONE, {}, None, None),
        (ONE, LIMIT, "latency_ms", 4.6),
        ({**ONE, "latency_ms": "min"}, {"accuracy": (0.5, None)}, "latency_ms", "median"),
    ],
)
def test_what_is_to_be_low_is_the_upper_bound_or_the_median(objectives, constraints, name, target) -> None:  # type: ignore[no-untyped-def]
    problem = toy_problem(SPACE, objectives=objectives, constraints=constraints)
    cost = cost_of(problem, problem.evaluate, np.random.default_rng(0))
    assert (cost and cost.name) == name
    if target == "median":
        values = problem.score(SPACE.sample(4000, np.random.default_rng(1)))[name]
        assert cost.target == pytest.approx(np.median(values), rel=0.1)
    elif cost:
        assert cost.target == target


def test_the_weights_that_it_is_given_stay_as_they_are_and_its_own_move() -> None:
    space = tiny_space()
    training = noise_training(space, lambda genes: {"latency_ms": space.part_codes(genes).sum(axis=1) + 1.0})
    before = {name: tensor.clone() for name, tensor in training.supernet.state_dict().items()}
    strategy = Proxyless(Problem(space, ONE, {}, training.costs, training=training), 4, np.random.default_rng(0))
    strategy.ask(4)
    assert all(before[name].equal(tensor) for name, tensor in training.supernet.state_dict().items())
    assert not all(
        mine.equal(theirs)
        for mine, theirs in zip(strategy._paths.parameters(), training.supernet.parameters(), strict=True)
    )


def test_networks_are_in_the_precision_in_which_random_ones_are_fastest() -> None:
    space = tiny_space()
    training = noise_training(space, lambda genes: {"latency_ms": 2.0 - genes[:, 1]})
    rows = Proxyless(Problem(space, ONE, {}, training.costs, training=training), 4, np.random.default_rng(0)).ask(1)
    assert set(space.candidate(rows[0]).precisions) == {"int8"}


def test_a_training_is_not_longer_than_some_passes_over_few_images() -> None:
    schedule = Schedule(warmup=2000, steps=4000, every=5, learning_rate=0.05, batch_size=64)
    assert schedule.within(10**6) == schedule
    assert schedule.within(640).warmup + schedule.within(640).steps == 200
    assert schedule.within(1).steps == 5


@pytest.mark.parametrize("name", ["proxyless", "proxyless:reinforce"])
def test_scores_alone_are_refused(name: str) -> None:
    problem = replace(toy_problem(SPACE), training=None)
    with pytest.raises(UsageError, match=rf"^strategy '{name}' trains while it searches, and this problem has scores "):
        get_strategy(name)(problem, 10, np.random.default_rng(0))


def test_a_family_without_paths_is_refused() -> None:
    space = tiny_bottleneck()
    training = noise_training(space, lambda genes: {"latency_ms": np.ones(len(genes))})
    with pytest.raises(UsageError, match="on 'tiny-bottleneck', whose family is 'bottleneck'; allowed: mbconv; name"):
        training.paths()
