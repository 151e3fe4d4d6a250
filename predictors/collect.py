"""Collects (candidate, accuracy) pairs of a supernet, for the accuracy predictor.

Every candidate is cut out, its batch norms are recalibrated on the calibration images, and its accuracy is counted on
the validation images; test images are never touched. Networks run as their exported files do, in onnxruntime on the
CPU, or, in fp32, by torch on an accelerator. Each pair is on disk before it is reported: a killed run goes on. The
processes are joblib's: whoever calls may choose Ray, Dask or threads by ``joblib.parallel_config``.
"""

import hashlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nas.compression import correct_images, export_candidate
from nas.errors import OutputError, UsageError
from nas.lock import exclusive
from predictors.pairs import Pairs, append_pair, check_mode, measured_ids, open_pairs, plan_pairs, read_pairs
from predictors.workers import work_for_parent
from search_spaces import Candidate
from supernets import Supernet, evaluate_accuracy, prepare, recalibrate_batch_norm
from supernets.datasets import ImageSet, Splits
from supernets.evaluation import RECALIBRATION_IMAGES

TORCH_BATCH = 5000  # images per inference on an accelerator

Progress = Callable[[int, int], None]
"""Called with (pairs there are, pairs asked for)."""


def collect(
    supernet: Supernet,
    splits: Splits,
    path: Path,
    *,
    count: int,
    mode: str = "fp32",
    seed: int = 0,
    device: str = "cpu",
    jobs: int = 1,
    progress: Progress = lambda done, total: None,
) -> Pairs:
    """Measure the first ``count`` candidates of a seed that ``path`` lacks, and return all its pairs of the mode.

    Args:
        supernet: The supernet, on the CPU; candidates are over its own space.
        splits: Its images; validation and calibration are used.
        path: CSV file, continued if it is there.
        count: Pairs of this seed and mode wanted.
        mode: ``fp32``, or ``quantized`` for mixed precisions.
        seed: Of the candidates; the accuracies have no randomness.
        device: A torch device; pairs with quantized units are measured on the CPU in any case.
        jobs: Processes.
        progress: Called at the start and after every pair.

    Raises:
        UsageError: The mode is unknown or does not fit the space, ``count`` is more than there are networks, or several
            processes are to share an accelerator.
        FileFormatError: ``path`` holds pairs of another space, supernet or images, or is damaged.
        OutputError: ``path`` cannot be written, or another process writes to it.
    """
    space = supernet.space
    check_mode(space, mode)
    if jobs > 1 and torch.device(device).type != "cpu":
        raise UsageError(f"{jobs} jobs on {device}; allowed: 1 job on an accelerator")
    lock = path.with_name(f".{path.name}.lock")
    with exclusive(lock, f"{path} is being written", OutputError):
        _measure_missing(supernet, splits, path, count, mode, seed, torch.device(device), jobs, progress)
    return read_pairs(path, space, mode)


def _measure_missing(
    supernet: Supernet,
    splits: Splits,
    path: Path,
    count: int,
    mode: str,
    seed: int,
    device: torch.device,
    jobs: int,
    progress: Progress,
) -> None:
    """Append what ``path`` lacks of the first ``count`` pairs; the arguments are those of ``collect``."""
    space, fingerprint, data = supernet.space, supernet_fingerprint(supernet), images_fingerprint(splits)
    open_pairs(path)
    done = measured_ids(path, space, supernet=fingerprint, data=data)
    left = [pair for pair in plan_pairs(space, count, seed=seed, mode=mode) if pair.id not in done]
    measure: Measure = (
        TorchAccuracy(supernet, splits, device)
        if mode == "fp32" and device.type != "cpu"
        else GraphAccuracy(supernet, splits.calibration, splits.validation)
    )
    progress(count - len(left), count)
    accuracies = _in_order(measure, (space.candidate(pair.row) for pair in left), jobs)
    for number, (pair, accuracy) in enumerate(zip(left, accuracies, strict=True), start=1):
        append_pair(
            path, space, pair, supernet=fingerprint, mode=mode, accuracy=accuracy, images=len(splits.validation),
            data=data,
        )  # fmt: skip
        progress(count - len(left) + number, count)


def supernet_fingerprint(supernet: Supernet) -> str:
    """Return twelve hexadecimal digits of the supernet's weights: pairs hold for these alone."""
    digest = hashlib.sha256()
    for name, tensor in sorted(supernet.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def images_fingerprint(splits: Splits) -> str:
    """Return twelve hexadecimal digits of the validation and calibration images and labels: pairs hold for these."""
    digest = hashlib.sha256()
    for part in (splits.validation, splits.calibration):
        for tensor in (part.images, part.labels):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


Measure = Callable[[Candidate], float]


def _in_order(measure: Measure, candidates: Iterable[Candidate], jobs: int) -> Iterator[float]:
    if jobs == 1:
        yield from map(measure, candidates)
        return
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=jobs, return_as="generator", max_nbytes="100K")(
        delayed(_in_worker)(measure, candidate) for candidate in candidates
    )


def _in_worker(measure: Measure, candidate: Candidate) -> float:
    work_for_parent()
    return measure(candidate)


class TorchAccuracy:
    """Validation accuracy of an fp32 candidate by torch on an accelerator, where images stay, one copy a resolution."""

    def __init__(self, supernet: Supernet, splits: Splits, device: torch.device):
        self.supernet, self.splits, self.device = supernet, splits, device
        self.labels = splits.validation.labels.to(device)
        self.images: dict[int, tuple[Tensor, Tensor]] = {}

    def __call__(self, candidate: Candidate) -> float:
        """Return the fraction of validation images that are right."""
        subnet = self.supernet.extract(candidate).to(self.device)
        calibration, validation = self._prepared(candidate.resolution)
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):  # as exact as on a processor
            recalibrate_batch_norm(subnet, calibration)
            return evaluate_accuracy(subnet, validation, self.labels, TORCH_BATCH)

    def _prepared(self, resolution: int) -> tuple[Tensor, Tensor]:
        """Return calibration and validation images at a resolution."""
        if resolution not in self.images:
            parts = (
                images.to(self.device)
                for images in (self.splits.calibration.images[:RECALIBRATION_IMAGES], self.splits.validation.images)
            )
            calibration, validation = (prepare(images, resolution, self.supernet.info) for images in parts)
            self.images[resolution] = calibration, validation
        return self.images[resolution]


@dataclass(frozen=True)
class GraphAccuracy:
    """Validation accuracy of a candidate from its graph, quantized if it has such units, in onnxruntime on the CPU."""

    supernet: Supernet
    calibration: ImageSet
    validation: ImageSet

    def __call__(self, candidate: Candidate) -> float:
        """Return the fraction of validation images that are right."""
        from latency_tables.onnxruntime_cpu import OnnxRuntimeCpu

        exported = export_candidate(self.supernet, candidate, self.calibration)
        model = exported.in_precisions(dict(exported.subnet.units()))
        session = OnnxRuntimeCpu().session(model.SerializeToString())
        return float(correct_images(session, self.validation, candidate.resolution, self.supernet.info).mean())
