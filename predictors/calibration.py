"""Calibrates a device: measures networks of a space for about a minute, fits table and predictor, says how good they are.

    CACHE/calibrations/<device>-<space>-<key>/
        networks.csv                 every measured network, appended batch by batch
        predictor.json               radius and correction
        predictor_table.csv, .json   the latency table and what it is of
        report.json                  written last: a calibration with a report is whole

The key is a hash of the device's fingerprint (hardware, runtime, version, threads), the space's choices, the channels and
the classes. Whatever differs makes another folder; ``calibration_changes`` says what differs from the one there is.
"""

import hashlib
import json
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from latency_tables import Device, Measurement, MeasuringPlan
from latency_tables.builder import timing_model
from latency_tables.design import searched_networks, spread_networks
from latency_tables.features import Images
from latency_tables.fingerprint import differences
from latency_tables.lock import exclusive
from latency_tables.measurement import OK
from latency_tables.rows import MeasuredRow, append_rows, genes_of, latencies_of, read_rows
from latency_tables.table import MEND, Genes, LatencyTable, read_identity
from nas.errors import FileFormatError, UsageError
from nas.files import cache_dir, read_json, write_json
from predictors.calibration_report import CalibrationReport, LatencyErrors
from predictors.latency import LatencyPredictor, table_path
from search_spaces import MBConvSpace

SCHEMA = "hwnas calibration"
SCHEMA_VERSION = 1
SEED = 0

SPREAD, PROPOSED = "spread", "proposed"  # what is fitted to: spread over the space, and what a search on that fit returns
RANDOM, SEARCHED, REPEAT = "random", "searched", "repeat"  # what is not
BATCH = 40  # networks measured together
MIN_BATCHES, MAX_BATCHES = 3, 12
RESERVED_BATCHES = 3.5  # time, in batches, kept for the one under way, the proposals and the held-out networks
HELD_OUT = 16  # networks of each sort

PLAN = MeasuringPlan(values=1, min_rounds=5, max_rounds=5, warm_seconds=0.03)
HELD_OUT_PLAN = replace(PLAN, min_rounds=9, max_rounds=9)

NETWORKS, PREDICTOR, REPORT = "networks.csv", "predictor.json", "report.json"
STAGE = "calibrate"

Listener = Callable[[str, int, int], None]  # (stage, done, total)


@dataclass(frozen=True, eq=False)
class Calibration:
    """A calibrated device: what it predicts, how well, and where it is kept."""

    predictor: LatencyPredictor
    report: CalibrationReport
    folder: Path
    reused: bool

    @property
    def table(self) -> LatencyTable:
        """The latency table."""
        assert self.predictor.table is not None
        return self.predictor.table

    @property
    def reference_ms(self) -> float:
        """What the reference net took: ``baseline_ms`` for later measurements that shall compare with the predictions."""
        return self.report.reference_ms

    @property
    def seconds(self) -> float:
        """What the calibration took when it was made."""
        return self.report.seconds


def calibration_folder(device: Device, space: MBConvSpace, *, channels: int, classes: int) -> Path:
    """Return where the calibration of this device, space and kind of images is kept."""
    key = [device.fingerprint, space.preset.digest, list(space.precisions), channels, classes, SCHEMA_VERSION]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:12]
    return cache_dir() / "calibrations" / f"{device.name}-{space.name}-{name}"


def load_calibration(device: Device, space: MBConvSpace, *, channels: int, classes: int) -> Calibration | None:
    """Return the finished calibration in the cache, or None.

    Raises:
        FileFormatError: It is damaged; the message names the file and the mend.
    """
    return _load(calibration_folder(device, space, channels=channels, classes=classes), space)


def calibration_changes(device: Device, space: MBConvSpace, *, channels: int, classes: int) -> list[str]:
    """Return what differs between this device and the newest calibration of the same name and space, one line each.

    Empty where this very device is calibrated, or nothing of that name is.
    """
    own = calibration_folder(device, space, channels=channels, classes=classes)
    if (own / REPORT).exists():
        return []
    others = [report.parent for report in own.parent.glob(f"{device.name}-{space.name}-*/{REPORT}")]
    for folder in sorted(others, key=lambda folder: (folder / REPORT).stat().st_mtime, reverse=True):
        try:
            identity = read_identity(table_path(folder / PREDICTOR).with_suffix(".json"))
        except FileFormatError:
            continue
        before = {"space choices": identity.space_digest, "channels": identity.channels, "classes": identity.classes}
        now = {"space choices": space.preset.digest, "channels": channels, "classes": classes}
        return differences({**identity.device, **before}, {**device.describe(), **now})
    return []


