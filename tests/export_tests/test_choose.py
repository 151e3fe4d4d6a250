"""Which points form a front, which is its knee, and which are worth verifying."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.export.choose import below_limit, best_within, front_of, knee_of, spread_over

CURVE = np.linspace(0.1, 1.0, 40)
TOP = 0.9 + 0.05 * np.log1p(20 * CURVE)


def test_the_front_is_fastest_first_and_holds_no_dominated_point() -> None:
    assert front_of([0.3, 0.1, 0.2, 0.25], [0.95, 0.90, 0.93, 0.92]).tolist() == [1, 2, 0]


@given(st.lists(st.tuples(st.integers(1, 9), st.integers(1, 9)), min_size=1, max_size=12))
def test_nothing_dominates_the_front_and_the_front_covers_everything(points: list[tuple[int, int]]) -> None:
    latency, top = (np.array(values, float) for values in zip(*points, strict=True))
    front = front_of(latency, top)
    for i in front:
        assert not ((latency <= latency[i]) & (top >= top[i]) & ((latency < latency[i]) | (top > top[i]))).any()
    for i in range(len(points)):
        assert ((latency[front] <= latency[i]) & (top[front] >= top[i])).any()


def test_the_knee_is_where_the_curve_bends() -> None:
    assert knee_of([0.1, 0.2, 0.3, 1.0], [0.90, 0.94, 0.945, 0.95]) == 1


@pytest.mark.parametrize("points", [1, 2])
def test_a_front_without_a_bend_recommends_its_most_accurate(points: int) -> None:
    assert knee_of(CURVE[:points], TOP[:points]) == points - 1


def test_within_a_limit_the_most_accurate_is_best_and_then_the_fastest() -> None:
    assert best_within([0.1, 0.2, 0.15, 0.3], [0.9, 0.93, 0.93, 0.95], 0.2) == 2
    assert best_within([0.1, 0.2], [0.9, 0.93], 0.05) is None


def test_finalists_spread_over_the_front_with_both_ends() -> None:
    chosen = spread_over(CURVE, TOP, 8)
    assert len(set(chosen)) == 8 and chosen[0] == 0 and chosen[-1] == 39
    steps = np.diff(TOP[chosen])
    assert steps.max() < 3 * steps.min()


def test_a_short_front_is_taken_whole() -> None:
    assert spread_over(CURVE[:3], TOP[:3], 8).tolist() == [0, 1, 2]


def test_under_a_limit_finalists_are_close_below_it() -> None:
    chosen = below_limit(CURVE, TOP, 0.7, 5)
    assert len(set(chosen)) == 5
    assert (CURVE[chosen] <= 0.7).all() and (CURVE[chosen] > 0.5).all()


@pytest.mark.parametrize("count", [50, 64])
def test_as_many_finalists_as_are_asked_for(count: int) -> None:
    latency = np.linspace(0.69, 1.0, 200)
    chosen = below_limit(latency, np.sqrt(latency), 1.0, count)
    assert len(set(chosen)) == count and chosen[-1] == 199


def test_where_nothing_is_far_below_the_limit_what_is_close_fills_up() -> None:
    assert below_limit([0.98, 0.99, 1.0, 1.1], [0.1, 0.2, 0.3, 0.4], 1.0, 3).tolist() == [0, 1, 2]
    assert below_limit([1.1], [0.4], 1.0, 3).tolist() == []
