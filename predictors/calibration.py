"""Calibrates a device: measures networks of a space for about a minute, fits a predictor, and says how good it is.

    CACHE/calibrations/<device>-<space>-<key>/
        calibration.png   the report's picture, drawn when it is first asked for; the rest as in ``calibration_files``

The key is a hash of the device's fingerprint (hardware, runtime, version, threads), the space's choices, the channels
and the classes. Whatever differs makes another folder, and a calibration whose files say otherwise is refused;
``calibration_changes`` says in what the device differs from the one that was calibrated before.
"""

import hashlib
import json
from dataclasses import dataclass, replace
from glob import escape
from pathlib import Path

from latency_tables import Device
from latency_tables.costs import Images
from latency_tables.device import Note
from latency_tables.fingerprint import differences
from latency_tables.table import MEND, LatencyTable, read_identity
from nas.errors import FileFormatError, UsageError
from nas.files import cache_dir, exists
from predictors.calibration_files import (
    NETWORKS,
    PREDICTOR,
    REPORT,
    read_report,
    read_steadily,
    take_place,
    under_way,
    write_report,
)
from predictors.calibration_job import CalibrationJob, CalibrationPlan, Listener
from predictors.calibration_report import CalibrationReport
from predictors.latency import LatencyPredictor, table_path
from search_spaces import SearchSpace

SCHEMA = "hwnas calibration"
SCHEMA_VERSION = 5

KEY_DIGITS = 12
PICTURE = "calibration.png"


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

    def picture(self) -> Path:
        """Return where the report's picture is, beside it; it is drawn where it is not there yet.

        Raises:
            OutputError: The cache cannot be written.
        """
        path = self.folder / PICTURE
        if not exists(path):
            from predictors.calibration_picture import save_calibration_picture  # matplotlib takes a second to import

            save_calibration_picture(self.report, path)
        return path


def calibration_folder(device: Device, space: SearchSpace, *, channels: int, classes: int) -> Path:
    """Return where the calibration of this device, space and kind of images is kept."""
    key = [device.fingerprint, space.preset.digest, list(space.precisions), channels, classes, SCHEMA_VERSION]
    name = hashlib.sha256(json.dumps(key).encode()).hexdigest()[:KEY_DIGITS]
    return cache_dir() / "calibrations" / f"{device.name}-{space.name}-{name}"


def load_calibration(device: Device, space: SearchSpace, *, channels: int, classes: int) -> Calibration | None:
    """Return the finished calibration in the cache, or None.

    Raises:
        FileFormatError: It is damaged or of something else; the message names the file and the mend.
    """
    folder = calibration_folder(device, space, channels=channels, classes=classes)
    return read_steadily(folder, device, lambda: _load(folder, device, space, Images(channels, classes)))


def _load(folder: Path, device: Device, space: SearchSpace, images: Images) -> Calibration | None:
    path = folder / REPORT
    if not exists(path):
        return None
    try:
        report = CalibrationReport.from_dict(read_report(folder, SCHEMA, SCHEMA_VERSION), str(path))
        predictor = LatencyPredictor.load(folder / PREDICTOR, space)
        _check_identity(table_path(folder / PREDICTOR).with_suffix(".json"), report, device, images)
    except FileFormatError as error:
        if MEND in str(error):
            raise
        raise FileFormatError(f"{error}; {MEND}") from error
    return Calibration(predictor, report, folder, reused=True)


def _check_identity(path: Path, report: CalibrationReport, device: Device, images: Images) -> None:
    """Refuse a calibration of another device or of other images; the space is checked with the table."""
    found, now = read_identity(path), device.fingerprint
    given = {**found.device, "fingerprint": found.fingerprint, "channels": found.channels, "classes": found.classes}
    wanted = {**device.describe(), "fingerprint": now, "channels": images.channels, "classes": images.classes}
    wrong = differences({**given, "report of": report.fingerprint}, {**wanted, "report of": now})
    if wrong:
        raise FileFormatError(f"{path}: not of this device and these images ({'; '.join(wrong)}); {MEND}")


def calibration_changes(device: Device, space: SearchSpace, *, channels: int, classes: int) -> list[str]:
    """Return in what this device differs from that of the newest calibration of its name and this space, a line each.

    Empty where this very device is calibrated, for whichever images, or nothing of that name is.
    """
    own = calibration_folder(device, space, channels=channels, classes=classes)
    if exists(own / REPORT):
        return []
    others = list(own.parent.glob(f"{escape(f'{device.name}-{space.name}')}-{'?' * KEY_DIGITS}/{REPORT}"))
    for report in sorted(others, key=lambda report: report.stat().st_mtime, reverse=True):
        try:
            identity = read_identity(table_path(report.parent / PREDICTOR).with_suffix(".json"))
        except FileFormatError:
            continue
        if identity.space_digest == space.preset.digest:
            return differences(identity.device, device.describe())
    return []


def calibrate(
    device: Device,
    space: SearchSpace,
    *,
    channels: int,
    classes: int,
    plan: CalibrationPlan | None = None,
    seconds: float | None = None,
    fresh: bool = False,
    progress: Listener | None = None,
    note: Note | None = None,
) -> Calibration:
    """Return the calibration of ``device`` for ``space``: the one in the cache, or a new one.

    One that was cut short is continued: networks already measured are not measured again, and their time counts.

    Args:
        device: What is measured.
        space: ``get_space(name, device.precisions)``.
        channels: Channels of the images.
        classes: Classes of the classifier.
        plan: How much is measured; the default suits small networks.
        seconds: About how long it may take, instead of the plan's.
        fresh: Measure anew even if there is a finished one, which stays until the new one takes its place. One that was
            cut short is continued all the same.
        progress: Called with (stage, seconds done, seconds in all).
        note: Told when another process is measuring the device and must be waited for.

    Raises:
        UsageError: The space's precisions are not on the device's menu, it has too few networks, or ``seconds`` is out
            of range.
        FileFormatError: The calibration in the cache is damaged.
        DeviceError: Another process goes on measuring this device, or a network cannot be measured.
        OutputError: The cache cannot be written.
    """
    absent = [precision for precision in space.precisions if precision not in device.precisions]
    if absent:
        raise UsageError(
            f"space {space.name!r} with {', '.join(absent)}; device {device.name!r} executes: "
            f"{', '.join(device.precisions)}"
        )
    plan = plan or CalibrationPlan()
    plan = plan if seconds is None else replace(plan, seconds=seconds)
    images = Images(channels, classes)
    found = None if fresh else load_calibration(device, space, channels=channels, classes=classes)
    if found is not None:
        return found
    folder = calibration_folder(device, space, channels=channels, classes=classes)
    with device.exclusively(note):
        take_place(folder)  # of one that was killed while it did
        found = None if fresh else load_calibration(device, space, channels=channels, classes=classes)
        if found is not None:  # made by another process while this one waited
            return found
        new = under_way(folder)
        predictor, report = CalibrationJob(device, space, images, new / NETWORKS, plan, progress or _silent).run()
        predictor.save(new / PREDICTOR, device.describe())
        write_report(new, SCHEMA, SCHEMA_VERSION, report.to_dict())
        take_place(folder)
        return Calibration(predictor, report, folder, reused=False)


def _silent(stage: str, done: int, total: int) -> None:
    pass
