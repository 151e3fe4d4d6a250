"""What a search job found, all of it measured in one run: the front, the chosen network, the baselines, verdicts."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from nas.compression.paired import Difference, paired_difference
from nas.export.choose import best_within, front_of, knee_of
from nas.export.finalists import BASELINE, FINALIST, Failed, Verified
from nas.export.goal import Goal
from nas.export.untrained import WARNING

Floats = NDArray[np.float64]

MARGIN = 0.005
"""The loss of accuracy that mixing must rule out to win: half a point."""

DRIFT_WORTH_SAYING = 0.05
"""The change of the machine's speed since its calibration that a person is told of."""


@dataclass(frozen=True)
class PredictionErrors:
    """How far predictions were off over the finalists: relative for latency, in fractions for accuracy.

    The accuracy predictor was fitted to other networks on the same validation images, never to test images. Without
    images its errors are None.
    """

    latency_median: float
    latency_worst: float
    accuracy_mean: float | None
    test_accuracy_mean: float | None


@dataclass(frozen=True, eq=False)
class Mixing:
    """A mixed network beside its twins, the same architecture in one precision: whether mixing wins on this device.

    Attributes:
        mixed: The network of several precisions.
        twins: Precision to twin.
    """

    mixed: Verified
    twins: Mapping[str, Verified]

    @cached_property
    def gains(self) -> dict[str, Difference]:
        """By how much the mixed one is more accurate than each twin, on the same validation images."""
        return {name: paired_difference(self.mixed.correct, twin.correct) for name, twin in self.twins.items()}

    @property
    def wins(self) -> bool:
        """Whether it is shown to be faster than every twin, and not less accurate than one by ``MARGIN`` or more."""
        slowest = self.mixed.latency.ci_high_ms
        faster = all(slowest < twin.latency.ci_low_ms for twin in self.twins.values())
        return faster and all(gain.low > -MARGIN for gain in self.gains.values())


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
        goal: Objectives and limits.
        evaluated: Candidates that the search scored.
        seconds: Stage to its wall time: calibrate, search, verify.
        calibration: What predicts the latency: where it is, whether it was reused, and its reported errors.
        verified: Every network of the measuring batch.
        failed: The networks that did not pass their gates.
        predicted_ms: Latency of candidates that the search saw, ``(n,)``; for the picture.
        predicted_accuracy: Their accuracy, ``(n,)``.
        eligible: Ids of what may be chosen; None for all. Where several devices share one network, it alone is.
    """

    space: str
    supernet: str
    dataset: str
    images: Mapping[str, int]
    device: Mapping[str, str | bool]
    strategy: str
    seed: int
    goal: Goal
    evaluated: int
    seconds: Mapping[str, float]
    calibration: Mapping[str, object]
    verified: tuple[Verified, ...]
    failed: tuple[Failed, ...]
    predicted_ms: Floats
    predicted_accuracy: Floats
    eligible: frozenset[str] | None = None

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

    @property
    def limit_ms(self) -> float | None:
        """The latency budget, or None."""
        return self.goal.limits.get("latency")

    @cached_property
    def chosen(self) -> Verified | None:
        """The knee of the networks within the other budgets, or their most accurate one within the latency's; or None.

        They are the front's, unless a budget leaves out some of it: then the best of the rest.
        """
        within = [one for one in self.distinct if self.goal.within(one.entry.counted)]
        if self.eligible is not None:
            within = [one for one in within if one.entry.candidate.id in self.eligible]
        latency, accuracy = [p.latency.latency_ms for p in within], [p.accuracy for p in within]
        rows = front_of(latency, accuracy)
        within, latency, accuracy = ([values[row] for row in rows] for values in (within, latency, accuracy))
        if not within:
            return None
        if self.limit_ms is None:
            return within[knee_of(latency, accuracy)]
        index = best_within(latency, accuracy, self.limit_ms)
        return None if index is None else within[index]

    @property
    def errors(self) -> PredictionErrors:
        """How far off the predictions were."""
        finalists = [p for p in self.verified if p.entry.role == FINALIST]
        latency = np.array([abs(p.entry.latency_ms / p.latency.latency_ms - 1) for p in finalists])
        accuracy = _mean_error((p.entry.accuracy, p.accuracy if p.counted else None) for p in finalists)
        test = _mean_error((p.entry.accuracy, p.test_accuracy) for p in finalists)
        return PredictionErrors(float(np.median(latency)), float(latency.max()), accuracy, test)

    @property
    def warning(self) -> str:
        """What a person must know before they use a network of this job; empty where there is nothing."""
        return "" if all(one.counted for one in self.verified) else WARNING

    @property
    def drift(self) -> float:
        """How many times slower the machine was than when it was calibrated."""
        return self.verified[0].latency.drift

    @cached_property
    def mixing(self) -> tuple[Mixing, ...]:
        """The mixed networks that have all their twins in the batch; none without images, or in one precision."""
        found = []
        for mixed in (one for one in self.verified if one.entry.role == FINALIST and one.counted):
            twins = [one for one in self.verified if one.entry.twin_of == mixed.entry.candidate.id]
            complete = all(one.entry.twin_of != mixed.entry.candidate.id for one in self.failed)
            if twins and complete:
                found.append(Mixing(mixed, {twin.entry.candidate.stem: twin for twin in twins}))
        return tuple(found)


def _mean_error(pairs: Iterable[tuple[float, float | None]]) -> float | None:
    """Return the mean distance of predictions from what was measured, None where nothing was."""
    errors = [abs(predicted - measured) for predicted, measured in pairs if measured is not None]
    return float(np.mean(errors)) if errors else None
