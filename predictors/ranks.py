"""Rank correlations that are 0, without a warning, where there is no order to agree on."""

import numpy as np
from numpy.typing import NDArray
from scipy.stats import kendalltau, spearmanr

Floats = NDArray[np.floating]


def kendall(predicted: Floats, measured: Floats) -> float:
    """Return Kendall's rank correlation of ``(n,)`` and ``(n,)``; 0 where one of them is constant."""
    return 0.0 if _is_constant(predicted, measured) else float(kendalltau(predicted, measured).statistic)


def spearman(predicted: Floats, measured: Floats) -> float:
    """Return Spearman's; likewise."""
    return 0.0 if _is_constant(predicted, measured) else float(spearmanr(predicted, measured).statistic)


def _is_constant(*values: Floats) -> bool:
    return any(np.ptp(one) == 0 for one in values)
