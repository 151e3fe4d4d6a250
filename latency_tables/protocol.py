"""How latency is measured here, in one place: interleaved rounds beside a reference net.

A model's latency is the median over rounds of its round medians. In a round every model is timed once, in random order;
one value is the mean of as many inferences as last ``value_seconds``. A frozen reference net is timed before, between and
after, so that a machine that slows down for all is told from a model that is slow, and what it disturbed is corrected or
dropped. Rounds are added until the bootstrap interval of every model is narrow enough, to a limit; a model that does not
get there is marked noisy, never silently averaged.

Two things go beyond common practice: the reference is timed every few models and interpolated in time, since a round over
a large batch lasts seconds; and a value in which the operating system took the processor away (wall clock beyond the
thread's processor time) is taken again.
"""

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import numpy as np

from latency_tables.measurement import NOISY, OK, Floats, Measurement, bootstrap_median
from nas.errors import DeviceError


class Timing(NamedTuple):
    """Seconds on the wall clock, and seconds that the measuring thread was running (the same where unknown)."""

    wall_s: float
    busy_s: float


class Runner(Protocol):
    """One loaded model. ``run(count)`` runs ``count`` inferences back to back and says how long they took."""

    def run(self, count: int) -> Timing: ...


Progress = Callable[[int, int], None]  # (timings done, timings expected so far)


@dataclass(frozen=True)
class MeasuringPlan:
    """The protocol's numbers.

    Attributes:
        value_seconds: One value is at least this long.
        values: Values of a model in a round.
        min_rounds: Rounds before the intervals are looked at.
        max_rounds: Rounds at most.
        half_width: Relative half-width of the 95 % interval that is good enough.
        warm_runs: Inferences before the first value, at least.
        warm_seconds: Seconds of inferences before the first value, at least.
        settle_seconds: Seconds of the reference net before anything, to bring the machine out of its sleep.
        segment: Models between two timings of the reference net.
        off_limit: A value is dropped where the reference net is off its median by more than this fraction.
        drift_limit: A model whose first and last third of rounds differ by more than this fraction is noisy.
        stolen_limit: A value is retaken where the wall clock exceeds the thread's running time by this fraction.
        retakes: Retakes of a value, at most.
        seconds: No round begins that would end later than this after the start; None for no such limit.
    """

    value_seconds: float = 0.020
    values: int = 2
    min_rounds: int = 9
    max_rounds: int = 30
    half_width: float = 0.02
    warm_runs: int = 10
    warm_seconds: float = 0.5
    settle_seconds: float = 1.0
    segment: int = 4
    off_limit: float = 0.15
    drift_limit: float = 0.03
    stolen_limit: float = 0.05
    retakes: int = 2
    seconds: float | None = None


FULL = MeasuringPlan()


@dataclass
class _Samples:
    """The values of one model so far, with the moment of each."""

    count: int
    rounds: list[int] = field(default_factory=list)
    moments: list[float] = field(default_factory=list)
    raw_ms: list[float] = field(default_factory=list)


