"""A cheap predictor of scores, refitted as a search goes on: kernel ridge regression, in closed form.

The kernel is the mean of a linear and a Gaussian one on the space's features: additive costs and interactions alike
(the posterior mean of a Gaussian process with that covariance). Its two numbers, the Gaussian's width and the ridge,
are those of a small grid whose leave-one-out error is least; one eigendecomposition a width serves every ridge.
"""

import numpy as np
from numpy.typing import NDArray

WIDTHS = (0.5, 1.0, 2.0)  # of the Gaussian, in root mean squared distances between the rows
RIDGES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)

Floats = NDArray[np.float64]


class Surrogate:
    """Predicts several scores from features.

    Args:
        features: ``(n, num_features)``, n ≥ 2.
        targets: ``(n, scores)``.
    """

    def __init__(self, features: NDArray[np.float32], targets: Floats):
        self._features = np.asarray(features, np.float64)
        self._centre, spread = targets.mean(axis=0), targets.std(axis=0)
        self._spread = np.where(spread > 0, spread, 1.0)
        standard = (targets - self._centre) / self._spread
        self._middle = self._features.mean(axis=0)
        inner = self._features - self._middle
        self._variance = max(float((inner**2).sum(axis=1).mean()), 1e-12)
        fits = [(width, *self._fit(width, standard)) for width in WIDTHS]
        best = [min(fits, key=lambda fit: fit[1][score]) for score in range(targets.shape[1])]
        self._widths = [width for width, _, _ in best]
        self._weights = np.stack([weights[:, score] for score, (_, _, weights) in enumerate(best)], axis=1)

    def _fit(self, width: float, targets: Floats) -> tuple[Floats, Floats]:
        """Return each score's least leave-one-out error over the ridges, ``(scores,)``, and its weights."""
        values, vectors = np.linalg.eigh(self._kernel(self._features, width))
        turned = vectors.T @ targets
        errors, weights = [], []
        for ridge in RIDGES:
            inverse = 1 / (np.maximum(values, 0) + ridge)
            weight = vectors @ (inverse[:, None] * turned)
            errors.append(((weight / (vectors**2 @ inverse)[:, None]) ** 2).mean(axis=0))
            weights.append(weight)
        best = np.argmin(errors, axis=0)
        scores = np.arange(targets.shape[1])
        return np.array(errors)[best, scores], np.array(weights)[best, :, scores].T

    def _kernel(self, features: Floats, width: float) -> Floats:
        """Return the kernel between foreign rows and those fitted to, ``(n, fitted)``."""
        a, b = features - self._middle, self._features - self._middle
        products = a @ b.T
        squares = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1) - 2 * products
        scale = 2 * self._variance  # the mean squared distance between two rows
        return 0.5 * (products / self._variance + np.exp(-0.5 * squares / (width**2 * scale)))

    def predict(self, features: NDArray[np.float32]) -> Floats:
        """Return the scores ``(n, scores)`` of features ``(n, num_features)``."""
        rows = np.asarray(features, np.float64)
        kernels = {width: self._kernel(rows, width) for width in set(self._widths)}
        columns = [kernels[width] @ self._weights[:, score] for score, width in enumerate(self._widths)]
        return self._centre + self._spread * np.stack(columns, axis=1)
