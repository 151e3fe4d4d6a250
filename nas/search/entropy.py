"""Maximum entropy (MAE-NAS, Sun et al., 2022): evolution of what a network could express, under hard budgets.

Nothing is trained, and accuracy steers nothing: in the place of every objective to be made large stands the entropy of
the network, ``predictors.entropy``. Objectives to be made small and constraints, latency, multiply-adds, size, are as
they are told. So it is for a space without an accuracy predictor, or to see what such a predictor is worth.

Departure: the population and its variation are those of ``evolution``; the paper's is 256 of some 100,000.
"""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from nas.search.evolution import Evolution
from nas.search.problem import Genes, Problem, Space

ENTROPY = "entropy"


@runtime_checkable
class Expressive(Protocol):
    """A space that knows the entropy of its networks itself."""

    def entropy(self, genes: Genes) -> NDArray[np.float64]:
        """Return the entropy of canonical rows ``(n, num_genes)``, ``(n,)``."""


class MaximumEntropy:
    """Ask and tell as ``evolution`` does, told entropies for what is to be made large."""

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._entropy = entropy_of(problem.space)
        small = {name: direction for name, direction in problem.objectives.items() if direction == "min"}
        self._evolution = Evolution(replace(problem, objectives={ENTROPY: "max", **small}), budget, rng)

    def ask(self, n: int) -> Genes:
        return self._evolution.ask(n)

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        self._evolution.tell(genes, {**scores, ENTROPY: self._entropy(genes)})


def entropy_of(space: Space) -> Callable[[Genes], NDArray[np.float64]]:
    """Return what scores the networks of a space without training.

    Raises:
        UsageError: The space does not say what layers its networks have.
    """
    from predictors.entropy import Entropy  # takes a second to import, with torch
    from search_spaces import SearchSpace

    if isinstance(space, SearchSpace):
        return Entropy(space).score
    if isinstance(space, Expressive):
        return space.entropy
    allowed = "a SearchSpace, or a space with a method entropy(genes)"
    raise UsageError(f"strategy 'entropy': space {space.name!r} says nothing of its layers; allowed: {allowed}")
