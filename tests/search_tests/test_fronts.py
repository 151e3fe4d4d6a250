"""Sorting, crowding, hypervolume and knee, against their definitions."""

from itertools import combinations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from nas.search.fronts import crowding, hypervolume, knee, non_dominated, non_dominated_ranks

# Few distinct values, so that ties and repeated rows are common.
grid = hnp.arrays(
    np.float64,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=30).filter(lambda s: s[1] <= 4),
    elements=st.integers(-3, 6).map(float),
)
reals = hnp.arrays(np.float64, st.tuples(st.integers(1, 40), st.integers(1, 4)), elements=st.floats(-1e6, 1e6))
losses_of_any_kind = st.one_of(grid, reals)


def dominates(a: np.ndarray, b: np.ndarray) -> bool:
    return bool((a <= b).all() and (a < b).any())


def ranks_by_definition(losses: np.ndarray) -> np.ndarray:
    ranks = np.full(len(losses), -1)
    rank = 0
    while (ranks < 0).any():
        left = np.flatnonzero(ranks < 0)
        ranks[[i for i in left if not any(dominates(losses[j], losses[i]) for j in left)]] = rank
        rank += 1
    return ranks


@given(losses_of_any_kind)
def test_ranks_are_those_of_the_definition(losses: np.ndarray) -> None:
    np.testing.assert_array_equal(non_dominated_ranks(losses), ranks_by_definition(losses))


@given(losses_of_any_kind)
def test_the_front_is_that_of_the_definition(losses: np.ndarray) -> None:
    np.testing.assert_array_equal(non_dominated(losses), ranks_by_definition(losses) == 0)


@given(losses_of_any_kind, st.integers(1, 40))
def test_sorting_may_stop_once_enough_rows_are_ranked(losses: np.ndarray, enough: int) -> None:
    ranks, full = non_dominated_ranks(losses, enough), ranks_by_definition(losses)
    last = np.sort(full)[:enough][-1]
    np.testing.assert_array_equal(ranks[full <= last], full[full <= last])
    assert (ranks[full > last] > last).all()


@pytest.mark.parametrize("objectives", [1, 2, 3])
@pytest.mark.parametrize("n", [0, 1])
def test_none_and_one_row_are_sorted_too(n: int, objectives: int) -> None:
    losses = np.zeros((n, objectives))
    assert non_dominated_ranks(losses).tolist() == [0] * n
    assert non_dominated(losses).tolist() == [True] * n
    assert crowding(losses, np.zeros(n, np.int64)).tolist() == [np.inf] * n


@pytest.mark.parametrize("objectives", [2, 3])
def test_large_arrays_are_sorted_the_same_way_by_parts(objectives: int) -> None:
    losses = np.random.default_rng(0).integers(0, 60, (1_500, objectives)).astype(float)
    ranks = non_dominated_ranks(losses)
    np.testing.assert_array_equal(non_dominated(losses), ranks == 0)
    for rank in range(1, ranks.max() + 1):
        above, here = losses[ranks == rank - 1], losses[ranks == rank]
        dominated = (above[:, None] <= here).all(axis=2) & (above[:, None] < here).any(axis=2)
        assert dominated.any(axis=0).all() and non_dominated(here).all()


def test_thousands_of_fronts_are_sorted_too() -> None:
    chain = np.random.default_rng(0).permutation(5_000).astype(float)
    np.testing.assert_array_equal(non_dominated_ranks(np.stack([chain, chain], axis=1)), chain)


@given(losses_of_any_kind, st.randoms(use_true_random=False))
def test_sorting_depends_neither_on_the_order_of_rows_nor_on_scale(losses: np.ndarray, random) -> None:
    order = np.array(random.sample(range(len(losses)), len(losses)))
    np.testing.assert_array_equal(non_dominated_ranks(losses[order]), non_dominated_ranks(losses)[order])
    np.testing.assert_array_equal(non_dominated_ranks(losses * 2), non_dominated_ranks(losses))
    np.testing.assert_array_equal(non_dominated_ranks(losses[:, ::-1]), non_dominated_ranks(losses))


