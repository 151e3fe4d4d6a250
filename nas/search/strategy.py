"""What every strategy offers, and which there are.

A new strategy is one file, one line of registration here, and one line in the contract test.

A strategy is built from ``(problem, budget, rng)`` and must be deterministic: given the same generator and told the
same scores, it asks for the same rows. No more is needed to resume: the loop asks again and tells what it had stored.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.registry import Registry
from nas.search.problem import Genes, Problem


class Strategy(Protocol):
    """Proposes candidates and learns from their scores."""

    def ask(self, n: int) -> Genes:
        """Return up to ``n`` canonical rows ``(k, num_genes)``, none of them asked before; no row: nothing is left."""

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        """Take in the scores ``{name: (k,)}`` of all rows of the last ``ask``, in its order."""


class StrategyFactory(Protocol):
    """How a strategy is built: its class, as a rule."""

    def __call__(self, problem: Problem, budget: int, rng: np.random.Generator) -> Strategy:
        """Build it for ``budget`` evaluations in all."""


STRATEGIES = Registry("strategy")
STRATEGIES.register(
    "evolution", "nas.search.evolution:Evolution", "NSGA-II on arrays, the whole front at once; the default"
)
STRATEGIES.register("random", "nas.search.random:Random", "uniform sampling without repeats; the baseline")


def get_strategy(name: str) -> StrategyFactory:
    """Return the factory registered under ``name``.

    Raises:
        UsageError: The name is unknown; the message lists the names.
    """
    return STRATEGIES.get(name)


def list_strategies() -> dict[str, str]:
    """Return each strategy's name and what it is for, in one line."""
    return {name: entry.summary for name, entry in STRATEGIES.entries.items()}
