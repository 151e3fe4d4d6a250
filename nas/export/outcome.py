"""What a search job found, all of it measured in one run: the front, the chosen network, the baselines, verdicts."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.export.choose import best_within, front_of, knee_of
from nas.export.finalists import BASELINE, FINALIST, Verified
from nas.export.untrained import WARNING

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class PredictionErrors:
    """How far predictions were off over the finalists: relative for latency, in fractions for accuracy if counted."""

    latency_median: float
    latency_worst: float
    accuracy_mean: float | None


@dataclass(frozen=True, eq=False)
class Mixing:
    """A mixed network beside its twins, the same architecture in one precision: whether mixing wins on this device.

    Attributes:
        mixed: The network of several precisions.
        twins: Precision to twin.
        wins: Whether the mixed one is faster than every twin, intervals apart, and no twin is more accurate by more
            than the standard error of the difference.
    """

    mixed: Verified
    twins: Mapping[str, Verified]
    wins: bool


@dataclass(frozen=True, eq=False)
class Outcome:
    """A finished search job.

    Attributes:
        space: Name of the search space.
        supernet: What was asked for as the supernet.
        dataset: Name of the images.
        images: Number of validation and of test images.
        device: ``name``, ``runtime``, ``fingerprint`` and ``simulated``.
        strategy: Name of the strategy.
        seed: Of everything random.
        limit_ms: The latency budget, or None.
        evaluated: Candidates that the search scored.
        seconds: Stage to its wall time: calibrate, search, verify.
        calibration: What predicts the latency: where it is, whether it was reused, and its reported errors.
        verified: Every network of the measuring batch.
        predicted_ms: Latency of candidates that the search saw, ``(n,)``; for the picture.
        predicted_accuracy: Their accuracy, ``(n,)``.
    """

    space: str
    supernet: str
    dataset: str
    images: Mapping[str, int]
    device: Mapping[str, str | bool]
    strategy: str
    seed: int
    limit_ms: float | None
    evaluated: int
    seconds: Mapping[str, float]
    calibration: Mapping[str, object]
    verified: tuple[Verified, ...]
    predicted_ms: Floats
    predicted_accuracy: Floats

    @cached_property
    def distinct(self) -> tuple[Verified, ...]:
        """Every network once, by its first entry: a finalist may be a baseline as well."""
        return tuple({one.entry.candidate.id: one for one in reversed(self.verified)}.values())[::-1]

    @cached_property
    def front(self) -> tuple[Verified, ...]:
        """The networks of the batch that none dominates by measured latency and validation accuracy, fastest first."""
        points = self.distinct
        return tuple(points[i] for i in front_of([p.latency.latency_ms for p in points], [p.accuracy for p in points]))

    @property
    def fastest_first(self) -> tuple[Verified, ...]:
        """Every network once, by measured latency."""
        return tuple(sorted(self.distinct, key=lambda one: one.latency.latency_ms))

    @property
    def dominated(self) -> tuple[Verified, ...]:
        """The finalists that are not on the front, fastest first."""
        return tuple(one for one in self.fastest_first if one.entry.role == FINALIST and one not in self.front)

    @property
    def baselines(self) -> tuple[Verified, ...]:
        """The largest and the smallest network, in each precision."""
        return tuple(one for one in self.verified if one.entry.role == BASELINE)

    @cached_property
    def chosen(self) -> Verified | None:
        """The front's knee, or its most accurate network within the budget; None where none is within it."""
        latency, accuracy = [p.latency.latency_ms for p in self.front], [p.accuracy for p in self.front]
        if self.limit_ms is None:
            return self.front[knee_of(latency, accuracy)]
        index = best_within(latency, accuracy, self.limit_ms)
        return None if index is None else self.front[index]

    @property
    def errors(self) -> PredictionErrors:
        """How far off the predictions were."""
        finalists = [p for p in self.verified if p.entry.role == FINALIST]
        latency = np.array([abs(p.entry.latency_ms / p.latency.latency_ms - 1) for p in finalists])
        accuracy = [abs(p.entry.accuracy - p.accuracy) for p in finalists if p.counted]
        mean = float(np.mean(accuracy)) if accuracy else None
        return PredictionErrors(float(np.median(latency)), float(latency.max()), mean)

    @property
    def warning(self) -> str:
        """What a person must know before they use a network of this job; empty where there is nothing."""
        return "" if all(one.counted for one in self.verified) else WARNING

    @cached_property
    def mixing(self) -> tuple[Mixing, ...]:
        """The mixed networks that have twins in the batch; none on a device of one precision."""
        found = []
        for mixed in (one for one in self.verified if one.entry.role == FINALIST):
            twins = [one for one in self.verified if one.entry.twin_of == mixed.entry.candidate.id]
            if twins:
                wins = all(_beats(mixed, twin, self.images["validation"]) for twin in twins)
                found.append(Mixing(mixed, {twin.entry.candidate.stem: twin for twin in twins}, wins))
        return tuple(found)


def _beats(one: Verified, other: Verified, images: int) -> bool:
    faster = one.latency.ci_high_ms < other.latency.ci_low_ms
    variances = [each.accuracy * (1 - each.accuracy) / images for each in (one, other)]
    return faster and other.accuracy - one.accuracy <= float(np.sqrt(sum(variances)))
