"""How good an accuracy predictor is on pairs it was not fitted to, each figure with a bootstrap interval."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, fields

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from predictors.accuracy import AccuracyPredictor
from predictors.pairs import Pairs
from predictors.prediction import Prediction
from predictors.ranks import kendall, spearman

RESAMPLES = 300
LEVEL = 0.95
FEWEST_PAIRS = 10

Values = NDArray[np.float64]


@dataclass(frozen=True)
class Estimate:
    """A figure and its 95 % bootstrap interval over the held-out networks."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


@dataclass(frozen=True)
class AccuracyReport:
    """Predicted against measured accuracy on ``networks`` held-out networks.

    Attributes:
        networks: How many.
        kendall: Kendall's rank correlation; 0 where all predictions or all accuracies are equal.
        spearman: Spearman's.
        rmse: Root of the mean squared error, as a fraction.
        mae: Mean absolute error, likewise.
        bias: Mean of predicted minus measured, likewise.
        coverage: Share of the networks inside the 90 % interval.
        interval: Mean width of that interval, as a fraction.
    """

    networks: int
    kendall: Estimate
    spearman: Estimate
    rmse: Estimate
    mae: Estimate
    bias: Estimate
    coverage: Estimate
    interval: Estimate

    def lines(self) -> Iterator[str]:
        """Yield one line a figure."""
        yield f"networks  {self.networks}"
        for field in fields(self)[1:]:
            yield f"{field.name:<9} {getattr(self, field.name)}"


def accuracy_report(prediction: Prediction, accuracy: Values, seed: int = 0) -> AccuracyReport:
    """Compare predictions with measured accuracies ``(n,)``, 10 or more, of networks that were not fitted to.

    Raises:
        UsageError: Too few networks, or the lengths differ.
    """
    if len(accuracy) != len(prediction) or len(accuracy) < FEWEST_PAIRS:
        counts = f"{len(prediction)} predictions for {len(accuracy)} held-out pairs"
        raise UsageError(f"{counts}; allowed: as many of each, {FEWEST_PAIRS} or more")
    rng = np.random.default_rng(seed)
    resamples = rng.integers(len(accuracy), size=(RESAMPLES, len(accuracy)))
    error = prediction.mean - accuracy
    covered = (prediction.low <= accuracy) & (accuracy <= prediction.high)

    def estimate(figure: Callable[[NDArray[np.int64]], float]) -> Estimate:
        drawn = [figure(rows) for rows in resamples]
        low, high = np.quantile(drawn, [(1 - LEVEL) / 2, (1 + LEVEL) / 2])
        return Estimate(float(figure(np.arange(len(accuracy)))), float(low), float(high))

    return AccuracyReport(
        networks=len(accuracy),
        kendall=estimate(lambda rows: kendall(prediction.mean[rows], accuracy[rows])),
        spearman=estimate(lambda rows: spearman(prediction.mean[rows], accuracy[rows])),
        rmse=estimate(lambda rows: float(np.sqrt(np.square(error[rows]).mean()))),
        mae=estimate(lambda rows: float(np.abs(error[rows]).mean())),
        bias=estimate(lambda rows: float(error[rows].mean())),
        coverage=estimate(lambda rows: float(covered[rows].mean())),
        interval=estimate(lambda rows: float((prediction.high - prediction.low)[rows].mean())),
    )


def report_on(predictor: AccuracyPredictor, pairs: Pairs) -> AccuracyReport:
    """Report on the held-out fifth of ``pairs``.

    Raises:
        UsageError: Fewer than 10 are held out.
    """
    held = pairs.split()[1]
    return accuracy_report(predictor.predict(held.genes), held.accuracy)


def fit_to_pairs(predictor: AccuracyPredictor, fp32: Pairs, quantized: Pairs | None = None) -> AccuracyPredictor:
    """Fit to the fp32 pairs, then transfer to the quantized ones, the held-out fifth of each left out."""
    fitted = fp32.split()[0]
    predictor.fit(fitted.genes, fitted.accuracy)
    if quantized is not None:
        mixed = quantized.split()[0]
        predictor.transfer(mixed.genes, mixed.accuracy, replay=(fitted.genes, fitted.accuracy))
    return predictor