@dataclass
class _Reference:
    """The reference net's timings, and the machine's speed that they tell."""

    runner: Runner
    count: int
    moments: list[float] = field(default_factory=list)
    raw_ms: list[float] = field(default_factory=list)

    def sample(self, clock: Callable[[], float], plan: MeasuringPlan) -> None:
        self.raw_ms.append(_value(self.runner, self.count, plan))
        self.moments.append(clock())

    def at(self, moments: list[float]) -> Floats:
        """Return the reference net's milliseconds at ``moments``, interpolated between medians of three timings."""
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
            None anchors the drift correction to this run's own median.
        progress: Called after each timing.
        clock: Seconds, monotonic.

    Returns:
        Name to measurement, in the order of ``runners``.

    Raises:
        DeviceError: A model has no value left: the machine was busy in every round.
    """
    if not runners:
        return {}
    start = clock()
    with _no_garbage_collection():
        _warm(reference, 1, plan.settle_seconds)
        anchor = _Reference(reference, _count_for(reference, plan))
        samples = {name: _Samples(_warmed_count(runner, plan)) for name, runner in runners.items()}
        results: dict[str, Measurement] = {}
        open_names, done, begun = list(runners), 0, clock()
        for number in range(plan.max_rounds):
            expected = done + len(open_names) * max(1, plan.min_rounds - number)
            for name in _round(open_names, runners, samples, anchor, number, plan, rng, clock):
                done += 1
                if progress is not None and name is not None:
                    progress(done, expected)
            round_s = (clock() - begun) / (number + 1)
            last = number + 1 == plan.max_rounds or _too_late(clock() - start + round_s, plan)
            if number + 1 >= plan.min_rounds or last:
                latest = {name: _summary(name, samples[name], anchor, baseline_ms, plan, rng) for name in open_names}
                results.update(latest)
                open_names = [name for name in open_names if latest[name].quality != OK]
            if last or not open_names:
                break
    return {name: results[name] for name in runners}


def _too_late(end_s: float, plan: MeasuringPlan) -> bool:
    return plan.seconds is not None and end_s > plan.seconds


def _round(
    names: list[str],
    runners: Mapping[str, Runner],
    samples: Mapping[str, _Samples],
    anchor: _Reference,
    number: int,
    plan: MeasuringPlan,
    rng: np.random.Generator,
    clock: Callable[[], float],
) -> Iterator[str]:
    anchor.sample(clock, plan)
    for place, index in enumerate(rng.permutation(len(names)), start=1):
        name = names[index]
        own = samples[name]
        runners[name].run(2)  # its code and weights back into the caches
        for _ in range(plan.values):
            own.raw_ms.append(_value(runners[name], own.count, plan))
            own.moments.append(clock())
            own.rounds.append(number)
        if place % plan.segment == 0 or place == len(names):
            anchor.sample(clock, plan)
        yield name


def _value(runner: Runner, count: int, plan: MeasuringPlan) -> float:
    """Return the mean milliseconds of ``count`` inferences, retaken while the processor is taken away."""
    best: Timing | None = None
    for _ in range(plan.retakes + 1):
        timing = runner.run(count)
        if best is None or timing.wall_s < best.wall_s:
            best = timing
        if timing.wall_s <= timing.busy_s * (1 + plan.stolen_limit):
            return timing.wall_s / count * 1e3
    assert best is not None
    return best.wall_s / count * 1e3


def _warm(runner: Runner, runs: int, seconds: float) -> float:
    """Run for at least ``runs`` inferences and ``seconds``; return the seconds of one inference at the end."""
    spent, chunk = 0.0, max(1, runs)
    while True:
        last = max(runner.run(chunk).wall_s, 1e-9)
        spent += last
        if spent >= seconds:
            return last / chunk
        chunk = int(np.clip(0.05 / (last / chunk), 1, 10_000))


def _count_for(runner: Runner, plan: MeasuringPlan) -> int:
    return max(1, int(np.ceil(plan.value_seconds / _warm(runner, plan.warm_runs, plan.warm_seconds))))


def _warmed_count(runner: Runner, plan: MeasuringPlan) -> int:
    return _count_for(runner, plan)


def _summary(
    name: str,
    own: _Samples,
    anchor: _Reference,
    baseline_ms: float | None,
    plan: MeasuringPlan,
    rng: np.random.Generator,
) -> Measurement:
    typical = float(np.median(anchor.raw_ms))
    around = anchor.at(own.moments)
    raw, rounds = np.asarray(own.raw_ms), np.asarray(own.rounds)
    kept = np.abs(around / typical - 1) <= plan.off_limit
    if not kept.any():
        raise DeviceError(f"no usable timing of {name!r}: the reference net was off by more than {plan.off_limit:.0%} in "
                          f"all {len(set(own.rounds))} rounds; measure again when the machine is quiet")
    corrected = raw * ((baseline_ms or typical) / around)
    groups = [(corrected[kept & (rounds == number)], raw[kept & (rounds == number)]) for number in np.unique(rounds[kept])]
    medians = np.array([np.median(values) for values, _ in groups])
    latency = float(np.median(medians))
    low, high = bootstrap_median(medians, rng)
    good = (high - low) / (2 * latency) <= plan.half_width and _steady(medians, plan)
    values = corrected[kept]
    return Measurement(
        latency_ms=latency,
        ci_low_ms=low,
        ci_high_ms=high,
        raw_ms=float(np.median([np.median(before) for _, before in groups])),
        min_ms=float(values.min()),
        p90_ms=float(np.quantile(values, 0.9)),
        mad_ms=float(np.median(np.abs(values - np.median(values)))),
        reference_ms=typical,
        rounds=len(medians),
        values=len(values),
        quality=OK if good else NOISY,
    )


def _steady(medians: Floats, plan: MeasuringPlan) -> bool:
    third = len(medians) // 3
    if third < 3:
        return True
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
