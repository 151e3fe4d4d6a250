"""A search without weights and without images: latencies are measured and verified, accuracies are predicted alone.

Latency does not depend on the weights, so a space can be searched for a device before anybody has its supernet. Batch
norms, checks and any ranges are then of random images.
"""

import torch

from supernets import Supernet
from supernets.datasets import ImageSet, Splits

WARNING = "untrained weights: latency verified, accuracy predicted only"
INPUTS = "random inputs"
COUNT = 64  # as many as the checks compare outputs on


def random_splits(supernet: Supernet, size: int, seed: int) -> Splits:
    """Return ``COUNT`` random calibration images of ``size`` pixels, and no validation and test images."""
    generator = torch.Generator().manual_seed(seed)
    shape = (COUNT, supernet.channels, size, size)
    pixels = torch.randint(0, 256, shape, dtype=torch.uint8, generator=generator)
    images = ImageSet(pixels, torch.zeros(COUNT, dtype=torch.int64), supernet.info.classes)
    none = images.subset(torch.empty(0, dtype=torch.int64))
    return Splits(None, none, images, none, INPUTS, supernet.info.mean, supernet.info.std)
