"""A bundle measured again: the accuracy and the latency of its model beside what its report says."""

import math
from pathlib import Path
from typing import Any

from latency_tables import FULL, Device, MeasuringPlan
from nas.compression import correct_images
from nas.errors import FileFormatError
from nas.export.accuracy import matching_splits
from nas.export.bundle import REPORT, Bundle
from nas.export.progress import NO_PROGRESS, Progress
from nas.export.result import LATENCY
from supernets.datasets import ImageSet

FIGURES = ("accuracy", "test_accuracy", *LATENCY)


def evaluate_bundle(
    bundle: Bundle,
    device: Device,
    *,
    data: str | Path | None = None,
    plan: MeasuringPlan = FULL,
    progress: Progress = NO_PROGRESS,
) -> dict[str, Any]:
    """Measure a bundle's model on images and on a device.

    Args:
        bundle: What ``load_bundle`` returned.
        device: Where to time it.
        data: As in ``matching_splits``.
        plan: The measuring protocol's numbers.
        progress: Called with (stage, done, total).

    Returns:
        ``id``, ``device``, ``same_device``, ``reported`` and ``now``, the last two with ``accuracy``, ``test_accuracy``
        (fractions; None where the weights are untrained) and the latency's figures, as in ``result.json``.

    Raises:
        FileFormatError: The report lacks a figure, or has one that cannot be.
        DataError: The images are missing, or have other classes.
        DeviceError: The device cannot measure.
    """
    try:
        reported = {name: bundle.report["measured"][name] for name in FIGURES}
        reported["fingerprint"] = bundle.report["device"]["fingerprint"]
        baseline_ms = bundle.report["latency"]["baseline_ms"]
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{bundle.path / REPORT}: it has no measured {error}") from error
    if baseline_ms is not None and not (_is_number(baseline_ms) and 0 < baseline_ms < math.inf):
        where = f"{bundle.path / REPORT}: baseline_ms {baseline_ms!r}"
        raise FileFormatError(f"{where}; allowed: null, or milliseconds above 0")
    size = max(bundle.preset.resolutions)
    parts: list[tuple[str, ImageSet]] = []
    if reported["accuracy"] is not None:  # else the weights are untrained
        splits = matching_splits(data, bundle.images, size, progress.part("read images"))
        parts = [("accuracy", splits.validation), ("test_accuracy", splits.test)]
    same_device = reported["fingerprint"] == device.fingerprint
    timing = device.measure_many(
        {"model": bundle.onnx_model}, plan=plan, baseline_ms=baseline_ms if same_device else None,
        progress=progress.part("time"), note=progress.note,
    )["model"]  # fmt: skip
    session, resolution = device.session(bundle.onnx_model), bundle.candidate.resolution
    accuracy: dict[str, float | None] = {"accuracy": None, "test_accuracy": None}
    for done, (name, images) in enumerate(parts, start=1):
        accuracy[name] = float(correct_images(session, images, resolution, bundle.images).mean())
        progress.part("evaluate")(done, 2)
    now = {**accuracy, **{name: getattr(timing, name) for name in FIGURES if name not in accuracy}}
    return {
        "id": bundle.candidate.id,
        "device": {"name": device.name, "runtime": device.runtime, "fingerprint": device.fingerprint},
        "same_device": same_device,
        "reported": reported,
        "now": now,
    }


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
