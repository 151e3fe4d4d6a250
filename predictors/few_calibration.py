"""Calibrates a device from a few measured networks and the tables of other devices (``few_shot``).

    CACHE/few-shot/<device>-<space>-<key>/
        predictor.json, predictor_table.csv, .json   as of a whole calibration
        report.json                                  written last, with the hashes of the others

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
from latency_tables.measurement import Floats
from latency_tables.table import MEND
from nas.errors import FileFormatError, UsageError
from nas.files import cache_dir, exists, read_json, sha256, write_json
from predictors.calibration import HASHED, PREDICTOR, REPORT, calibration_folder
from predictors.calibration_job import JUDGING, STAGE, Listener
from predictors.calibration_report import LatencyErrors
from predictors.few_shot import CONSTANT, FEWEST, FewShot, Known, few_shot
from predictors.few_shot_report import FewShotReport
from predictors.known_devices import known_tables
from predictors.latency import LatencyPredictor
from search_spaces import Genes, SearchSpace

SCHEMA, SCHEMA_VERSION = "hwnas few-shot calibration", 1
MOST = 100  # networks; from there on a whole calibration is the better use of time
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
    content = read_json(folder / REPORT, SCHEMA, SCHEMA_VERSION)
    if content.get("files") != {name: sha256(folder / name) for name in HASHED}:
        raise FileFormatError(f"{folder / REPORT}: a file beside it is not the recorded one; {MEND}")
    report = FewShotReport.from_dict(content.get("report", {}), str(folder / REPORT))
    return FewShotCalibration(LatencyPredictor.load(folder / PREDICTOR, space), report, folder, reused=True)


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

    Args:
        device: What is measured.
        space: The space, with the device's menu.
        channels: Channels of the images.
        classes: Classes of the classifier.
        networks: How many are measured, ``FEWEST`` to ``MOST``.
        fresh: Measure anew whatever there is.
        seed: Decides the networks.
        progress: Called with (stage, networks' timings done, expected in all).
        note: Told when another process is measuring the device and must be waited for.

    Raises:
        UsageError: The number of networks is out of range, or the space has not as many.
        FileFormatError: What is in the cache is damaged.
        DeviceError: The device cannot measure.
        OutputError: The cache cannot be written.
    """
    if not FEWEST <= networks <= min(MOST, space.size):
        raise UsageError(f"{networks} networks of space {space.name!r}; allowed: {FEWEST} to {min(MOST, space.size)}")
    found = None if fresh else load_few_shot(device, space, channels=channels, classes=classes)
    if found is not None and found.report.networks == networks:
        return found
    begun, images = time.perf_counter(), Images(channels, classes)
    genes = spread_networks(space, networks, np.random.default_rng(seed))
    models = {str(number): timing_model(space, row, images, device.quantization) for number, row in enumerate(genes)}
    tell: Listener = progress or _silent
    measured = device.measure_many(
        models, plan=JUDGING, seed=seed, note=note, progress=lambda done, total: tell(STAGE, done, total)
    )
    ms = np.array([one.latency_ms for one in measured.values()])
    sources = known_tables(device, space, images)
    predictor, shot = fit_few(space, images, genes, ms, sources)
    report = FewShotReport(
        device=device.name,
        runtime=device.runtime,
        fingerprint=device.fingerprint,
        simulated=device.simulated,
        space=space.name,
        networks=len(genes),
        known=tuple(sources),
        chosen=shot.chosen.name,
        weights={name: weight for name, weight in shot.chosen.weights.items() if weight > 0},
        exponent=shot.chosen.exponent,
        errors=dict(shot.errors),
        left_out=LatencyErrors.of(shot.left_out, ms),
        interval=float(np.expm1(shot.radius)),
        reference_ms=next(iter(measured.values())).reference_ms,
        seconds=round(time.perf_counter() - begun, 1),
    )
    folder = few_shot_folder(device, space, channels=channels, classes=classes)
    predictor.save(folder / PREDICTOR, device.describe())
    files = {name: sha256(folder / name) for name in HASHED}
    write_json(folder / REPORT, SCHEMA, SCHEMA_VERSION, {"files": files, "report": report.to_dict()})
    return FewShotCalibration(predictor, report, folder, reused=False)


def _silent(stage: str, done: int, total: int) -> None:
    pass
