"""The searches find what they are for, on invented accuracies, in few attempts."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import product
from types import SimpleNamespace

import numpy as np
import pytest
from small_classifier import small_classifier

from nas.compression import HOST, Ranges, activation_ranges
from nas.compression.clado import project_psd, solve_program
from nas.compression.islands import (
    IslandLatency,
    boundary_features,
    fastest_within,
    fit_islands,
    layer_features,
    sample_masks,
)
from nas.compression.layers import Layer, LayeredGraph, Mask
from nas.compression.mixed import MixedPlan, MixedResult, search_mixed
from nas.compression.mixed_search import Question, bisection, clado, greedy, local_search, mixed_strategy
from nas.compression.order import plain_order
from nas.compression.paired import Difference
from nas.compression.timing import Reports
from nas.compression.trials import Attempts, Target, Trials
from nas.errors import InfeasibleError, UsageError

LAYERS = 24


class Invented(Trials):
    """Trials whose accuracy is a function of the configuration."""

    accuracy: Callable[[Mask], float]

    def correct(self, mask: Mask) -> np.ndarray:
        return np.arange(1000) < round(1000 * self.accuracy(mask))


def question(accuracy: Callable[[Mask], float], *, gains: np.ndarray | None = None, budget: int = 200) -> Question:
    """Return a chain of layers whose sensitivities grow with their places."""
    layers = tuple(Layer(f"l{i}", "Conv", f"w{i}", 10, 100, False) for i in range(LAYERS))
    graph = LayeredGraph(small_classifier().graph.model, layers, ())
    none = np.zeros(0)
    trials = Invented(graph, Ranges({}), HOST, none, none, lambda session: none, (True,) * LAYERS)
    trials.accuracy = accuracy
    target = Target(np.arange(1000) < 900, 0.01)
    gains = np.ones(LAYERS) if gains is None else gains
    order = plain_order(np.arange(1.0, LAYERS + 1), trials.possible)
    latency = IslandLatency(graph, 100.0, gains, np.zeros(4), 0.0)
    return Question(order, latency, Attempts(trials, target, budget), np.diag(np.arange(1.0, LAYERS + 1)))


def found(asked: Question) -> set[int]:
    """Return how many int8 layers the accepted configurations have."""
    return {sum(one.mask) for one in asked.attempts.history if one.meets}


@pytest.mark.parametrize("longest", [0, 1, 11, 17, 23, 24])
def test_bisection_finds_the_longest_prefix_and_asks_seldom(longest: int) -> None:
    asked = question(lambda mask: 0.9 if not any(mask[longest:]) else 0.5)
    bisection(asked)
    stages = [one.stage for one in asked.attempts.history]
    assert max(found(asked), default=0) == longest
    assert stages.count("bisection") <= 6 and stages.count("probe") <= 3
    slow = question(asked.attempts.trials.accuracy)  # type: ignore[attr-defined]
    greedy(slow)
    assert max(found(slow), default=0) == longest and len(slow.attempts.history) == LAYERS


def test_a_probe_passes_over_a_dip() -> None:
    asked = question(lambda mask: 0.5 if sum(mask) == 15 or sum(mask) > 17 else 0.9, gains=np.zeros(LAYERS))
    bisection(asked)
    assert max(found(asked)) == 17 and "probe" in {one.stage for one in asked.attempts.history if one.meets}


def test_local_search_swaps_what_saves_little_for_what_saves_much() -> None:
    gains = np.ones(LAYERS)
    gains[20] = 5.0
    asked = question(lambda mask: 0.9 if sum(mask) <= 10 else 0.5, gains=gains)
    local_search(asked, asked.order.prefix(10))
    best = min((one for one in asked.attempts.history if one.meets), key=lambda one: asked.latency.predict(one.mask))
    assert best.mask[20] and sum(best.mask) == 10


def test_layers_that_are_slower_in_int8_are_taken_out_again() -> None:
    gains = np.ones(LAYERS)
    gains[3] = -1.0
    asked = question(lambda mask: 0.9, gains=gains)
    bisection(asked)
    best = min(asked.attempts.history, key=lambda one: asked.latency.predict(one.mask))
    assert not best.mask[3] and sum(best.mask) == LAYERS - 1


def test_attempts_are_counted_once_and_end_with_their_budget() -> None:
    asked = question(lambda mask: 0.9 if sum(mask) < 12 else 0.5, budget=5)
    bisection(asked)
    assert len(asked.attempts.history) == 5 and asked.attempts.left == 0
    assert asked.attempts.meets(asked.attempts.history[0].mask, "again") == asked.attempts.history[0].meets
    assert not asked.attempts.meets((True,) * 1 + (False,) * (LAYERS - 1), "no more")
    assert asked.attempts.meets((False,) * LAYERS, "fp32")


def test_a_target_can_ask_for_the_whole_interval() -> None:
    change = Difference(-0.004, -0.02, 0.01)
    target = Target(np.ones(100, bool), 0.005)
    assert target.met_by(change) and not replace(target, confident=True).met_by(change)


def test_clado_bisects_the_latency_that_its_program_saves() -> None:
    asked = question(lambda mask: 0.9 if not any(mask[10:]) else 0.5)
    clado(asked)
    assert found(asked) and max(found(asked)) == 10 and len(asked.attempts.history) <= 8


def test_an_unknown_strategy_is_named() -> None:
    with pytest.raises(UsageError, match=r"unknown strategy 'bisect'; there is: bisection, clado, greedy"):
        mixed_strategy("bisect")


def test_the_program_is_solved_as_well_as_trying_everything() -> None:
    rng = np.random.default_rng(0)
    ratios = []
    for _ in range(8):
        factor = rng.normal(size=(9, 9))
        losses, gains = 0.1 * factor @ factor.T + np.diag(rng.random(9)), rng.random(9)
        needed = gains.sum() * rng.uniform(0.2, 0.9)
        quadratic = losses / 2
        np.fill_diagonal(quadratic, losses.diagonal())
        quadratic = project_psd(quadratic)
        everything = (np.array(x) for x in product((0.0, 1.0), repeat=9))
        best = min(x @ quadratic @ x for x in everything if gains @ x >= needed)
        x = solve_program(losses, gains, needed).astype(float)
        assert gains @ x >= needed
        ratios.append((x @ quadratic @ x) / best)
    assert np.median(ratios) == pytest.approx(1) and max(ratios) < 1.1


def test_the_program_takes_all_that_helps_where_even_that_is_too_little() -> None:
    assert solve_program(np.eye(3), np.array([1.0, -1.0, 2.0]), 9.0).tolist() == [True, False, True]


def test_projection_gives_the_nearest_semidefinite_matrix() -> None:
    assert project_psd(np.diag([2.0, -1.0])) == pytest.approx(np.diag([2.0, 0.0]))


def test_islands_are_priced_by_their_boundaries() -> None:
    graph = small_classifier().graph
    assert boundary_features(graph, (False,) * 6).tolist() == [0, 0, 0, 0]
    assert boundary_features(graph, (True,) * 6).tolist() == [1, 144, 0, 0]  # the images
    one = boundary_features(graph, (False, True, False, False, False, False))
    assert one.tolist() == [1, 16 * 36, 1, 32 * 36]


def test_the_latency_model_finds_the_prices_that_made_the_latencies() -> None:
    graph = small_classifier().graph
    layers, rng = layer_features(graph), np.random.default_rng(0)
    prices, boundary = -rng.random(6) / layers.max(axis=0).clip(min=1), rng.random(4) * [1, 1e-3, 1, 1e-3]
    masks = sample_masks(graph, (True,) * 6, rng)
    assert masks[0] == (False,) * 6 and masks[1] == (True,) * 6 and len(set(masks)) == len(masks)

    def true(mask: Mask) -> float:
        return float(10 + layers[np.array(mask)].sum(axis=0) @ prices + boundary_features(graph, mask) @ boundary)

    latency = fit_islands(graph, masks, [true(mask) for mask in masks])
    assert latency.error < 0.02
    for mask in product((False, True), repeat=6):
        assert latency.predict(mask) == pytest.approx(true(mask), rel=0.03)


def test_layers_that_do_not_pay_for_their_boundaries_are_left_out() -> None:
    graph = small_classifier().graph
    gains = np.array([0.5, 3.0, 3.0, 0.1, 0.5, -1.5])
    cheap = IslandLatency(graph, 10.0, gains, np.zeros(4), 0.0)
    assert fastest_within(cheap, (True,) * 6) == (True, True, True, True, True, False)
    assert fastest_within(cheap, (True, False, True, False, False, True)) == (True, False, True, False, False, False)
    dear = IslandLatency(graph, 10.0, gains, np.array([1.0, 0, 1.0, 0]), 0.0)
    assert fastest_within(dear, (True,) * 6) == min(
        product((False, True), repeat=6), key=lambda mask: (dear.predict(mask), sum(mask))
    )
    hopeless = IslandLatency(graph, 10.0, -np.ones(6), np.zeros(4), 0.0)
    assert not any(fastest_within(hopeless, (True,) * 6))


def test_layers_that_do_not_run_in_integers_are_in_no_sample() -> None:
    able = (True, False, True, True, True, True)
    assert not any(mask[1] for mask in sample_masks(small_classifier().graph, able, np.random.default_rng(0)))


def searched(boundary: float, notes: list[str], monkeypatch: pytest.MonkeyPatch) -> MixedResult:
    """Search where whatever is int8 is inaccurate, and each boundary costs so much beside a gain of 1 a layer."""
    small = small_classifier()
    images, labels = small.images[:16].numpy(), small.labels[:16].numpy()
    ranges = activation_ranges(small.graph.model, images)
    trials = Invented(small.graph, ranges, HOST, images, labels, lambda session: np.zeros(0), (True,) * 6)
    trials.accuracy = lambda mask: 0.5 if any(mask) else 0.9
    latency = IslandLatency(small.graph, 10.0, np.ones(6), np.array([boundary, 0, boundary, 0]), 0.0)
    monkeypatch.setattr("nas.compression.mixed.fit_latency", lambda *given: latency)
    timing = SimpleNamespace(latency_ms=1.0, ci_low_ms=1.0, ci_high_ms=1.0, quality="ok")

    def measure(models: Mapping[str, bytes]) -> Mapping[str, SimpleNamespace]:
        return dict.fromkeys(models, timing)

    plan = MixedPlan(sensitivity="measured", augmented=False)
    return search_mixed(
        trials, 0.01, measure, reference=small.network, plan=plan, reports=Reports(note=notes.append)
    )  # fmt: skip


def test_fp32_is_kept_where_what_would_be_accurate_enough_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    notes: list[str] = []
    found = searched(2.0, notes, monkeypatch)
    assert not any(found.chosen.mask) and found.attempts and min(sum(one.mask) for one in found.attempts) > 1
    assert "with 6 of 6 layers in int8; fewer layers do not pay or were not tried: fp32 is kept" in notes[-1]


def test_a_target_that_not_one_layer_meets_is_an_error_that_says_the_best_tried(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    message = (
        r"no int8 configuration keeps 99 % of fp32's accuracy on 1000 images, of \d+ tried; the best tried keeps "
        r"55.56 % with \d of 6 layers in int8: allow a larger drop or give more images"
    )
    with pytest.raises(InfeasibleError, match=message):
        searched(0.0, [], monkeypatch)
