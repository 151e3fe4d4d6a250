"""An invented accuracy for the tests of predictors: parts that interact, a cost of precision, and noise."""

import numpy as np

from predictors.pairs import plan_pairs
from search_spaces import MBConvSpace


def planned_rows(space: MBConvSpace, count: int, *, seed: int, mode: str) -> np.ndarray:
    return np.array([pair.row for pair in plan_pairs(space, count, seed=seed, mode=mode)])


def invented_accuracy(space: MBConvSpace, genes: np.ndarray, noise: float = 0.0015, seed: int = 0) -> np.ndarray:
    """Return fractions ``(n,)`` that saturate with capacity, grow with the resolution and fall with int8 blocks."""
    rng = np.random.default_rng(7)  # of the invented network; ``seed`` is of the noise
    codes = space.part_codes(genes)[:, 1:-1]
    capacity, cost = np.zeros(len(genes)), np.zeros(len(genes))
    for block in range(space.num_blocks):
        gain, loss = rng.uniform(0.5, 1.5), rng.gamma(1.0, 4e-4)
        choices = space.block_choices(block)
        worth = [(np.log(choice.middle) - 2) * (1 + 0.15 * (choice.kernel - 3)) * gain for choice in choices]
        harm = [(choice.precision == "int8") * (1 + 0.3 * (choice.kernel == 7)) * loss for choice in choices]
        capacity += np.array([0.0, *worth])[codes[:, block]] / 30
        cost += np.array([0.0, *harm])[codes[:, block]]
    size = np.log(np.array(space.resolutions) / max(space.resolutions))[space.resolution_index(genes)]
    accuracy = 0.9 + 0.04 * (1 - np.exp(-capacity)) + 0.01 * size * (1 + capacity)
    cost = cost * (1.5 - 0.2 * capacity) + 0.002 * genes[:, 1] + 0.0005 * genes[:, 2]
    return accuracy - cost + np.random.default_rng(seed).normal(0, noise, len(genes))
