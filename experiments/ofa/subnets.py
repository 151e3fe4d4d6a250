"""The subnets that the experiment measures, and what each costs."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from search_spaces import Candidate, Genes, MBConvSpace
from supernets import Supernet, calibrated_subnet, evaluate_accuracy, prepare
from supernets.datasets import ImageSet, Splits

SIZES = ("small", "medium", "large")
PER_SIZE = 10
ALONE_PER_SIZE = 4  # of them, trained alone as well
SEED = 2026


@dataclass(frozen=True)
class Chosen:
    """A subnet to measure: ``size`` is one of ``SIZES``, or ``"smallest"`` or ``"largest"`` for an end of the space."""

    size: str
    candidate: Candidate


def choose(space: MBConvSpace) -> list[Chosen]:
    """Return ``PER_SIZE`` random subnets of each size and the two ends, the same every time.

    Uniform draws are all of about the same size. Here a third of the draws is crossed with the smallest network and a
    third with the largest, of which they get half of their genes; then multiply-adds sort all of them into three sizes.
    """
    rng = np.random.default_rng(SEED)
    draws = space.sample(len(SIZES) * PER_SIZE, rng)
    for number, end in ((0, space.smallest()), (2, space.largest())):
        third = slice(number * PER_SIZE, (number + 1) * PER_SIZE)
        draws[third] = space.crossover(draws[third], np.repeat(end[None], PER_SIZE, axis=0), rng)
    order = np.argsort(macs(space, draws, space.preset.channels, space.preset.classes), kind="stable")
    chosen = [Chosen(SIZES[place // PER_SIZE], space.candidate(draws[at])) for place, at in enumerate(order)]
    ends = (("smallest", space.smallest()), ("largest", space.largest()))
    return [*chosen, *(Chosen(size, space.candidate(row)) for size, row in ends)]


def trained_alone(space: MBConvSpace) -> list[Chosen]:
    """Return ``ALONE_PER_SIZE`` subnets of each size, spread evenly over it."""
    places = np.linspace(0, PER_SIZE - 1, ALONE_PER_SIZE).round().astype(int)
    chosen = choose(space)
    return [chosen[number * PER_SIZE + place] for number in range(len(SIZES)) for place in places]


def macs(space: MBConvSpace, rows: Genes, channels: int, classes: int) -> NDArray[np.int64]:
    """Return the multiply-adds of networks ``(n, num_genes)`` for one image at their resolutions, ``(n,)``."""
    costs = NetworkCosts(space, Images(channels, classes))
    return np.rint(1e6 * costs.predict(rows, "macs_m")).astype(np.int64)


class Meter:
    """Measures subnets of supernets on the same images.

    Args:
        splits: Validation and test images to count on, calibration images for batch norms.
        device: Where the images are kept: the supernets'.
    """

    def __init__(self, splits: Splits, device: str):
        self.calibration = splits.calibration
        self.parts = {
            name: ImageSet(part.images.to(device), part.labels.to(device), part.classes)
            for name, part in (("validation", splits.validation), ("test", splits.test))
        }

    def measure(self, supernet: Supernet, subnets: Iterable[Chosen]) -> list[dict[str, object]]:
        """Return a row a subnet: what it is, and its accuracies with its batch norms recalibrated and (``raw``) not."""
        rows, space, chosen = [], supernet.space, list(subnets)
        genes = np.array([space.genes(one.candidate) for one in chosen])
        counts = macs(space, genes, supernet.channels, supernet.classes)
        for one, count in zip(chosen, counts.tolist(), strict=True):
            row = {
                "id": one.candidate.id,
                "size": one.size,
                "resolution": one.candidate.resolution,
                "macs": count,
            }
            recalibrated = calibrated_subnet(supernet, one.candidate, self.calibration)
            raw = supernet.extract(one.candidate)
            for name, part in self.parts.items():
                images = prepare(part.images, one.candidate.resolution, supernet.info)
                row[name] = evaluate_accuracy(recalibrated, images, part.labels)
                row[f"{name}_raw"] = evaluate_accuracy(raw, images, part.labels)
            rows.append(row)
        return rows
