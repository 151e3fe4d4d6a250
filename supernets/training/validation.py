"""Validation accuracy of a stage's subnets, for the log: the largest, the smallest, and some between."""

import numpy as np

from search_spaces import Candidate, SearchSpace
from supernets.datasets import ImageSet, Splits
from supernets.evaluation import calibrated_subnet, evaluate_accuracy, prepare_batches
from supernets.supernet import Supernet

RANDOM_SUBNETS = 3


def validate(
    supernet: Supernet, space: SearchSpace, splits: Splits, only: Candidate | None, seed: int
) -> dict[str, float]:
    """Return the validation accuracies ``largest``, ``smallest`` and ``random`` of ``space``, or of ``only``.

    ``random`` is the mean of the same few networks every time. Batch norms are recalibrated on calibration images.
    """
    device = next(supernet.parameters()).device
    parts = splits.validation.to(device), splits.calibration.to(device)
    if only is not None:
        return {"only": accuracy(supernet, only, *parts)}
    precision = space.precisions[0]
    found = {
        name: accuracy(supernet, space.candidate(row), *parts)
        for name, row in (("largest", space.largest(precision)), ("smallest", space.smallest(precision)))
    }
    rows = space.sample(RANDOM_SUBNETS, np.random.default_rng(seed))
    return found | {"random": float(np.mean([accuracy(supernet, space.candidate(row), *parts) for row in rows]))}


def accuracy(supernet: Supernet, candidate: Candidate, images: ImageSet, calibration: ImageSet) -> float:
    """Return a candidate's accuracy on ``images``, batch norms recalibrated on ``calibration``."""
    subnet = calibrated_subnet(supernet, candidate, calibration)
    batches = prepare_batches(images.images, candidate.resolution, supernet.info)
    return evaluate_accuracy(subnet, batches, images.labels)
