"""What the search asks of a candidate: its predicted accuracy and latency, and where the predictors come from."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from latency_tables import Device
from nas.errors import UsageError
from nas.export.progress import NO_PROGRESS, Progress
from nas.files import read_tensors
from predictors.accuracy import SCHEMA, SCHEMA_VERSION, AccuracyPredictor
from predictors.calibration import Calibration, calibrate, calibration_changes, load_calibration
from predictors.collect import supernet_fingerprint
from predictors.few_calibration import FewShotCalibration, load_few_shot
from predictors.few_shot_report import FewShotReport
from predictors.ofa_accuracy import KIND, OFAAccuracyPredictor
from search_spaces import Genes, SearchSpace, device_menu, get_space, make_space
from supernets import Supernet, get_supernet

ACCURACY_PREDICTOR = "accuracy_predictor.safetensors"


class Predicted(Protocol):
    """Predictions ``(n,)``; ``predictors.Prediction`` is one."""

    @property
    def mean(self) -> NDArray[np.floating]:
        """The predicted values."""


class Interval(Predicted, Protocol):
    """Predictions with an interval."""

    @property
    def high(self) -> NDArray[np.floating]:
        """The upper ends."""


class Predictor(Protocol):
    """Predicts one figure."""

    def predict(self, genes: Genes) -> Predicted:
        """Predict from canonical rows ``(n, num_genes)``."""


class LatencyPredictor(Protocol):
    """Predicts latency, with an interval."""

    def predict(self, genes: Genes) -> Interval:
        """Predict milliseconds from canonical rows ``(n, num_genes)``."""


class Scoring(Protocol):
    """Scores candidates; ``Scorer`` does for one device, ``FleetScorer`` for several."""

    def score(self, genes: Genes, *, pessimistic: bool = False) -> dict[str, NDArray[np.float64]]:
        """Return the figures that are predicted of genes ``(n, num_genes)``, ``(n,)`` each."""


@dataclass(frozen=True)
class Scorer:
    """Scores candidates by two predictors.

    Attributes:
        accuracy: Predicts validation accuracy, a fraction.
        latency: Predicts milliseconds.
        origin: Where they come from, as JSON, for the report.
        baseline_ms: What the reference net took when the latency predictor's networks were measured; later measurements
            are brought to it, so that they compare with the predictions. None where there was no such time.
    """

    accuracy: Predictor
    latency: LatencyPredictor
    origin: Mapping[str, Any]
    baseline_ms: float | None = None

    def score(self, genes: Genes, *, pessimistic: bool = False) -> dict[str, NDArray[np.float64]]:
        """Return ``accuracy`` and ``latency_ms`` of genes ``(n, num_genes)``, ``(n,)`` each.

        Where ``pessimistic``, ``latency_high_ms`` too: the upper end of the interval that 90 % of latencies are in.
        """
        latency = self.latency.predict(genes)
        scores = {
            "accuracy": np.asarray(self.accuracy.predict(genes).mean, np.float64),
            "latency_ms": np.asarray(latency.mean, np.float64),
        }
        return scores | ({"latency_high_ms": np.asarray(latency.high, np.float64)} if pessimistic else {})


def open_supernet(name: str | Path, space: str | None = None, *, trained: bool = True) -> Supernet:
    """Load a supernet, and check that it is of ``space`` (a name or the path of a preset), where one is given.

    Without ``trained``, ``name`` is a space and the weights are random.

    Raises:
        UsageError: Nothing has that name, or it is of another space.
        FileFormatError: The file is damaged.
    """
    supernet = get_supernet(name, pretrained=trained)
    if space is not None and supernet.space.preset.digest != get_space(space).preset.digest:
        raise UsageError(f"supernet {name} is of space {supernet.space.name!r} or another version of it, not {space!r}")
    return supernet


def beside(folder: Path) -> Path:
    """Return the file of the accuracy predictor beside a supernet.

    Raises:
        UsageError: There is none; the message says which command makes it.
    """
    path = folder / ACCURACY_PREDICTOR
    if not path.exists():
        raise UsageError(f"{folder} has no {ACCURACY_PREDICTOR}; make it with: nas collect --supernet {folder}")
    return path


def load_accuracy_predictor(
    path: Path, space: SearchSpace, supernet: Supernet
) -> AccuracyPredictor | OFAAccuracyPredictor:
    """Read an accuracy predictor, for a device's menu of precisions; its ``space`` may be a part of ``space``.

    Raises:
        FileFormatError: It is damaged, or of another space or supernet.
    """
    _, info = read_tensors(path, SCHEMA, SCHEMA_VERSION)
    if info.get("kind") == KIND:
        return OFAAccuracyPredictor.load(path, space)
    return AccuracyPredictor.load(path, space, supernet_fingerprint(supernet))


def calibrated(
    device: Device,
    space: SearchSpace,
    supernet: Supernet,
    *,
    fresh: bool,
    seconds: float | None = None,
    progress: Progress = NO_PROGRESS,
) -> Calibration:
    """Return the device's calibration for a supernet's networks, from the cache or measured now, and note which.

    Args:
        device: What is measured.
        space: The supernet's space, with the device's menu of precisions.
        supernet: Says how many channels and classes its networks have.
        fresh: Measure anew even if it is in the cache.
        seconds: About how long measuring may take; None for as long as is usual.
        progress: Hears of the stage, and whether the calibration was reused.

    Raises:
        FileFormatError: The calibration in the cache is damaged.
        DeviceError: The device cannot be measured.
    """
    channels, classes = supernet.channels, supernet.classes
    changes = calibration_changes(device, space, channels=channels, classes=classes)
    if changes:
        progress.note(f"device {device.name} is not the one calibrated before: {'; '.join(changes)}")
    found = calibrate(
        device, space, channels=channels, classes=classes, seconds=seconds, fresh=fresh,
        progress=progress.listener, note=progress.note,
    )  # fmt: skip
    how = "reused" if found.reused else f"made in {found.seconds:.0f} s"
    progress.note(f"calibration of {device.name} {how}: {found.folder}")
    return found


def from_wider(
    device: Device, space: SearchSpace, supernet: Supernet, *, progress: Progress = NO_PROGRESS
) -> Calibration | None:
    """Return the part that ``space`` is of the device's calibration for all that it executes, if that is in the cache.

    None where ``space`` is no smaller, or has a calibration of its own.

    Raises:
        FileFormatError: What is in the cache is damaged.
    """
    preset, images = supernet.space.preset, {"channels": supernet.channels, "classes": supernet.classes}
    whole = make_space(preset, device_menu(preset.precisions, device.precisions))
    if whole.size <= space.size or load_calibration(device, space, **images) is not None:
        return None
    found = load_calibration(device, whole, **images)
    if found is None:
        return None
    progress.note(f"calibration of {device.name} for {', '.join(whole.precisions)} reused: {found.folder}")
    return replace(found, predictor=found.predictor.part(space))


def from_few(
    device: Device, space: SearchSpace, supernet: Supernet, *, progress: Progress = NO_PROGRESS
) -> FewShotCalibration | None:
    """Return the device's calibration from a few networks if that is all there is in the cache, and note it.

    Raises:
        FileFormatError: What is in the cache is damaged.
    """
    images = {"channels": supernet.channels, "classes": supernet.classes}
    if load_calibration(device, space, **images) is not None:
        return None
    found = load_few_shot(device, space, **images)
    if found is not None:
        whole = f"for a whole one: nas calibrate --device {device.name}"
        progress.note(f"few-shot calibration of {device.name} from {found.report.networks} networks reused; {whole}")
    return found


def scorer_of(
    accuracy: AccuracyPredictor | OFAAccuracyPredictor, calibration: Calibration | FewShotCalibration
) -> Scorer:
    """Join the two predictors of a job."""
    report = calibration.report
    if isinstance(report, FewShotReport):
        judged = {"few_shot": report.chosen, "left_out_median_error": report.left_out.median}
    else:
        judged = {"held_out_median_error": report.searched.median, "repeatability": report.repeatability}
    networks = report.networks if isinstance(report, FewShotReport) else report.fitted
    origin = {"reused": calibration.reused, "networks": networks, **judged, "reference_ms": calibration.reference_ms}
    return Scorer(accuracy, calibration.predictor, origin, calibration.reference_ms)