def calibrate(
    device: Device,
    space: MBConvSpace,
    *,
    channels: int,
    classes: int,
    seconds: float = 80.0,
    fresh: bool = False,
    progress: Listener | None = None,
) -> Calibration:
    """Return the calibration of ``device`` for ``space``: the one in the cache, or a new one.

    One that was cut short is continued: networks already measured are not measured again.

    Args:
        device: What is measured.
        space: ``get_space(name, device.precisions)``.
        channels: Channels of the images.
        classes: Classes of the classifier.
        seconds: About how long it may take; the least that a fit needs is measured in any case.
        fresh: Throw away what is in the cache first.
        progress: Called with (stage, seconds done, seconds in all).

    Raises:
        UsageError: The space's precisions are not on the device's menu.
        FileFormatError: The calibration in the cache is damaged.
        DeviceError: Another process is calibrating this device, or a network cannot be measured.
    """
    absent = [precision for precision in space.precisions if precision not in device.precisions]
    if absent:
        raise UsageError(
            f"space {space.name!r} with {', '.join(absent)}; device {device.name!r} executes: {', '.join(device.precisions)}"
        )
    folder = calibration_folder(device, space, channels=channels, classes=classes)
    with exclusive(folder.parent / f"{device.name}.lock", f"device {device.name!r}"):
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        found = _load(folder, space)
        if found is not None:
            return found
        job = _Job(device, space, Images(channels, classes), folder, seconds, progress or _silent)
        return job.run()


def _load(folder: Path, space: MBConvSpace) -> Calibration | None:
    path = folder / REPORT
    if not path.exists():
        return None
    try:
        report = CalibrationReport.from_dict(read_json(path, SCHEMA, SCHEMA_VERSION), str(path))
    except FileFormatError as error:
        raise FileFormatError(f"{error}; {MEND}") from error
    return Calibration(LatencyPredictor.load(folder / PREDICTOR, space), report, folder, reused=True)


def _silent(stage: str, done: int, total: int) -> None:
    pass


