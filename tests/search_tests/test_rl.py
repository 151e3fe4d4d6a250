"""Reinforcement learning: MnasNet's reward, what the controller believes, and that it learns."""

import numpy as np
import pytest
import torch

from nas.search import Problem, search
from nas.search.controller import Controller
from nas.search.reward import SOFT, rewards
from nas.search.testing import ToySpace, toy_problem

SPACE = ToySpace()
SCORES = {"accuracy": np.array([0.8, 0.8, 0.8]), "latency_ms": np.array([1.0, 2.0, 4.0])}


def reward(objectives: dict[str, str], constraints: dict[str, tuple[float | None, float | None]]) -> np.ndarray:
    return rewards(toy_problem(SPACE, objectives=objectives, constraints=constraints), SCORES)


def test_an_objective_is_traded_at_five_per_cent_for_each_doubling() -> None:
    worth = reward({"accuracy": "max", "latency_ms": "min"}, {})
    np.testing.assert_allclose(worth, 0.8 * SCORES["latency_ms"] ** SOFT)
    np.testing.assert_allclose(worth[:-1] / worth[1:], 1.05, atol=1e-3)


def test_a_limit_costs_nothing_below_and_is_hard_above() -> None:
    hard = 0.8 * np.array([1, 1, (4.0 / 2.0) ** -1])
    np.testing.assert_allclose(reward({"accuracy": "max"}, {"latency_ms": (None, 2.0)}), hard)
    np.testing.assert_allclose(reward({"accuracy": "max", "latency_ms": "min"}, {"latency_ms": (None, 2.0)}), hard)


def test_the_first_objective_counts_even_where_it_is_limited_and_no_score_ends_in_nan() -> None:
    worth = reward({"latency_ms": "min"}, {"latency_ms": (None, 9.0)})
    assert (np.diff(worth) < 0).all()
    scores = {"accuracy": np.array([-1.0, 0.0]), "latency_ms": np.array([0.0, 1.0])}
    assert (rewards(toy_problem(SPACE), scores) > 0).all()


def test_the_controller_draws_what_it_believes() -> None:
    generator = torch.Generator().manual_seed(0)
    controller = Controller([2, 3], generator)
    with torch.no_grad():
        controller.heads *= 30  # far from uniform
        every = torch.tensor([(a, b) for a in range(2) for b in range(3)])
        believed = controller.believe(every).chosen.sum(1).exp()
    drawn = controller.sample(20_000, generator)
    seen = torch.bincount(3 * drawn[:, 0] + drawn[:, 1], minlength=6) / len(drawn)
    assert believed.sum().item() == pytest.approx(1)
    assert believed.max() > 0.25
    torch.testing.assert_close(seen, believed, atol=0.015, rtol=0)


def test_the_controller_comes_to_draw_what_is_rewarded() -> None:
    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        return {"accuracy": (genes[:, 1:] == 2).mean(axis=1)}  # the deepest chain of one kind is the best

    problem = Problem(ToySpace(blocks=16, choices=4), {"accuracy": "max"}, {}, evaluate)
    learnt = search(problem, "rl", 1000).history.scores["accuracy"]
    assert learnt[-100:].mean() > 2 * learnt[:100].mean()
    assert learnt.max() > search(problem, "random", 1000).history.scores["accuracy"].max()
