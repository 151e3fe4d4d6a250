"""Which networks to verify, which measured ones form the front, and which one to recommend.

Latencies are milliseconds, accuracies fractions; arrays are ``(n,)``.
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

from nas.search.fronts import knee, non_dominated

Indices = NDArray[np.intp]


def front_of(latency_ms: ArrayLike, accuracy: ArrayLike) -> Indices:
    """Return the indices of the points that no other dominates, fastest first."""
    losses = _losses(latency_ms, accuracy)
    front = np.flatnonzero(non_dominated(losses))
    return front[np.argsort(losses[front, 0], kind="stable")]


def knee_of(latency_ms: ArrayLike, accuracy: ArrayLike) -> int:
    """Return the index of a front's knee: the point farthest from the line between its ends, both axes scaled to 1.

    With fewer than three points there is no knee: the most accurate is returned.
    """
    losses = _losses(latency_ms, accuracy)
    return knee(losses[:, ::-1])


def _losses(latency_ms: ArrayLike, accuracy: ArrayLike) -> NDArray[np.float64]:
    return np.stack([np.asarray(latency_ms, float), -np.asarray(accuracy, float)], axis=1)


def best_within(latency_ms: ArrayLike, accuracy: ArrayLike, limit_ms: float) -> int | None:
    """Return the index of the most accurate point within the limit, the faster of equals; None if none is within."""
    latency, top = np.asarray(latency_ms, float), np.asarray(accuracy, float)
    within = np.flatnonzero(latency <= limit_ms)
    if not len(within):
        return None
    return int(within[np.lexsort((latency[within], -top[within]))[0]])


def spread_over(latency_ms: ArrayLike, accuracy: ArrayLike, count: int) -> Indices:
    """Return ``count`` indices spread evenly along a front, both ends among them, fastest first.

    Even means equal steps along the curve, latency on a logarithmic axis and both axes scaled to 1.
    """
    latency, top = np.asarray(latency_ms, float), np.asarray(accuracy, float)
    order = np.argsort(latency, kind="stable")
    if len(order) <= count:
        return order
    x, y = np.log(latency[order]), top[order]
    x, y = ((v - v.min()) / (np.ptp(v) or 1.0) for v in (x, y))
    along = np.concatenate([[0.0], np.cumsum(np.hypot(np.diff(x), np.diff(y)))])
    return order[_nearest_distinct(along, np.linspace(0, along[-1], count))]


def below_limit(latency_ms: ArrayLike, accuracy: ArrayLike, limit_ms: float, count: int) -> Indices:
    """Return up to ``count`` indices below a limit: the most accurate at 100 % of it, then at 98 %, 96 % and so on.

    A prediction is off by some per cent, so that what is predicted close below the limit may measure above it. Steps
    are smaller where there are more than 50; where one leads below everything, the most accurate of the rest is taken.
    """
    latency, top = np.asarray(latency_ms, float), np.asarray(accuracy, float)
    best_first = [int(i) for i in np.lexsort((latency, -top)) if latency[i] <= limit_ms]
    chosen: list[int] = []
    for step in range(min(count, len(best_first))):
        bound = limit_ms * (1 - step * min(0.02, 1 / count))
        free = [index for index in best_first if index not in chosen]
        chosen.append(next((index for index in free if latency[index] <= bound), free[0]))
    return np.array(sorted(chosen, key=lambda index: latency[index]), np.intp)


def _nearest_distinct(along: NDArray[np.float64], targets: NDArray[np.float64]) -> Indices:
    """Return, for ascending targets, the nearest points of ``along``, none twice."""
    taken: list[int] = []
    for number, target in enumerate(targets):
        first = taken[-1] + 1 if taken else 0
        last = len(along) - (len(targets) - number)
        taken.append(first + int(np.argmin(np.abs(along[first : last + 1] - target))))
    return np.array(taken, np.intp)