class _Job:
    """One calibration under way."""

    def __init__(
        self, device: Device, space: MBConvSpace, images: Images, folder: Path, seconds: float, progress: Listener
    ) -> None:
        self.device, self.space, self.images, self.folder = device, space, images, folder
        self.seconds, self.progress = seconds, progress
        self.begun = time.perf_counter()
        self.rows = read_rows(folder / NETWORKS)
        self.batch_seconds = 0.0

    def run(self) -> Calibration:
        spread = spread_networks(self.space, MAX_BATCHES * BATCH, np.random.default_rng(SEED))
        for number in range(MAX_BATCHES):
            if number >= MIN_BATCHES and not self._room_for(RESERVED_BATCHES):
                break
            self._measure(SPREAD, spread[number * BATCH : (number + 1) * BATCH], PLAN)
        self._measure(PROPOSED, self._proposals(PROPOSED, BATCH, SEED + 1), PLAN)
        self._measure_held_out()
        return self._finish()

    def _room_for(self, batches: float) -> bool:
        return self._elapsed() + batches * self.batch_seconds <= self.seconds

    def _elapsed(self) -> float:
        return time.perf_counter() - self.begun

    def _of(self, *roles: str) -> list[MeasuredRow]:
        return [row for row in self.rows if row.role in roles]

    def _proposals(self, role: str, n: int, seed: int) -> Genes:
        """Return what a search on the fit so far returns, as many as ``role`` still lacks."""
        predictor = self._fit(SPREAD, PROPOSED)
        assert predictor.table is not None
        lacking = max(0, n - len(self._of(role)))
        return searched_networks(self.space, predictor.table.predict_ms, n, np.random.default_rng(seed))[:lacking]

    def _measure_held_out(self) -> None:
        """Measure, in sessions of their own, networks that are not fitted to, and some of the others again."""
        known = self._of(SPREAD)
        step = max(1, len(known) // HELD_OUT)
        jobs = {
            RANDOM: self.space.sample(HELD_OUT, np.random.default_rng(SEED + 2)),
            SEARCHED: self._proposals(SEARCHED, HELD_OUT, SEED + 3),
            REPEAT: genes_of(known[::step][:HELD_OUT]),
        }
        models = {(role, tuple(map(int, row))): row for role, genes in jobs.items() for row in genes}
        self._measure_models(models, HELD_OUT_PLAN)

    def _measure(self, role: str, genes: Genes, plan: MeasuringPlan) -> None:
        self._measure_models({(role, tuple(map(int, row))): row for row in genes}, plan)

    def _measure_models(self, wanted: dict[tuple[str, tuple[int, ...]], Genes], plan: MeasuringPlan) -> None:
        """Measure what is not measured yet, and append it to the file."""
        begun, known = self._elapsed(), {(row.role, row.genes) for row in self.rows}
        missing = {key: row for key, row in wanted.items() if key not in known}
        if not missing:
            return
        models = {}
        for (role, genes), row in missing.items():
            models[f"{role} {' '.join(map(str, genes))}"] = timing_model(self.space, row, self.images)
            self._tell()
        baseline = self.rows[0].baseline_ms if self.rows else None
        measured = self.device.measure_many(
            models, plan=plan, seed=len(self.rows), baseline_ms=baseline, progress=lambda done, total: self._tell()
        )
        rows = [
            _row(role, genes, measurement, baseline or measurement.reference_ms)
            for (role, genes), measurement in zip(missing, measured.values(), strict=True)
        ]
        append_rows(self.folder / NETWORKS, rows)
        self.rows += rows
        self.batch_seconds = self._elapsed() - begun

    def _tell(self) -> None:
        whole = max(1, int(self.seconds))
        self.progress(STAGE, min(int(self._elapsed()), whole - 1), whole)

    def _fit(self, *roles: str) -> LatencyPredictor:
        rows = self._of(*roles)
        predictor = LatencyPredictor(self.space, channels=self.images.channels, classes=self.images.classes)
        return predictor.fit(genes_of(rows), latencies_of(rows), seed=SEED)

    def _finish(self) -> Calibration:
        """Judge a fit by the networks held out from it; keep one that has seen them all."""
        judged, final = self._fit(SPREAD, PROPOSED), self._fit(SPREAD, PROPOSED, RANDOM, SEARCHED)
        before = {row.genes: row.latency_ms for row in self._of(SPREAD)}
        again = np.array([abs(row.latency_ms / before[row.genes] - 1) for row in self._of(REPEAT)])
        assert judged.radius is not None and final.radius is not None
        report = CalibrationReport(
            device=self.device.name,
            runtime=self.device.runtime,
            fingerprint=self.device.fingerprint,
            simulated=self.device.simulated,
            space=self.space.name,
            fitted=len(self._of(SPREAD, PROPOSED)),
            noisy=float(np.mean([row.quality != OK for row in self.rows])),
            reference_ms=self.rows[0].baseline_ms,
            interval=float(np.expm1(final.radius)),
            corrected=bool(final.correction),
            random=_errors(judged, self._of(RANDOM)),
            searched=_errors(judged, self._of(SEARCHED)),
            repeatability=float(again.mean()),
            repeatability_worst=float(again.max()),
            repeated=len(again),
            seconds=round(self._elapsed(), 1),
        )
        final.save(self.folder / PREDICTOR, self.device.describe())
        write_json(self.folder / REPORT, SCHEMA, SCHEMA_VERSION, report.to_dict())
        whole = max(1, int(self.seconds))
        self.progress(STAGE, whole, whole)
        return Calibration(final, report, self.folder, reused=False)


def _errors(predictor: LatencyPredictor, rows: list[MeasuredRow]) -> LatencyErrors:
    return LatencyErrors.of(predictor.predict(genes_of(rows)), latencies_of(rows))


def _row(role: str, genes: tuple[int, ...], measurement: Measurement, baseline_ms: float) -> MeasuredRow:
    shared = {name: getattr(measurement, name) for name in MeasuredRow.__dataclass_fields__ if hasattr(measurement, name)}
    return MeasuredRow(role=role, genes=genes, baseline_ms=baseline_ms, **shared)
