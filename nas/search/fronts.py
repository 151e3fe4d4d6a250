"""Non-dominated sorting, crowding, hypervolume and the knee of a front.

Everything here minimises: a *loss* array is ``(n, m)``, a row for a candidate, a column for an objective. One row
dominates another when it is nowhere worse and somewhere better; equal rows do not dominate each other.

Sorting and crowding are those of NSGA-II (Deb et al., 2002). Departures: for two objectives the fronts come from one
sort by the first objective and not from pairwise comparisons; sorting stops as soon as enough rows are ranked; and a
row at the end of a front is infinitely far from its neighbours in each objective of which it is an extreme.
"""

from bisect import bisect_right

import numpy as np
from numpy.typing import NDArray

Losses = NDArray[np.float64]

BLOCK = 256  # rows compared with the front at a time, for three objectives and more
NARROW = 16  # fronts of fewer rows than this are not worth a vectorised pass each


def non_dominated(losses: Losses) -> NDArray[np.bool_]:
    """Return which rows no other row dominates, ``(n,)``."""
    if losses.shape[1] == 1:
        return losses[:, 0] == losses[:, 0].min(initial=np.inf)
    mask = np.zeros(len(losses), bool)
    distinct, inverse = _distinct(losses)
    if losses.shape[1] == 2:
        mask[:] = _descents(distinct[:, 1])[inverse]
    else:
        mask[:] = _filter(distinct)[inverse]
    return mask


def non_dominated_ranks(losses: Losses, enough: int | None = None) -> NDArray[np.int64]:
    """Return the number of each row's front, ``(n,)``: 0 if non-dominated, 1 if only front 0 dominates it, and so on.

    Args:
        losses: ``(n, m)``.
        enough: Once this many rows are ranked, the rest share the next rank.
    """
    if len(losses) == 0:
        return np.zeros(0, np.int64)
    distinct, inverse = _distinct(losses)
    if losses.shape[1] == 1:
        return inverse
    enough = len(losses) if enough is None else enough
    weights = np.bincount(inverse)
    ranks = _ranks_of_two if losses.shape[1] == 2 else _ranks_of_many
    return ranks(distinct, weights, enough)[inverse]


def _distinct(losses: Losses) -> tuple[Losses, NDArray[np.int64]]:
    """Return the distinct rows in lexicographic order (only earlier ones dominate a row) and where each went."""
    order = np.lexsort(losses.T[::-1])
    ordered = losses[order]
    first = np.ones(len(losses), bool)
    changes = first[1:]
    changes[:] = False
    for column in ordered.T:
        changes |= column[1:] != column[:-1]
    inverse = np.empty(len(losses), np.int64)
    inverse[order] = np.cumsum(first) - 1
    return ordered[first], inverse


def _descents(second: NDArray[np.float64]) -> NDArray[np.bool_]:
    """Return which values are below every earlier one: the front, when rows are in the order of the first objective."""
    mask = np.ones(len(second), bool)
    np.less(second[1:], np.minimum.accumulate(second)[:-1], out=mask[1:])
    return mask


def _ranks_of_two(distinct: Losses, weights: NDArray[np.int64], enough: int) -> NDArray[np.int64]:
    """Peel front after front; when they become narrow, sort what is left in one pass."""
    ranks = np.empty(len(distinct), np.int64)
    left, second = np.arange(len(distinct)), distinct[:, 1].copy()
    rank = done = 0
    while len(left) and done < enough:
        front = _descents(second)
        if np.count_nonzero(front) < NARROW:
            ranks[left] = rank + _piles(second)
            return ranks
        ranks[left[front]] = rank
        done += int(weights[left[front]].sum())
        left, second = left[~front], second[~front]
        rank += 1
    ranks[left] = rank
    return ranks


def _piles(second: NDArray[np.float64]) -> NDArray[np.int64]:
    """Number the fronts by patience sorting (Fredman, 1975), O(n log n) however many fronts there are.

    The last row put on a front has its smallest second objective, and these minima ascend from front to front: a row
    belongs to the first front whose minimum is above its own value.
    """
    minima: list[float] = []
    ranks = []
    for value in second.tolist():
        front = bisect_right(minima, value)
        minima[front : front + 1] = [value]
        ranks.append(front)
    return np.array(ranks, np.int64)


def _nowhere_worse(a: Losses, b: Losses) -> NDArray[np.bool_]:
    """Return which rows of ``a`` are nowhere worse than which of ``b``, ``(len(a), len(b))``."""
    result = np.ones((len(a), len(b)), bool)
    for objective in range(a.shape[1]):
        result &= a[:, objective, None] <= b[None, :, objective]
    return result


