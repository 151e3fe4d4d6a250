"""The one cost that a strategy which finds a single network aims at: a score, and the value that is wanted of it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.problem import Genes, Problem

PROBES = 256  # random networks whose median is wanted where nothing is said
LEAST = 1e-12

Figures = Callable[[Genes], Mapping[str, NDArray[np.floating]]]


@dataclass(frozen=True)
class Cost:
    """A score to bring to a target.

    Attributes:
        figures: Predicts it, among others.
        name: Its name.
        target: The value wanted.
    """

    figures: Figures
    name: str
    target: float

    def of(self, genes: Genes) -> NDArray[np.float64]:
        """Return it for canonical rows, ``(n,)``."""
        return np.asarray(self.figures(genes)[self.name], np.float64)

    def distance(self, values: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return how far values are from the target: the size of the log of their ratio, from either side."""
        return np.abs(np.log(np.maximum(values, LEAST) / self.target))

    def slope(self, value: float) -> float:
        """Return the derivative of the distance at a value."""
        return float(np.sign(value - self.target)) / max(value, LEAST)


def cost_of(problem: Problem, figures: Figures, rng: np.random.Generator) -> Cost | None:
    """Return what a problem wants to be low: a constraint with an upper bound, at that bound, else what it minimises.

    The target of what is minimised is the median of random networks. None if nothing is to be low.
    """
    name = cost_name(problem)
    if name is None:
        return None
    high = problem.constraints.get(name, (None, None))[1]
    if high is None:
        high = float(np.median(figures(problem.space.sample(PROBES, rng))[name]))
    return Cost(figures, name, max(high, LEAST))


def cost_name(problem: Problem) -> str | None:
    """Return the first score with an upper bound, else the first that is minimised; None if nothing is to be low."""
    bounded = (name for name, (_, high) in problem.constraints.items() if high is not None)
    small = (name for name, direction in problem.objectives.items() if direction == "min")
    return next(bounded, None) or next(small, None)
