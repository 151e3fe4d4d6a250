"""A cheap predictor of scores, refitted as a search goes on: Gaussian processes, in closed form.

The covariance is the mean of a linear and a Gaussian kernel on the space's features: additive costs and interactions
alike. Its width, the noise and the scale are each score's own: of a small grid, those under which the scores are most
probable, each given all others (the leave-one-out predictive density; Rasmussen and Williams, 2006, section 5.4.2). One
eigendecomposition a width serves every noise and the variances.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

WIDTHS = (0.5, 1.0, 2.0)  # of the Gaussian, in root mean squared distances between the rows
NOISES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)  # variances, in those of the process
LEAST_VARIANCE = 1e-10

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class _Fit:
    """One score's process: how improbable it makes the scores, its numbers, and what predicts."""

    surprise: float
    width: float
    noise: float
    scale: float  # variance of the process, of standardised scores
    weights: Floats
    vectors: Floats
    inverse: Floats  # of the eigenvalues with noise


class Surrogate:
    """Predicts several scores from features, independently.

    Args:
        features: ``(n, num_features)``, n ≥ 2.
        targets: ``(n, scores)``.
    """

    def __init__(self, features: NDArray[np.float32], targets: Floats):
        self._features = np.asarray(features, np.float64)
        self._centre, spread = targets.mean(axis=0), targets.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)
        self._middle = self._features.mean(axis=0)
        self._variance = max(float(((self._features - self._middle) ** 2).sum(axis=1).mean()), 1e-12)
        standard = (targets - self._centre) / self._spread
        fits = [fit for width in WIDTHS for fit in self._fits(width, standard)]
        count = targets.shape[1]
        self._best = [min(fits[score::count], key=lambda fit: fit.surprise) for score in range(count)]

    def _fits(self, width: float, targets: Floats) -> list[_Fit]:
        """Return a fit for each noise and score, the scores of one noise in order."""
        values, vectors = np.linalg.eigh(self._kernel(self._features, self._features, width))
        turned, squares = vectors.T @ targets, vectors**2
        fits = []
        for noise in NOISES:
            inverse = 1 / (np.maximum(values, 0) + noise)
            precisions = squares @ inverse  # of each row given the others, but for the scale
            for weights in (vectors @ (inverse[:, None] * turned)).T:
                scale = max(float((weights**2 / precisions).mean()), 1e-12)
                surprise = float(np.log(scale) - np.log(precisions).mean())
                fits.append(_Fit(surprise, width, noise, scale, weights, vectors, inverse))
        return fits

    def _kernel(self, a: Floats, b: Floats, width: float) -> Floats:
        """Return the kernel between rows, ``(len(a), len(b))``."""
        a, b = a - self._middle, b - self._middle
        products = a @ b.T
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * products
        scale = 2 * self._variance  # the mean squared distance between two rows
        return 0.5 * (products / self._variance + np.exp(-0.5 * squares / (width**2 * scale)))

    def predict(self, features: NDArray[np.float32]) -> tuple[Floats, Floats]:
        """Return mean and standard deviation ``(n, scores)`` for features ``(n, num_features)``, without noise."""
        rows = np.asarray(features, np.float64)
        kernels = {width: self._kernel(rows, self._features, width) for width in {fit.width for fit in self._best}}
        own = 0.5 * (((rows - self._middle) ** 2).sum(axis=1) / self._variance + 1)
        means, variances = [], []
        for fit in self._best:
            kernel = kernels[fit.width]
            means.append(kernel @ fit.weights)
            known = (kernel @ fit.vectors) ** 2 @ fit.inverse
            variances.append(fit.scale * np.maximum(own - known, LEAST_VARIANCE))
        mean, deviation = np.stack(means, axis=1), np.sqrt(np.stack(variances, axis=1))
        return self._centre + self._spread * mean, self._spread * deviation

    def covariances(self, features: NDArray[np.float32]) -> Floats:
        """Return the covariances between rows, without noise, ``(scores, n, n)``."""
        rows = np.asarray(features, np.float64)
        found = []
        for fit, spread in zip(self._best, self._spread, strict=True):
            turned = self._kernel(rows, self._features, fit.width) @ fit.vectors
            known = (turned * fit.inverse) @ turned.T
            found.append(spread**2 * fit.scale * (self._kernel(rows, rows, fit.width) - known))
        return np.stack(found)

    @property
    def noise(self) -> Floats:
        """The variance of the noise of each score, ``(scores,)``."""
        return np.array([fit.scale * fit.noise for fit in self._best]) * self._spread**2
