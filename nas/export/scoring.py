"""What the search asks of a candidate: its predicted accuracy and latency."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from search_spaces import Genes


class Predicted(Protocol):
    """Predictions with intervals, ``(n,)`` each; ``predictors.Prediction`` is one."""

    @property
    def mean(self) -> NDArray[np.floating]: ...


class Predictor(Protocol):
    """Predicts one figure from genes ``(n, num_genes)``."""

    def predict(self, genes: Genes) -> Predicted: ...


@dataclass(frozen=True)
class Scorer:
    """Scores candidates by two predictors.

    Attributes:
        accuracy: Predicts validation accuracy, a fraction.
        latency: Predicts milliseconds.
        origin: Where they come from, as JSON, for the report.
    """

    accuracy: Predictor
    latency: Predictor
    origin: Mapping[str, Any]

    def score(self, genes: Genes) -> dict[str, NDArray[np.float64]]:
        """Return ``accuracy`` and ``latency_ms`` of genes ``(n, num_genes)``, ``(n,)`` each."""
        return {
            "accuracy": np.asarray(self.accuracy.predict(genes).mean, np.float64),
            "latency_ms": np.asarray(self.latency.predict(genes).mean, np.float64),
        }
