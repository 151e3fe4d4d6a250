"""What timing a model yields: the latency, its interval, and whether it can be believed."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

OK = "ok"
NOISY = "noisy"
BOOTSTRAP_DRAWS = 1000


@dataclass(frozen=True)
class Measurement:
    """The latency of one model on one device.

    Attributes:
        latency_ms: Median over rounds of the drift-corrected round medians; with a baseline, brought to the machine's
            speed at that earlier time: ``raw_ms`` and ``drift`` say what that changed.
        ci_low_ms: Lower end of the 95 % bootstrap interval of ``latency_ms`` over rounds.
        ci_high_ms: Its upper end.
        raw_ms: The same median as the clock gave it, before any correction.
        mean_ms: Median over rounds of the plain means, uncorrected, with all that disturbed them.
        min_ms: Fastest corrected value (one value stands for 20 ms of inferences or more).
        p90_ms: 90th percentile of the corrected values.
        mad_ms: Median absolute deviation of the corrected values.
        reference_ms: What the reference net took in this run.
        drift: ``reference_ms`` over the baseline: how many times slower the machine was in this run than when the
            baseline was taken; 1 without one.
        rounds: Rounds that counted; rounds with the machine too far off are dropped.
        values: Values that counted.
        quality: ``"ok"``, or ``"noisy"`` where the interval, the change from the first rounds to the last, or ``drift``
            exceeds the protocol's limits, or fewer rounds counted than it asks for.
    """

    latency_ms: float
    ci_low_ms: float
    ci_high_ms: float
    raw_ms: float
    mean_ms: float
    min_ms: float
    p90_ms: float
    mad_ms: float
    reference_ms: float
    drift: float
    rounds: int
    values: int
    quality: str

    @property
    def half_width(self) -> float:
        """Half the width of the interval, relative to the latency."""
        return (self.ci_high_ms - self.ci_low_ms) / (2 * self.latency_ms)

    def to_dict(self) -> dict[str, Any]:
        """Return the fields, units in their names."""
        return asdict(self)

    @staticmethod
    def from_dict(fields: Mapping[str, Any]) -> "Measurement":
        """Return the measurement that ``to_dict`` wrote."""
        return Measurement(**{name: fields[name] for name in Measurement.__dataclass_fields__})


def bootstrap_median(
    samples: Sequence[float] | Floats, rng: np.random.Generator, level: float = 0.95
) -> tuple[float, float]:
    """Return the percentile bootstrap interval of the median of ``samples``, too narrow for fewer than a handful."""
    values = np.asarray(samples, np.float64)
    draws = rng.choice(values, size=(BOOTSTRAP_DRAWS, len(values)), replace=True)
    low, high = np.quantile(np.median(draws, axis=1), [(1 - level) / 2, (1 + level) / 2])
    return float(low), float(high)
