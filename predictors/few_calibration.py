"""Calibrates a device from a few measured networks and the tables of other devices (``few_shot``).

    CACHE/few-shot/<device>-<space>-<key>/   as in ``calibration_files``

Measured networks are kept batch by batch, so that one that is cut short goes on where it was. A measurement that is
noisy is repeated once, and the steadier of the two counts.

It takes seconds where a whole calibration takes minutes, and is as good as what is known of other devices.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latency_tables import Device, LatencyTable
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.design import spread_networks
from latency_tables.device import Note
from latency_tables.features import NETWORK, cost_features, weighted_sum
from latency_tables.measurement import NOISY, Floats
from latency_tables.rows import MeasuredRow, append_rows, genes_of, latencies_of, measured_row, read_rows
from latency_tables.table import MEND
from nas.errors import FileFormatError, UsageError
from nas.files import cache_dir, exists
from predictors.calibration import calibration_folder
from predictors.calibration_files import NETWORKS, PREDICTOR, REPORT, read_report, take_place, under_way, write_report
from predictors.calibration_job import JUDGING, REPEAT, SPREAD, STAGE, Listener
from predictors.few_shot import CONSTANT, FEWEST, FewShot, Known, few_shot
from predictors.few_shot_report import FewShotReport, LeftOutErrors
from predictors.known_devices import known_tables
from predictors.latency import LatencyPredictor
from search_spaces import Genes, SearchSpace

SCHEMA, SCHEMA_VERSION = "hwnas few-shot calibration", 2
MOST = 100  # networks; from there on a whole calibration is the better use of time
TOGETHER = 10  # networks built and timed in one run: what memory holds, and what an interruption loses
OWN = "table"  # the candidate of the device's own


@dataclass(frozen=True, eq=False)
class FewShotCalibration:
    """A device that a few networks were measured on: what it predicts, how well, and where it is kept."""

    predictor: LatencyPredictor
    report: FewShotReport
    folder: Path
    reused: bool

    @property
    def reference_ms(self) -> float:
        """What the reference net took: ``baseline_ms`` of later measurements, so that they compare with predictions."""
        return self.report.reference_ms


def few_shot_folder(device: Device, space: SearchSpace, *, channels: int, classes: int) -> Path:
    """Return where the few-shot calibration of this device, space and kind of images is kept."""
    return cache_dir() / "few-shot" / calibration_folder(device, space, channels=channels, classes=classes).name


def fit_few(
    space: SearchSpace, images: Images, genes: Genes, ms: Floats, sources: Mapping[str, LatencyTable]
) -> tuple[LatencyPredictor, FewShot]:
    """Fit to a few networks.

    Args:
        space: The space, with the device's menu.
        images: What its networks are for.
        genes: Canonical rows ``(n, num_genes)``, 10 or more.
        ms: Their milliseconds ``(n,)``.
        sources: Tables of other devices, of the same space and images.

    Raises:
        UsageError: Too few networks, or a latency that is not positive and finite.
    """
    features = cost_features(space, images)
    tables = {**features, **sources, CONSTANT: features[NETWORK]}

    def said(columns: Mapping[str, LatencyTable]) -> dict[str, Floats]:
        return {name: table.predict_ms(genes).astype(np.float64) for name, table in columns.items()}

    found = few_shot(Known(said(sources), {OWN: said(features)}), ms)
    weights = found.chosen.weights
    table = weighted_sum({name: tables[name] for name in weights}, np.array(list(weights.values())))
    predictor = LatencyPredictor(space, table, channels=images.channels, classes=images.classes)
    predictor.exponent, predictor.radius = found.chosen.exponent, found.radius
    return predictor, found


def load_few_shot(device: Device, space: SearchSpace, *, channels: int, classes: int) -> FewShotCalibration | None:
    """Return the few-shot calibration in the cache, or None.

    Raises:
        FileFormatError: It is damaged; the message names the file and the mend.
    """
    folder = few_shot_folder(device, space, channels=channels, classes=classes)
    if not exists(folder / REPORT):
        return None
    try:
        report = FewShotReport.from_dict(read_report(folder, SCHEMA, SCHEMA_VERSION), str(folder / REPORT))
        return FewShotCalibration(LatencyPredictor.load(folder / PREDICTOR, space), report, folder, reused=True)
    except FileFormatError as error:
        if MEND in str(error):
            raise
        raise FileFormatError(f"{error}; {MEND}") from error


def calibrate_few(
    device: Device,
    space: SearchSpace,
    *,
    channels: int,
    classes: int,
    networks: int,
    fresh: bool = False,
    seed: int = 0,
    progress: Listener | None = None,
    note: Note | None = None,
) -> FewShotCalibration:
    """Return the few-shot calibration of ``device``: the one in the cache if it is of as many networks, or a new one.

    One that was cut short is continued.

    Args:
        device: What is measured.
        space: The space, with the device's menu.
        channels: Channels of the images.
        classes: Classes of the classifier.
        networks: How many are measured, ``FEWEST`` to ``MOST``.
        fresh: Measure anew even if there is a finished one, which stays until the new one takes its place.
        seed: Decides the networks.
        progress: Called with (stage, networks measured, networks in all).
        note: Told when another process is measuring the device and must be waited for.

    Raises:
        UsageError: The number of networks is out of range, or the space has not as many.
        FileFormatError: What is in the cache is damaged.
        DeviceError: The device cannot measure.
        OutputError: The cache cannot be written.
    """
    if not FEWEST <= networks <= min(MOST, space.size):
        raise UsageError(f"{networks} networks of space {space.name!r}; allowed: {FEWEST} to {min(MOST, space.size)}")

    def known() -> FewShotCalibration | None:
        found = None if fresh else load_few_shot(device, space, channels=channels, classes=classes)
        return found if found is not None and found.report.networks == networks else None

    if found := known():
        return found
    folder = few_shot_folder(device, space, channels=channels, classes=classes)
    with device.exclusively(note):
        take_place(folder)  # of one that was killed while it did
        if found := known():  # made by another process while this one waited
            return found
        new, images = under_way(folder), Images(channels, classes)
        genes = spread_networks(space, networks, np.random.default_rng(seed))
        rows = measured_networks(device, space, images, genes, new / NETWORKS, progress or _silent)
        predictor, report = _fitted(device, space, images, rows)
        predictor.save(new / PREDICTOR, device.describe())
        write_report(new, SCHEMA, SCHEMA_VERSION, report.to_dict())
        take_place(folder)
    return FewShotCalibration(predictor, report, folder, reused=False)


def measured_networks(
    device: Device, space: SearchSpace, images: Images, genes: Genes, path: Path, progress: Listener
) -> list[MeasuredRow]:
    """Measure networks, those that were noisy twice, and return the steadier row of each, in the order of ``genes``.

    Args:
        device: What is measured; the caller holds its lock.
        space: What the networks are of.
        images: What they are for.
        genes: Canonical rows ``(n, num_genes)``.
        path: The CSV of measured networks; what it holds is not measured again.
        progress: Called with (stage, networks measured, networks in all).

    Raises:
        FileFormatError: The CSV is damaged.
        DeviceError: The device cannot measure.
        OutputError: The CSV cannot be written.
    """
    keys = [tuple(map(int, row)) for row in genes]
    for role in (SPREAD, REPEAT):
        while missing := _missing(role, keys, read_rows(path))[:TOGETHER]:
            _measure(device, space, images, missing, role, path)
            done = {row.genes for row in read_rows(path)}
            progress(STAGE, sum(key in done for key in keys), len(keys))
    best: dict[tuple[int, ...], MeasuredRow] = {}
    for row in read_rows(path):
        if row.genes not in best or _unsteadiness(row) < _unsteadiness(best[row.genes]):
            best[row.genes] = row
    return [best[key] for key in keys]


def _missing(role: str, keys: list[tuple[int, ...]], rows: list[MeasuredRow]) -> list[tuple[int, ...]]:
    """Return the networks to measure in a role: those that are not yet, or not yet again though they were noisy."""
    noisy = {row.genes for row in rows if row.role == SPREAD and row.quality == NOISY}
    done = {row.genes for row in rows if row.role == role}
    return [key for key in keys if key not in done and (role == SPREAD or key in noisy)]


def _unsteadiness(row: MeasuredRow) -> tuple[bool, float]:
    return row.quality == NOISY, (row.ci_high_ms - row.ci_low_ms) / row.latency_ms


def _measure(
    device: Device, space: SearchSpace, images: Images, keys: list[tuple[int, ...]], role: str, path: Path
) -> None:
    """Measure networks in one run and append them to the file."""
    rows, begun = read_rows(path), time.perf_counter()
    models = {
        " ".join(map(str, key)): timing_model(space, np.array(key, np.int8), images, device.quantization)
        for key in keys
    }
    baseline = rows[0].baseline_ms if rows else None
    measured = device.measure_many(models, plan=JUDGING, seed=len(rows), baseline_ms=baseline)
    baseline, seconds = baseline or next(iter(measured.values())).reference_ms, time.perf_counter() - begun
    append_rows(
        path,
        [
            measured_row(role, key, one, baseline_ms=baseline, seconds=seconds / len(keys))
            for key, one in zip(keys, measured.values(), strict=True)
        ],
    )


def _fitted(
    device: Device, space: SearchSpace, images: Images, rows: list[MeasuredRow]
) -> tuple[LatencyPredictor, FewShotReport]:
    """Fit to measured networks, and say how good that is."""
    sources, ms = known_tables(device, space, images), latencies_of(rows)
    predictor, shot = fit_few(space, images, genes_of(rows), ms, sources)
    report = FewShotReport(
        device=device.name,
        runtime=device.runtime,
        fingerprint=device.fingerprint,
        simulated=device.simulated,
        space=space.name,
        networks=len(rows),
        noisy=float(np.mean([row.quality == NOISY for row in rows])),
        known=tuple(sources),
        chosen=shot.chosen.name,
        weights={name: weight for name, weight in shot.chosen.weights.items() if weight > 0},
        exponent=shot.chosen.exponent,
        errors=dict(shot.errors),
        left_out=LeftOutErrors.of(shot.left_out, ms),
        interval=float(np.expm1(shot.radius)),
        reference_ms=rows[0].baseline_ms,
        seconds=round(sum(row.seconds for row in rows), 1),
    )
    return predictor, report


def _silent(stage: str, done: int, total: int) -> None:
    pass
