"""Calibrates a device: measures networks of a space for about a minute, fits a predictor, and says how good it is.

    CACHE/calibrations/<device>-<space>-<key>/
        networks.csv                 every measured network, appended batch by batch
        predictor.json               radius and correction
        predictor_table.csv, .json   the latency table and what it is of
        report.json                  written last: a calibration with a report is whole

The key is a hash of the device's fingerprint (hardware, runtime, version, threads), the space's choices, the channels
and the classes. Whatever differs makes another folder; ``calibration_changes`` says what differs from the one there is.
"""

import hashlib
import json
import shutil
from dataclasses import dataclass, replace
from pathlib import Path

from latency_tables import Device
from latency_tables.features import Images
from latency_tables.fingerprint import differences
from latency_tables.table import MEND, LatencyTable, read_identity
from nas.errors import DeviceError, FileFormatError, UsageError
from nas.files import cache_dir, read_json, write_json
from nas.lock import exclusive
from predictors.calibration_job import CalibrationJob, CalibrationPlan, Listener
from predictors.calibration_report import CalibrationReport
from predictors.latency import LatencyPredictor, table_path
from search_spaces import MBConvSpace

SCHEMA = "hwnas calibration"
SCHEMA_VERSION = 1

NETWORKS, PREDICTOR, REPORT = "networks.csv", "predictor.json", "report.json"


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
        """What the reference net took: ``baseline_ms`` of later measurements, so that they compare with predictions."""
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
    plan: CalibrationPlan | None = None,
    seconds: float | None = None,
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
        plan: How much is measured; the default suits small networks.
        seconds: About how long it may take, instead of the plan's.
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
            f"space {space.name!r} with {', '.join(absent)}; device {device.name!r} executes: "
            f"{', '.join(device.precisions)}"
        )
    folder = calibration_folder(device, space, channels=channels, classes=classes)
    with exclusive(folder.parent / f"{device.name}.lock", f"device {device.name!r} is being measured", DeviceError):
        if fresh:
            shutil.rmtree(folder, ignore_errors=True)
        found = _load(folder, space)
        if found is not None:
            return found
        images = Images(channels, classes)
        plan = plan or CalibrationPlan()
        plan = plan if seconds is None else replace(plan, seconds=seconds)
        job = CalibrationJob(device, space, images, folder / NETWORKS, plan, progress or _silent)
        predictor, report = job.run()
        predictor.save(folder / PREDICTOR, device.describe())
        write_json(folder / REPORT, SCHEMA, SCHEMA_VERSION, report.to_dict())
        return Calibration(predictor, report, folder, reused=False)


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
