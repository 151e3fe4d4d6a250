"""The folder of a calibration, of either kind: sealed when it is whole, and one that is measured anew lies beside it.

    FOLDER/networks.csv                          every measured network, appended batch by batch
    FOLDER/predictor.json, predictor_table.csv, .json
    FOLDER/report.json                           written last, with the hashes of the others and of itself
    .FOLDER.new/                                 one that is measured anew: it takes the other's place when it is whole

Who writes holds the device's lock (``Device.exclusively``).
"""

import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, TypeVar

from latency_tables import Device
from nas.errors import FileFormatError
from nas.files import exists, read_json, sha256, write_json
from nas.writing import writing

Found = TypeVar("Found")

NETWORKS, PREDICTOR, REPORT = "networks.csv", "predictor.json", "report.json"
HASHED = (PREDICTOR, "predictor_table.json", "predictor_table.csv")


def write_report(folder: Path, schema: str, schema_version: int, report: Mapping[str, Any]) -> None:
    """Write the report of a calibration whose other files are written, with their hashes and its own."""
    sealed = {"files": {name: sha256(folder / name) for name in HASHED}, "report": report}
    write_json(folder / REPORT, schema, schema_version, {**sealed, "sha256": _hash(sealed)})


def read_report(folder: Path, schema: str, schema_version: int) -> dict[str, Any]:
    """Return the report, after checking its own hash and those of the files beside it.

    Raises:
        FileFormatError: One of them is missing, or is not what was written.
    """
    path = folder / REPORT
    content = read_json(path, schema, schema_version)
    sealed = {name: content.get(name) for name in ("files", "report")}
    hashes = {path: (_hash(sealed), content.get("sha256"))}
    files, report = sealed["files"], sealed["report"]
    if not isinstance(files, dict) or files.keys() != set(HASHED) or not isinstance(report, dict):
        raise FileFormatError(f"{path}: it does not hold a report and the hashes of {', '.join(HASHED)}")
    hashes |= {folder / name: (sha256(folder / name), files[name]) for name in HASHED}
    for file, (found, recorded) in hashes.items():
        if found != recorded:
            raise FileFormatError(f"{file}: its SHA-256 is {found}, not the recorded {recorded}")
    return report


def _hash(content: object) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def under_way(folder: Path) -> Path:
    """Return where to measure: beside a finished calibration, which stays in use until there is a new one."""
    return _anew(folder) if exists(folder / REPORT) else folder


def read_steadily(folder: Path, device: Device, read: Callable[[], Found]) -> Found:
    """Return ``read()`` of the calibration in ``folder``; again where another took its place meanwhile.

    Raises:
        FileFormatError: ``read`` refuses a calibration that nobody has replaced, or the one that came after.
        DeviceError: Another process goes on measuring the device.
    """
    before = _version(folder)
    try:
        return read()
    except FileFormatError:
        if _version(folder) == before:
            raise
    with device.exclusively():  # whoever replaces a calibration holds it
        return read()


def _version(folder: Path) -> tuple[int, int] | None:
    """Return what tells this report from the next; None where there is none, as for a moment between two."""
    try:
        found = (folder / REPORT).stat()
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns


def measured_so_far(folder: Path) -> Path | None:
    """Return the file of what a calibration that was cut short has measured, or None where it has not begun."""
    path = under_way(folder) / NETWORKS
    return path if exists(path) else None


def take_place(folder: Path) -> None:
    """Let a whole calibration that was measured anew take the place of the one before; none of them is ever in part."""
    if exists(_anew(folder) / REPORT):
        old = folder.with_name(f".{folder.name}.old")
        with writing(folder):
            shutil.rmtree(old, ignore_errors=True)
            if exists(folder):
                folder.rename(old)
            _anew(folder).rename(folder)
            shutil.rmtree(old, ignore_errors=True)


def _anew(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.new")
