"""Collects (candidate, accuracy) pairs of a supernet, for the accuracy predictor.

Every candidate is cut out, its batch norms are recalibrated on the calibration images, and its accuracy is counted on
the validation images; test images are never touched. Each pair is on disk before it is reported: a killed run goes on.
"""

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch

from nas.errors import OutputError, UsageError
from nas.lock import exclusive
from predictors.pairs import Pairs, append_pair, check_mode, measured_ids, open_pairs, plan_pairs, read_pairs
from predictors.shared import shared_accuracy
from predictors.spread import Spread
from supernets import Supernet
from supernets.datasets import Splits
from supernets.weights import weights_digest

HERE = Spread()

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
    spread: Spread = HERE,
    progress: Progress = lambda done, total: None,
) -> Pairs:
    """Measure the first ``count`` candidates of a seed that ``path`` lacks, and return all its pairs of the mode.

    Args:
        supernet: The supernet, on the CPU; candidates are over its own space.
        splits: Its images; validation and calibration are used.
        path: CSV file, continued if it is there. What processes share is beside it meanwhile.
        count: Pairs of this seed and mode wanted.
        mode: ``fp32``, or ``quantized`` for mixed precisions.
        seed: Of the candidates; the accuracies have no randomness.
        device: A torch device; pairs with quantized units are measured on the CPU in any case.
        spread: Where measurements run; on processors, the pairs and the file are the same wherever.
        progress: Called at the start and after every pair.

    Raises:
        UsageError: The mode is unknown or does not fit the space, ``count`` is more than there are networks, others
            than processes are to share an accelerator, or the backend is not installed.
        FileFormatError: ``path`` holds pairs of another space, supernet or images, or is damaged.
        OutputError: ``path`` cannot be written, or another process writes to it.
        DeviceError: A cluster cannot be reached.
    """
    space = supernet.space
    check_mode(space, mode)
    if torch.device(device).type != "cpu" and not spread.here and spread.backend != "loky":
        raise UsageError(f"backend {spread.backend} on {device}; allowed: loky (processes), or 1 job in this process")
    spread.check()
    fingerprint, data = supernet_fingerprint(supernet), images_fingerprint(splits)
    with exclusive(path.with_name(f".{path.name}.lock"), f"{path} is being written", OutputError):
        open_pairs(path)
        done = measured_ids(path, space, supernet=fingerprint, data=data)
        left = [pair for pair in plan_pairs(space, count, seed=seed, mode=mode) if pair.id not in done]
        progress(count - len(left), count)
        candidates = [space.candidate(pair.row) for pair in left]
        on = device if mode == "fp32" else "cpu"
        folder = path.with_name(f".{path.name}.shared")
        resolutions = {candidate.resolution for candidate in candidates}
        with shared_accuracy(folder, f"{fingerprint} {data}", supernet, splits, resolutions, on) as measure:
            accuracies = spread.run(measure, candidates)
            for number, (pair, accuracy) in enumerate(zip(left, accuracies, strict=True), start=1):
                append_pair(
                    path, space, pair, supernet=fingerprint, mode=mode, accuracy=accuracy,
                    images=len(splits.validation), data=data,
                )  # fmt: skip
                progress(count - len(left) + number, count)
    return read_pairs(path, space, mode)


def supernet_fingerprint(supernet: Supernet) -> str:
    """Return twelve hexadecimal digits of the supernet's weights: pairs hold for these alone."""
    return weights_digest(supernet)


def images_fingerprint(splits: Splits) -> str:
    """Return twelve hexadecimal digits of the validation and calibration images and labels: pairs hold for these."""
    digest = hashlib.sha256()
    for part in (splits.validation, splits.calibration):
        for tensor in (part.images, part.labels):
            digest.update(str(tuple(tensor.shape)).encode())
            digest.update(tensor.contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]
