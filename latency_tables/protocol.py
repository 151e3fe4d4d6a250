"""How latency is measured here, in one place: interleaved rounds beside a reference net.

A model's latency is the median over rounds of its round medians. In a round every model is timed once, in random order.
A frozen reference net is timed before, between and after, so that a machine that slows down for all is told from a
model that is slow, and what it disturbed is corrected or dropped. Rounds are added until the bootstrap interval of
every model is narrow enough, to a limit; a model that does not get there is marked noisy, never silently averaged.
Latencies of one run are corrected to one speed of the reference net: this run's own, or that of an earlier run, so that
they compare with what was measured then. Such a change of scale is reported, and too large a one is noisy.

Two things go beyond common practice. The reference is timed every few models and interpolated in time, since a round
over a large batch lasts seconds. And a value is not the mean of its inferences but the tenth percentile of the slices
that they are timed in: on a machine with others at work the mean tells what they do. It is kept as ``mean_ms``. Every
value has equally many slices, so that it is the same statistic for a model of 0.1 ms and for one of 50 ms, whose slices
are single inferences.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Protocol, runtime_checkable

import numpy as np

from latency_tables.measurement import NOISY, OK, Floats, Measurement, bootstrap_median


class Runner(Protocol):
    """One loaded model. ``run(count)`` runs ``count`` inferences back to back and returns the seconds they took."""

    def run(self, count: int) -> float: ...


@runtime_checkable
class SlicedRunner(Runner, Protocol):
    """A loaded model that is far away: one call, which takes longer than a slice, runs all the slices of a value."""

    def run_slices(self, count: int, slices: int) -> Sequence[float]: ...


Progress = Callable[[int, int], None]  # (timings done, timings expected so far)


@dataclass(frozen=True)
class MeasuringPlan:
    """The protocol's numbers.

    Attributes:
        value_seconds: The inferences behind one value last at least this long.
        slices: They are timed in so many slices of equally many inferences, of at least one.
        slice_quantile: The value is this quantile of its slices.
        values: Values of a model in a round.
        min_rounds: Rounds before the intervals are looked at; with fewer that count, or fewer than ``FEWEST_ROUNDS``, a
            model is noisy.
        max_rounds: Rounds at most.
        half_width: Relative half-width of the 95 % interval that is good enough.
        warm_runs: Inferences before the first value, at least.
        warm_seconds: Seconds of inferences before the first value, at least.
        settle_seconds: Seconds of the reference net before anything, to bring the machine out of its sleep.
        segment: Models between two timings of the reference net.
        anchor_quantile: The reference net's own speed is this quantile of its values, again to pass over disturbances.
        off_limit: A value is dropped where the reference net is off its own speed by more than this fraction, and a
            whole run is noisy where that speed is off the baseline by more.
        drift_limit: A model whose first and last third of rounds differ by more than this fraction is noisy.
        seconds: No round begins that would end later than this after the start; None for no such limit.
    """

    value_seconds: float = 0.020
    slices: int = 10
    slice_quantile: float = 0.1
    values: int = 2
    min_rounds: int = 9
    max_rounds: int = 30
    half_width: float = 0.02
    warm_runs: int = 10
    warm_seconds: float = 0.5
    settle_seconds: float = 1.0
    segment: int = 4
    anchor_quantile: float = 0.25
    off_limit: float = 0.15
    drift_limit: float = 0.03
    seconds: float | None = None


FULL = MeasuringPlan()
FEWEST_ROUNDS = 3  # that an interval over rounds can be believed of
WARM_CHUNKS, WARM_CHUNK_SECONDS = 4, 0.002  # a warm-up is at least so many pieces, of about so long after the first


class _Model:
    """One model under measurement: how it is timed, and its values so far with the round and moment of each."""

    def __init__(self, runner: Runner, plan: MeasuringPlan) -> None:
        """Warm the model up and decide how many inferences a slice has."""
        self.runner = runner
        one = _warm(runner, plan.warm_runs, plan.warm_seconds)
        self.count = max(1, int(np.ceil(plan.value_seconds / (plan.slices * one))))
        self.slices, self.quantile = plan.slices, plan.slice_quantile
        self.rounds: list[int] = []
        self.moments: list[float] = []
        self.raw_ms: list[float] = []
        self.mean_ms: list[float] = []

    def sample(self, number: int, clock: Callable[[], float]) -> None:
        """Take one value for round ``number``."""
        if isinstance(self.runner, SlicedRunner):
            seconds = self.runner.run_slices(self.count, self.slices)
        else:
            seconds = [self.runner.run(self.count) for _ in range(self.slices)]
        took = np.asarray(seconds) / self.count * 1e3
        self.raw_ms.append(float(np.quantile(took, self.quantile)))
        self.mean_ms.append(float(took.mean()))
        self.moments.append(clock())
        self.rounds.append(number)

    def at(self, moments: list[float]) -> Floats:
        """Return the milliseconds at ``moments``, interpolated between running medians of three values."""
        padded = np.pad(np.asarray(self.raw_ms), 1, mode="edge")
        smooth = np.median(np.stack([padded[:-2], padded[1:-1], padded[2:]]), axis=0)
        return np.interp(moments, self.moments, smooth)


def measure_interleaved(
    runners: Mapping[str, Runner],
    reference: Runner,
    *,
    plan: MeasuringPlan = FULL,
    rng: np.random.Generator,
    baseline_ms: float | None = None,
    progress: Progress | None = None,
    clock: Callable[[], float] = time.perf_counter,
) -> dict[str, Measurement]:
    """Time a batch of loaded models.

    Args:
        runners: Name to loaded model.
        reference: The device's reference net.
        plan: The protocol's numbers.
        rng: Draws the order of each round and the bootstrap.
        baseline_ms: What the reference net took in an earlier run to which these latencies shall be comparable;
            None anchors the drift correction to this run's own. Every latency is then scaled by one factor, which its
            ``drift`` says and its ``raw_ms`` has not.
        progress: Called after each timing.
        clock: Seconds, monotonic.

    Returns:
        Name to measurement, in the order of ``runners``.
    """
    if not runners:
        return {}
    results: dict[str, Measurement] = {}
    with _no_garbage_collection():
        start = clock()
        _warm(reference, 1, plan.settle_seconds)
        anchor = _Model(reference, plan)
        models = {name: _Model(runner, plan) for name, runner in runners.items()}
        still_open, done, first_round = list(models), 0, clock()
        for number in range(plan.max_rounds):
            expected = done + len(still_open) * max(1, plan.min_rounds - number)
            for _ in _round([models[name] for name in still_open], anchor, number, plan, rng, clock):
                done += 1
                if progress is not None:
                    progress(done, expected)
            now = clock()
            last = plan.seconds is not None and now - start + (now - first_round) / (number + 1) > plan.seconds
            last |= number + 1 == plan.max_rounds
            if number + 1 >= plan.min_rounds or last:
                # All of them each time: the anchor moves with every round, and one yardstick must hold for all.
                results = {name: _summary(model, anchor, baseline_ms, plan, rng) for name, model in models.items()}
                still_open = [name for name in models if results[name].quality != OK]
            if last or not still_open:
                break
    if any(abs(one.drift - 1) > plan.off_limit for one in results.values()):  # more rounds would not mend that
        return {name: replace(one, quality=NOISY) for name, one in results.items()}
    return results


def _round(
    models: list[_Model],
    anchor: _Model,
    number: int,
    plan: MeasuringPlan,
    rng: np.random.Generator,
    clock: Callable[[], float],
) -> Iterator[None]:
    """Time each model once, in random order, with the reference net before, after and every few models."""
    anchor.sample(number, clock)
    for place, index in enumerate(rng.permutation(len(models)), start=1):
        models[index].runner.run(2)  # its code and weights back into the caches
        for _ in range(plan.values):
            models[index].sample(number, clock)
        if place % plan.segment == 0 or place == len(models):
            anchor.runner.run(2)
            anchor.sample(number, clock)
        yield


def _warm(runner: Runner, runs: int, seconds: float) -> float:
    """Run for at least ``runs`` inferences and ``seconds``; return the seconds of one inference, undisturbed."""
    spent, chunk = 0.0, max(1, runs)
    times: list[float] = []
    while spent < seconds or len(times) < WARM_CHUNKS:
        took = max(runner.run(chunk), 1e-9)
        times.append(took / chunk)
        spent += took
        chunk = int(np.clip(WARM_CHUNK_SECONDS / times[-1], 1, 10_000))
    return min(times)


def _summary(
    model: _Model,
    anchor: _Model,
    baseline_ms: float | None,
    plan: MeasuringPlan,
    rng: np.random.Generator,
) -> Measurement:
    """Correct a model's values for the machine's drift, drop what was too far off, and summarise the rest by rounds."""
    typical = float(np.quantile(anchor.raw_ms, plan.anchor_quantile))
    around = anchor.at(model.moments)
    kept = np.abs(around / typical - 1) <= plan.off_limit
    usable = bool(kept.any())
    if not usable:  # never quiet: what there is, marked noisy
        kept = np.ones_like(kept)
    raw, mean, rounds = (np.asarray(values)[kept] for values in (model.raw_ms, model.mean_ms, model.rounds))
    corrected = raw * (baseline_ms or typical) / around[kept]
    medians = _round_medians(corrected, rounds)
    latency = float(np.median(medians))
    low, high = bootstrap_median(medians, rng)
    enough = len(medians) >= max(plan.min_rounds, FEWEST_ROUNDS)
    good = usable and enough and (high - low) / (2 * latency) <= plan.half_width and _steady(medians, plan)
    return Measurement(
        latency_ms=latency,
        ci_low_ms=low,
        ci_high_ms=high,
        raw_ms=float(np.median(_round_medians(raw, rounds))),
        mean_ms=float(np.median(_round_medians(mean, rounds))),
        min_ms=float(corrected.min()),
        p90_ms=float(np.quantile(corrected, 0.9)),
        mad_ms=float(np.median(np.abs(corrected - np.median(corrected)))),
        reference_ms=typical,
        drift=typical / baseline_ms if baseline_ms else 1.0,
        rounds=len(medians),
        values=len(corrected),
        quality=OK if good else NOISY,
    )


def _round_medians(values: Floats, rounds: Floats) -> Floats:
    return np.array([np.median(values[rounds == number]) for number in np.unique(rounds)])


def _steady(medians: Floats, plan: MeasuringPlan) -> bool:
    """Return whether the first and the last third of the rounds, at least ``FEWEST_ROUNDS``, agree."""
    third = len(medians) // 3
    return abs(float(np.median(medians[:third]) / np.median(medians[-third:])) - 1) <= plan.drift_limit


@contextmanager
def _no_garbage_collection() -> Iterator[None]:
    was_enabled = gc.isenabled()
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()
