"""Two accuracies on the same images, compared image by image.

Most images are right or wrong in both networks alike, so their difference is known far better than either accuracy:
only the images on which the two disagree count. The interval is Bonett and Price's (2012): Wald's, after one image is
added to each kind of disagreement, so that it has a width also where there is none.
"""

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

NORMAL_95 = 1.96  # standard errors on either side of a 95 % interval


@dataclass(frozen=True)
class Difference:
    """A difference of accuracies, a fraction, and its 95 % interval."""

    value: float
    low: float
    high: float


def paired_difference(one: NDArray[np.bool_], other: NDArray[np.bool_]) -> Difference:
    """Return by how much ``one`` is more accurate than ``other``, from which images ``(n,)`` each gets right."""
    gained, lost = int((one & ~other).sum()), int((other & ~one).sum())
    shares = np.array([gained + 1, lost + 1]) / (len(one) + 2)
    centre = float(shares[0] - shares[1])
    error = float(np.sqrt((shares.sum() - centre**2) / (len(one) + 2)))
    return Difference((gained - lost) / len(one), centre - NORMAL_95 * error, centre + NORMAL_95 * error)


def images_needed(allowed: float) -> int:
    """Return the fewest images whose interval is within ``-allowed``, a fraction above 0, where no answer differs."""
    return math.ceil(NORMAL_95 * math.sqrt(2) / allowed) - 2
