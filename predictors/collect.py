"""Collects (candidate, accuracy) pairs of a supernet, for the accuracy predictor.

Every candidate is cut out, its batch norms are recalibrated on the calibration images, and its accuracy is counted on
the validation images; test images are never touched. Networks run as their exported files do, in onnxruntime on the
CPU, or, in fp32, by torch on an accelerator. Each pair is on disk before it is reported: a killed run goes on.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from nas.errors import UsageError
from predictors.pairs import Pairs, append_pair, check_mode, measured_ids, open_pairs, plan_pairs, read_pairs
from search_spaces import Candidate
from supernets import Supernet, calibrated_subnet, evaluate_accuracy, prepare, recalibrate_batch_norm
from supernets.datasets import ImageSet, Splits
from supernets.evaluation import RECALIBRATION_IMAGES

SESSION_BATCH = 8  # images per inference of a graph; the fastest on one thread
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
        FileFormatError: ``path`` holds pairs of another space or supernet, or is damaged.
    """
    space = supernet.space
    check_mode(space, mode)
    if jobs > 1 and torch.device(device).type != "cpu":
        raise UsageError(f"{jobs} jobs on {device}; allowed: 1 job on an accelerator")
    fingerprint = supernet_fingerprint(supernet)
    open_pairs(path)
    done = measured_ids(path, space, supernet=fingerprint)
    planned = plan_pairs(space, count, seed=seed, mode=mode)
    left = [pair for pair in planned if pair.id not in done]
    by_torch = mode == "fp32" and torch.device(device).type != "cpu"
    measure: Measure = (
        TorchAccuracy(supernet, splits, torch.device(device))
        if by_torch
        else GraphAccuracy(supernet, splits.calibration, splits.validation)
    )
    progress(count - len(left), count)
    accuracies = _in_order(measure, (space.candidate(pair.row) for pair in left), jobs)
    for number, (pair, accuracy) in enumerate(zip(left, accuracies, strict=True), start=1):
        append_pair(
            path, space, pair, supernet=fingerprint, mode=mode, accuracy=accuracy, images=len(splits.validation)
        )
        progress(count - len(left) + number, count)
    return read_pairs(path, space, mode)


def supernet_fingerprint(supernet: Supernet) -> str:
    """Return twelve hexadecimal digits of the supernet's weights: pairs hold for these alone."""
    digest = hashlib.sha256()
    for name, tensor in sorted(supernet.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


Measure = Callable[[Candidate], float]


def _in_order(measure: Measure, candidates: Iterable[Candidate], jobs: int) -> Iterator[float]:
    if jobs == 1:
        yield from map(measure, candidates)
        return
    from joblib import Parallel, delayed

    yield from Parallel(n_jobs=jobs, return_as="generator", max_nbytes="100K")(
        delayed(_in_worker)(measure, candidate, os.getpid()) for candidate in candidates
    )


def _in_worker(measure: Measure, candidate: Candidate, parent: int) -> float:
    if os.getppid() != parent:
        os._exit(1)  # killed, it could not stop its workers
    torch.set_num_threads(1)  # as many workers run as there are cores
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
        from nas.compression import RANGE_IMAGES, activation_ranges, quantize_graph
        from supernets.graph import to_onnx

        supernet, resolution = self.supernet, candidate.resolution
        subnet = calibrated_subnet(supernet, candidate, self.calibration)
        model = to_onnx(subnet, supernet.channels, resolution, batch="N")
        if set(candidate.precisions) != {"fp32"}:
            images = prepare(self.calibration.images[:RANGE_IMAGES], resolution, supernet.info)
            model = quantize_graph(model, dict(subnet.units()), activation_ranges(model, images.numpy()))
        session = OnnxRuntimeCpu().session(model.SerializeToString())
        pixels = prepare(self.validation.images, resolution, supernet.info).numpy()
        starts = range(0, len(pixels), SESSION_BATCH)
        logits = [session.run(None, {"input": pixels[at : at + SESSION_BATCH]})[0] for at in starts]
        predicted = np.concatenate(logits).argmax(1)
        return float((predicted == self.validation.labels.numpy()).mean())