def _ranks_of_many(distinct: Losses, weights: NDArray[np.int64], enough: int) -> NDArray[np.int64]:
    """Peel front after front by counting each row's dominators, as NSGA-II does: O(m n²) time and n² bytes."""
    ranks = np.full(len(distinct), -1)
    dominates = _nowhere_worse(distinct, distinct)
    np.fill_diagonal(dominates, False)
    dominators = dominates.sum(axis=0)
    rank = done = 0
    while done < enough and (ranks < 0).any():
        front = np.flatnonzero((dominators == 0) & (ranks < 0))
        ranks[front] = rank
        done += int(weights[front].sum())
        dominators -= dominates[front].sum(axis=0)
        rank += 1
    ranks[ranks < 0] = rank
    return ranks


def _filter(distinct: Losses) -> NDArray[np.bool_]:
    """Return which of the distinct, lexicographically ordered rows are non-dominated, block by block."""
    mask = np.zeros(len(distinct), bool)
    for start in range(0, len(distinct), BLOCK):
        block = np.arange(start, min(start + BLOCK, len(distinct)))
        block = block[~_nowhere_worse(distinct[mask], distinct[block]).any(axis=0)]
        within = _nowhere_worse(distinct[block], distinct[block])
        np.fill_diagonal(within, False)
        mask[block[~within.any(axis=0)]] = True
    return mask


def crowding(losses: Losses, ranks: NDArray[np.int64]) -> NDArray[np.float64]:
    """Return how far each row's neighbours on its own front are apart, ``(n,)``; infinite at the ends of a front.

    Args:
        losses: ``(n, m)``.
        ranks: ``(n,)``, the front of each row.
    """
    distance = np.zeros(len(losses))
    if len(losses) == 0:
        return distance
    order = np.lexsort((losses[:, 0], ranks))
    fronts = ranks[order]
    starts = np.flatnonzero(np.r_[True, fronts[1:] != fronts[:-1]])
    ends = np.r_[starts[1:], len(losses)] - 1
    for objective, column in enumerate(losses.T):
        if objective and losses.shape[1] > 2:  # the second of two is in order: on a front it falls as the first rises
            order = np.lexsort((column, ranks))
        values = column[order]
        gaps = np.zeros(len(losses))
        np.abs(values[2:] - values[:-2], out=gaps[1:-1])
        extent = np.repeat(np.abs(values[ends] - values[starts]), ends - starts + 1)
        np.divide(gaps, extent, out=gaps, where=extent > 0)
        gaps[starts] = gaps[ends] = np.inf
        distance[order] += gaps
    return distance


def hypervolume(losses: Losses, reference: NDArray[np.float64]) -> float:
    """Return the volume that the rows dominate, up to ``reference``.

    Two objectives take one sort; more are sliced along the last one and solved one dimension lower (Zitzler, 1999).

    Args:
        losses: ``(n, m)``; rows that are not below ``reference`` in every objective add nothing.
        reference: ``(m,)``.
    """
    reference = np.asarray(reference, np.float64)
    inside = losses[np.all(losses < reference, axis=1)]
    if len(inside) == 0:
        return 0.0
    if inside.shape[1] == 1:
        return float(reference[0] - inside.min())
    front, _ = _distinct(inside[non_dominated(inside)])
    if front.shape[1] == 2:
        heights = np.r_[reference[1], front[:-1, 1]] - front[:, 1]
        return float(((reference[0] - front[:, 0]) * heights).sum())
    front = front[np.argsort(front[:, -1], kind="stable")]
    depths = np.r_[front[1:, -1], reference[-1]] - front[:, -1]
    areas = [hypervolume(front[: i + 1, :-1], reference[:-1]) if depth > 0 else 0.0 for i, depth in enumerate(depths)]
    return float(np.dot(areas, depths))


def knee(losses: Losses) -> int:
    """Return the row of a two-objective front that is furthest below the chord between the front's ends.

    Both objectives are first scaled to [0, 1] over the front. Where nothing lies below the chord (one or two rows, or a
    front that bulges the other way), it is the end that is best in the first objective.

    Args:
        losses: ``(n, 2)``, n ≥ 1.
    """
    low, high = losses.min(axis=0), losses.max(axis=0)
    scaled = (losses - low) / np.where(high > low, high - low, 1.0)
    below = 1.0 - scaled.sum(axis=1)  # the chord joins (0, 1) and (1, 0); √2 times the distance from it
    best = int(np.argmax(below))
    return best if below[best] > 1e-12 else int(np.lexsort(losses.T[::-1])[0])
