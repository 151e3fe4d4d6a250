"""Split-conformal intervals (Vovk et al., 2005; Lei et al., 2018): as wide as errors on networks the fit has not seen.

The radius is a quantile of absolute errors with the correction for their number, so that the next error of the same
kind of network is within it with at least the asked probability. Errors are on whichever scale the predictor's are
even: fractions for accuracy, logarithms for latency.

That holds of one split, of networks that nothing else was fitted to or chosen by: accuracy's. For latency, where
measurements are dear, the split is made fold by fold, and the errors of all folds are taken together, around a fit to
all networks. Of that nothing is guaranteed without further assumptions; its like, cross-conformal sets (Vovk, 2015) and
CV+ (Barber et al., 2021), cover at least 1 - 2a, not 1 - a, but for a term in the number of networks and folds. So
calibrations of latency count how often networks held out are covered.
"""

import math

import numpy as np
from numpy.typing import ArrayLike

from nas.errors import UsageError

LEVEL = 0.9


def conformal_radius(errors: ArrayLike, level: float = LEVEL) -> float:
    """Return the radius of the interval that covers the next error, of the same kind, with probability ``level``.

    Args:
        errors: Errors ``(n,)``, signed or not, on networks that were not fitted to.
        level: Probability of coverage, between 0 and 1.

    Raises:
        UsageError: There are too few errors for the level (9 for 0.9), or one is not finite.
    """
    sizes = np.sort(np.abs(np.asarray(errors, np.float64)))
    rank = math.ceil((len(sizes) + 1) * level)
    if not 0 < level < 1 or rank > len(sizes):
        raise UsageError(f"{len(sizes)} held-out errors for a {level:.0%} interval; allowed: {_fewest(level)} or more")
    if not np.isfinite(sizes).all():
        raise UsageError("a held-out error is not finite; remove that network")
    return float(sizes[rank - 1])


def _fewest(level: float) -> int:
    return next((n for n in range(1, 100_000) if math.ceil((n + 1) * level) <= n), 100_000)


def cross_folds(n: int, folds: int, rng: np.random.Generator) -> np.ndarray:
    """Return a random fold number for each of ``n`` networks, ``(n,)``, the folds as even as can be."""
    return np.asarray(rng.permutation(np.arange(n) % folds))
