"""The measuring and fitting of one calibration, resumable at every batch.

Networks spread over the space are measured as long as the time allows, then networks that a search on a first fit
proposes, so that what the fit gets wrong in a search's favour is measured. Then, in a session of their own, networks
held out from the fit (random ones, and ones a search proposes), and some of these again in another: error beside
repeatability.

What is measured in about a minute is measured by less than the full protocol: ``MEASURING`` and ``JUDGING`` have values
of half its slices, one a round, after a shorter warm-up, and ``MEASURING`` begins with 5 rounds; networks that judge
are measured by the full one where the time is enough. Noisy networks are neither fitted to nor judge, unless most are.
"""

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from latency_tables import Device, MeasuringPlan
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.design import distinct, searched_networks, spread_networks, without
from latency_tables.features import cost_features
from latency_tables.measurement import OK, Floats
from latency_tables.protocol import FULL
from latency_tables.regression import MIN_NETWORKS, CostRegression
from latency_tables.rows import MeasuredRow, append_rows, genes_of, latencies_of, measured_row, quiet_rows, read_rows
from latency_tables.table import MEND
from nas.errors import FileFormatError, UsageError
from predictors.calibration_report import CalibrationReport, LatencyErrors
from predictors.held_out import judged_networks
from predictors.latency import LatencyPredictor
from search_spaces import Genes, SearchSpace

Listener = Callable[[str, int, int], None]  # (stage, done, total)
STAGE = "calibrate"

SPREAD, PROPOSED = "spread", "proposed"  # roles of the networks that are fitted to
RANDOM, SEARCHED, REPEAT = "random", "searched", "repeat"  # and of those that judge the fit
ROLES = (SPREAD, PROPOSED, RANDOM, SEARCHED, REPEAT)
RESERVED_BATCHES = 4.0  # time, in batches, kept for one more, the proposals, and the held-out networks at more rounds
MOST_SECONDS = 1e6  # more than eleven days
BATCH_SHARE, JUDGING_SHARE, REPEAT_SHARE = 0.2, 0.2, 0.1  # of the time, that a session's timings may take at most
BESIDE_VALUES = 1.5  # how much longer a round takes than its values: the reference net, caches, building
FEWEST_HELD_OUT = 2  # of each role, to speak of their errors
FEWEST_NETWORKS = MIN_NETWORKS + 2 * FEWEST_HELD_OUT
MEASURING = MeasuringPlan(value_seconds=0.010, slices=5, values=1, min_rounds=5, max_rounds=9, warm_seconds=0.03)
MOST_BYTES = 2**30  # of models timed together: their sessions hold a few times as much
SPARE = 4  # random networks drawn for each that is held out, should some be measured already
JUDGING = replace(MEASURING, min_rounds=9, max_rounds=15)


@dataclass(frozen=True)
class CalibrationPlan:
    """How much a calibration measures.

    Attributes:
        seconds: About how long it may take; what ``min_batches`` asks for is measured in any case.
        batch: Networks measured together.
        min_batches: Batches of networks spread over the space, at least.
        max_batches: And at most.
        held_out: Networks of each judging role.
        measuring: The protocol for what is fitted to: many networks, few rounds.
        judging: The protocol for what judges; None for the full one where the time allows that, else ``JUDGING``.
        seed: Decides the networks, the order of their timings, and the folds of the fit.

    Raises:
        UsageError: ``seconds`` is no number from 0 to ``MOST_SECONDS``.
    """

    seconds: float = 70.0
    batch: int = 40
    min_batches: int = 2
    max_batches: int = 12
    held_out: int = 16
    measuring: MeasuringPlan = MEASURING
    judging: MeasuringPlan | None = None
    seed: int = 0

    def __post_init__(self) -> None:
        if not 0 <= self.seconds <= MOST_SECONDS:
            raise UsageError(f"calibration of {self.seconds:g} seconds; allowed: 0 to {MOST_SECONDS:g}")


