"""By how much a candidate is expected to enlarge what a front dominates, exactly, for any number of objectives.

The expected hypervolume improvement (Emmerich et al., 2011) of independent normal predictions is the integral, over
what the front does not dominate, of the probability to be better than there. As ``fronts.hypervolume`` does, it is
sliced along the last objective: in a slice, the probabilities integrate to a difference of expected improvements, and
what is left is the same problem with one objective less. Everything minimises.
"""

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.search.fronts import Losses, non_dominated

Floats = NDArray[np.float64]


def expected_improvement(mean: Floats, deviation: Floats, limit: float) -> Floats:
    """Return how far below ``limit`` normal variables are expected to be, ``(n,)``; above counts as 0."""
    below = (limit - mean) / deviation
    density = np.exp(-0.5 * below**2) / np.sqrt(2 * np.pi)
    return np.maximum(deviation * (density + below * ndtr(below)), 0.0)


def hypervolume_improvement(front: Losses, reference: Floats, mean: Floats, deviation: Floats) -> Floats:
    """Return the expected gain of volume up to ``reference``, ``(n,)``.

    Args:
        front: ``(k, m)``, k ≥ 0.
        reference: ``(m,)``; rows of the front that are not below it everywhere do not count.
        mean: Predicted losses, ``(n, m)``.
        deviation: Their standard deviations, above 0, ``(n, m)``.
    """
    inside = front[np.all(front < reference, axis=1)]
    if front.shape[1] == 1:
        return expected_improvement(mean[:, 0], deviation[:, 0], inside.min(initial=reference[0]))
    inside = inside[non_dominated(inside)]
    inside = inside[np.argsort(inside[:, -1], kind="stable")]
    total, before = np.zeros(len(mean)), np.zeros(len(mean))
    for count, edge in enumerate([*inside[:, -1].tolist(), float(reference[-1])]):
        after = expected_improvement(mean[:, -1], deviation[:, -1], edge)
        rest = hypervolume_improvement(inside[:count, :-1], reference[:-1], mean[:, :-1], deviation[:, :-1])
        total += (after - before) * rest
        before = after
    return total