@given(losses_of_any_kind)
def test_the_ends_of_each_front_are_infinitely_uncrowded(losses: np.ndarray) -> None:
    ranks = non_dominated_ranks(losses)
    distance = crowding(losses, ranks)
    for rank in np.unique(ranks):
        on = ranks == rank
        for column in losses[on].T:
            assert np.isinf(distance[on][column == column.min()]).any()
            assert np.isinf(distance[on][column == column.max()]).any()


@pytest.mark.parametrize("objectives", [2, 3])
def test_crowding_is_the_sum_of_the_scaled_gaps_between_neighbours(objectives: int) -> None:
    rng = np.random.default_rng(1)
    losses = rng.random((60, objectives))
    ranks = non_dominated_ranks(losses)
    distance = crowding(losses, ranks)
    for row in range(len(losses)):
        front = losses[ranks == ranks[row]]
        expected = 0.0
        for value, column in zip(losses[row], front.T, strict=True):
            below, above = column[column < value], column[column > value]
            inside = len(below) and len(above)
            expected += (above.min() - below.max()) / np.ptp(column) if inside else np.inf
        assert distance[row] == pytest.approx(expected)


def volume_by_inclusion_and_exclusion(losses: np.ndarray, reference: np.ndarray) -> float:
    total = 0.0
    for size in range(1, len(losses) + 1):
        for rows in combinations(losses, size):
            total += (-1) ** (size + 1) * np.prod(np.maximum(reference - np.max(rows, axis=0), 0))
    return float(total)


@given(hnp.arrays(np.float64, st.tuples(st.integers(1, 6), st.integers(1, 4)), elements=st.integers(0, 8).map(float)))
def test_hypervolume_is_the_volume_of_the_union_of_boxes(losses: np.ndarray) -> None:
    reference = np.full(losses.shape[1], 7.0)
    assert hypervolume(losses, reference) == pytest.approx(volume_by_inclusion_and_exclusion(losses, reference))


@given(losses_of_any_kind, st.data())
def test_hypervolume_never_falls_when_a_row_joins_and_stays_when_it_is_dominated(losses: np.ndarray, data) -> None:
    reference = losses.max(axis=0) + 1
    before = hypervolume(losses, reference)
    joining = losses[data.draw(st.integers(0, len(losses) - 1))]
    assert hypervolume(np.vstack([losses, joining + 0.5]), reference) == pytest.approx(before)
    assert hypervolume(np.vstack([losses, joining - 0.5]), reference) >= before * (1 - 1e-12)


def test_hypervolume_of_nothing_below_the_reference_is_zero() -> None:
    assert hypervolume(np.array([[2.0, 0.0], [0.0, 1.0]]), np.array([1.0, 1.0])) == 0.0
    assert hypervolume(np.empty((0, 3)), np.ones(3)) == 0.0


def test_the_knee_bulges_most_towards_the_best() -> None:
    front = np.array([[0.0, 100.0], [1.0, 30.0], [4.0, 20.0], [10.0, 0.0]])
    assert knee(front) == 1
    assert knee(front[::-1]) == 2
    assert knee(front * [1e-3, 1e5] + [5, -7]) == 1


@pytest.mark.parametrize(
    ("front", "expected"),
    [
        ([[1.0, 1.0]], 0),
        ([[3.0, 1.0], [1.0, 2.0]], 1),
        ([[0.0, 1.0], [0.9, 0.9], [1.0, 0.0]], 0),
        ([[2.0, 2.0], [2.0, 2.0]], 0),
    ],
)
def test_a_front_without_a_bulge_has_its_knee_at_the_first_objectives_best(front: list, expected: int) -> None:
    assert knee(np.array(front)) == expected