class CalibrationJob:
    """One calibration under way.

    Args:
        device: What is measured.
        space: What networks are of.
        images: What the networks are for.
        path: The CSV of measured networks; what it holds is not measured again.
        plan: How much is measured.
        progress: Called with (stage, seconds done, seconds in all).
    """

    def __init__(
        self, device: Device, space: SearchSpace, images: Images, path: Path, plan: CalibrationPlan, progress: Listener
    ) -> None:
        self.device, self.space, self.images, self.path = device, space, images, path
        self.plan, self.progress = plan, progress
        self.regression = CostRegression(cost_features(space, images))
        if space.size < FEWEST_NETWORKS:
            raise UsageError(
                f"space {space.name!r} has {space.size} networks, too few to calibrate a device for; allowed: "
                f"{FEWEST_NETWORKS} or more; give its preset more choices"
            )
        self.rows = read_rows(path)
        _check_rows(path, self.rows, space)
        self.begun = time.perf_counter() - sum(row.seconds for row in self.rows)
        self.batch_seconds = sum(row.seconds for row in self.rows[-plan.batch :])

    def run(self) -> tuple[LatencyPredictor, CalibrationReport]:
        """Measure, fit and judge."""
        plan = self.plan
        spread = spread_networks(self.space, plan.max_batches * plan.batch, self._rng(0))
        for number in range(plan.max_batches):
            if number >= plan.min_batches and not self._room_for(RESERVED_BATCHES):
                break
            self._measure(SPREAD, spread[number * plan.batch : (number + 1) * plan.batch], plan.measuring)
        self._measure(PROPOSED, self._proposals(self._lacking(PROPOSED, plan.batch), self._rng(1)), plan.measuring)
        self._measure_held_out()
        return self._judged()

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.plan.seed, purpose])

    def _room_for(self, batches: float) -> bool:
        return self._elapsed() + batches * self.batch_seconds <= self.plan.seconds

    def _elapsed(self) -> float:
        """Return the seconds that this calibration has taken, those before an interruption included."""
        return time.perf_counter() - self.begun

    def _of(self, *roles: str) -> list[MeasuredRow]:
        return [row for row in self.rows if row.role in roles]

    def _lacking(self, role: str, n: int) -> int:
        return max(0, n - len(self._of(role)))

    def _proposals(self, n: int, rng: np.random.Generator, *taken: Genes) -> Genes:
        """Return what a search on the fit so far returns, apart from networks that are measured or ``taken``."""
        rows = quiet_rows(self._of(SPREAD, PROPOSED), MIN_NETWORKS)
        table = self.regression.fit(genes_of(rows), latencies_of(rows))
        known = np.concatenate([genes_of(self.rows), *taken])
        return searched_networks(self.space, table.predict_ms, n, rng, known=known)

    def _measure_held_out(self) -> None:
        """Measure, in a session of their own, networks that are not fitted to, and in another some of them again."""
        count, plan = self.plan.held_out, self._judging_plan()
        drawn = distinct(self.space.sample(SPARE * count, self._rng(2)))
        random = without(drawn, genes_of(self.rows))[: self._lacking(RANDOM, count)]
        searched = self._proposals(self._lacking(SEARCHED, count), self._rng(3), random)
        if min(len(random) + len(self._of(RANDOM)), len(searched) + len(self._of(SEARCHED))) < FEWEST_HELD_OUT:
            raise UsageError(
                f"space {self.space.name!r} has {self.space.size} networks, too few to hold some out from the "
                f"{len(self.rows)} fitted to; allowed: spaces with more; give its preset more choices"
            )
        self._measure_models([(RANDOM, random), (SEARCHED, searched)], self._limited(plan, JUDGING_SHARE))
        held = self._of(RANDOM, SEARCHED)
        again = genes_of(held[:: max(1, len(held) // count)][:count])
        self._measure_models([(REPEAT, again)], self._limited(plan, REPEAT_SHARE))

    def _judging_plan(self) -> MeasuringPlan:
        if self.plan.judging is not None:
            return self.plan.judging
        inference = np.array([row.raw_ms for row in self._of(SPREAD, PROPOSED)]) / 1e3
        value = float(np.maximum(FULL.value_seconds, FULL.slices * inference).mean())
        each = FULL.warm_seconds + BESIDE_VALUES * FULL.min_rounds * FULL.values * value
        is_enough = 3 * self.plan.held_out * each <= (JUDGING_SHARE + REPEAT_SHARE) * self.plan.seconds
        return FULL if is_enough else JUDGING

    def _measure(self, role: str, genes: Genes, plan: MeasuringPlan) -> None:
        self._measure_models([(role, genes)], self._limited(plan, BATCH_SHARE))

    def _limited(self, plan: MeasuringPlan, share: float) -> MeasuringPlan:
        """Let a machine that is short of time do fewer rounds rather than take much longer."""
        return plan if plan.seconds is not None else replace(plan, seconds=share * self.plan.seconds)

    def _measure_models(self, wanted: Sequence[tuple[str, Genes]], plan: MeasuringPlan) -> None:
        """Measure what is not measured yet, whatever for, and append it to the file; repeats are measured once more."""
        known = {(row.role == REPEAT, row.genes) for row in self.rows}
        keys = {(role, tuple(map(int, row))): row for role, genes in wanted for row in genes}
        missing = {(role, genes): row for (role, genes), row in keys.items() if (role == REPEAT, genes) not in known}
        begun = since = self._elapsed()
        together: dict[tuple[str, tuple[int, ...]], bytes] = {}
        for number, (key, row) in enumerate(missing.items(), start=1):
            together[key] = timing_model(self.space, row, self.images, self.device.quantization)
            self._tell()
            if number == len(missing) or sum(map(len, together.values())) >= MOST_BYTES:
                self._measure_together(together, since, plan)
                together, since = {}, self._elapsed()
        if missing:
            self.batch_seconds = self._elapsed() - begun

    def _measure_together(
        self, models: Mapping[tuple[str, tuple[int, ...]], bytes], since: float, plan: MeasuringPlan
    ) -> None:
        """Measure models, by role and genes, in one run; append them to the file with the seconds ``since``."""
        baseline = self.rows[0].baseline_ms if self.rows else None
        measured = self.device.measure_many(
            {f"{role} {' '.join(map(str, genes))}": model for (role, genes), model in models.items()},
            plan=plan,
            seed=len(self.rows),
            baseline_ms=baseline,
            progress=lambda done, total: self._tell(),
        )
        took, baseline = self._elapsed() - since, baseline or next(iter(measured.values())).reference_ms
        rows = [
            measured_row(role, genes, measurement, baseline_ms=baseline, seconds=took / len(models))
            for (role, genes), measurement in zip(models, measured.values(), strict=True)
        ]
        append_rows(self.path, rows)
        self.rows += rows

    def _tell(self) -> None:
        whole = max(1, int(self.plan.seconds))
        self.progress(STAGE, min(int(self._elapsed()), whole - 1), whole)

    def _fit(self, rows: Sequence[MeasuredRow]) -> LatencyPredictor:
        predictor = LatencyPredictor(self.space, channels=self.images.channels, classes=self.images.classes)
        return predictor.fit(genes_of(rows), latencies_of(rows), seed=self.plan.seed)

    def _judged(self) -> tuple[LatencyPredictor, CalibrationReport]:
        """Judge a fit by the networks held out from it; return one that has seen them all."""
        some = quiet_rows(self._of(SPREAD, PROPOSED), MIN_NETWORKS)
        random, searched = (quiet_rows(self._of(role), FEWEST_HELD_OUT) for role in (RANDOM, SEARCHED))
        every = [*some, *random, *searched]
        judged, final = self._fit(some), self._fit(every)
        noise = self._noise()
        assert judged.radius is not None and final.radius is not None
        report = CalibrationReport(
            device=self.device.name,
            runtime=self.device.runtime,
            fingerprint=self.device.fingerprint,
            simulated=self.device.simulated,
            space=self.space.name,
            fitted=len(every),
            fitted_when_judged=len(some),
            noisy=float(np.mean([row.quality != OK for row in self.rows])),
            left_out=len(self.rows) - len(self._of(REPEAT)) - len(every),
            reference_ms=self.rows[0].baseline_ms,
            interval=float(np.expm1(final.radius)),
            corrected=bool(final.correction),
            random=_errors(judged, random),
            searched=_errors(judged, searched),
            repeatability=float(noise.mean()),
            repeatability_worst=float(noise.max()),
            repeated=len(noise),
            held_out=judged_networks(judged, some, [*random, *searched]),
            seconds=round(self._elapsed(), 1),
        )
        whole = max(1, int(self.plan.seconds))
        self.progress(STAGE, whole, whole)
        return final, report

    def _noise(self) -> Floats:
        """Return how far, relative, a measurement of each repeated network is off, ``(n,)``.

        Two that are independent differ by the square root of 2 times as much.
        """
        first = {row.genes: row for row in self._of(RANDOM, SEARCHED)}
        pairs = [(first[row.genes], row) for row in self._of(REPEAT)]
        quiet = [pair for pair in pairs if all(row.quality == OK for row in pair)]
        pairs = quiet if 2 * len(quiet) >= len(pairs) else pairs
        return np.array([abs(second.latency_ms / one.latency_ms - 1) / np.sqrt(2) for one, second in pairs])


def _errors(predictor: LatencyPredictor, rows: list[MeasuredRow]) -> LatencyErrors:
    return LatencyErrors.of(predictor.predict(genes_of(rows)), latencies_of(rows))


def _check_rows(path: Path, rows: Sequence[MeasuredRow], space: SearchSpace) -> None:
    """Refuse rows that no calibration of ``space`` has measured."""
    held = {row.genes for row in rows if row.role in (RANDOM, SEARCHED)}
    for number, row in enumerate(rows, start=2):
        if row.role not in ROLES:
            wrong = f"has the role {row.role!r}; allowed: {', '.join(ROLES)}"
        elif not _is_network(row.genes, space):
            wrong = f"has not the {space.num_genes} genes of a network of space {space.name!r}"
        elif row.role == REPEAT and row.genes not in held:
            wrong = f"repeats a network that was not measured before as {RANDOM} or {SEARCHED}"
        else:
            continue
        raise FileFormatError(f"{path}: line {number} {wrong}; {MEND}")


def _is_network(genes: Sequence[int], space: SearchSpace) -> bool:
    """Tell whether these are the canonical genes of a network."""
    if len(genes) != space.num_genes or not all(
        0 <= gene < most for gene, most in zip(genes, space.cardinalities, strict=True)
    ):
        return False
    row = np.array([genes], np.int8)
    return np.array_equal(space.canonical(row), row)
