"""From measured whole networks to a table: a robust, non-negative ridge regression on relative errors.

Non-negative, so that no part speeds a network up and the table holds outside what was measured, where a search goes;
ridge, because neighbouring features are alike; relative, because a small network's microseconds count as much as a
large one's; and robust (Huber, by reweighting), because on a shared machine some measurements are simply wrong.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import nnls

from latency_tables.features import Features, feature_matrix, weighted_sum
from latency_tables.measurement import Floats
from latency_tables.table import LatencyTable
from nas.errors import UsageError
from search_spaces import Genes

RIDGE = 1e-3  # relative to the mean square of a feature's contribution
HUBER = 1.0  # residuals beyond this many robust deviations count linearly
REWEIGHTINGS = 6
MIN_NETWORKS = 20


@dataclass(frozen=True)
class CostRegression:
    """Fits tables of one space; the features are built once and used for every fold.

    Attributes:
        features: Feature name to table.
    """

    features: Features

    def fit(self, genes: Genes, ms: Floats) -> LatencyTable:
        """Return the table fitted to canonical rows ``(n, num_genes)`` and their milliseconds ``(n,)``.

        Raises:
            UsageError: Fewer than ``MIN_NETWORKS`` networks, or a latency that is not positive and finite.
        """
        check_measured(genes, ms)
        return weighted_sum(self.features, robust_weights(feature_matrix(self.features, genes), ms))

    def crossed(self, genes: Genes, ms: Floats, folds: NDArray[np.intp]) -> Floats:
        """Return each network's milliseconds by the fit without its fold, ``(n,)``; they must be ``check_measured``."""
        matrix, out = feature_matrix(self.features, genes), np.zeros(len(ms))
        for fold in np.unique(folds):
            held = folds == fold
            out[held] = matrix[held] @ robust_weights(matrix[~held], ms[~held])
        return out


def check_measured(genes: Genes, ms: Floats) -> None:
    """Raise ``UsageError`` unless there are enough networks, each with a positive latency."""
    if len(genes) != len(ms) or len(ms) < MIN_NETWORKS:
        raise UsageError(
            f"{len(ms)} latencies for {len(genes)} networks; allowed: one each, for {MIN_NETWORKS} networks or more"
        )
    wrong = ~(np.isfinite(ms) & (np.asarray(ms) > 0))
    if wrong.any():
        row = int(np.argmax(wrong))
        raise UsageError(f"latency {ms[row]} ms of network {row}; allowed: positive and finite")


def robust_weights(matrix: Floats, ms: Floats) -> Floats:
    """Return non-negative milliseconds per unit of each feature, ``(features,)``.

    Args:
        matrix: Features of networks ``(n, features)``, none negative.
        ms: Their milliseconds ``(n,)``, above 0.
    """
    relative = matrix / ms[:, None]
    scale = np.sqrt((relative**2).mean(axis=0))
    scale[scale == 0] = np.inf  # a feature that no network has costs nothing
    scaled = relative / scale
    penalty = np.eye(matrix.shape[1]) * np.sqrt(RIDGE * len(ms))
    row_weights = np.ones(len(ms))
    for _ in range(REWEIGHTINGS):
        system = np.vstack([scaled * row_weights[:, None], penalty])
        solution, _ = nnls(system, np.concatenate([row_weights, np.zeros(len(penalty))]))
        residual = np.abs(scaled @ solution - 1)
        deviation = max(1.4826 * float(np.median(residual)), 1e-6)
        row_weights = np.sqrt(np.minimum(1.0, HUBER * deviation / np.maximum(residual, 1e-12)))
    return solution / scale
