"""Regularised evolution (Real et al., 2019): the oldest die, however good, so that luck in one score does not last.

A child is a mutant of the best of a random sample of the living; a quarter of the population, as in the paper.

Departures: "best" is by front and crowding among the living, feasible before infeasible (as in ``evolution``), so that
it serves several objectives and constraints; with one objective it is the paper's. Children come in batches of a tenth
of the population, of which as many die, to be scored together. No network is scored twice. The population grows with
the budget; the paper's is 100 of 20,000.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas.search.evolution import population_size, survivors
from nas.search.offspring import no_rows, unseen_mutants
from nas.search.problem import Genes, Problem
from nas.search.unique import Seen

SAMPLE_SHARE = 0.25  # of the population that a parent is the best of
BATCH_SHARE = 0.1  # of the population, scored together


class Aging:
    """Ask and tell, a tenth of the population at a time."""

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._problem, self._space, self._rng = problem, problem.space, rng
        self._size = population_size(budget)
        self._seen = Seen()
        self._genes = no_rows(self._space)  # the living, oldest first
        self._losses = np.empty((0, len(problem.objectives)))
        self._violations = np.empty(0)

    def ask(self, n: int) -> Genes:
        if len(self._genes) < self._size:
            wanted = min(n, self._size - len(self._genes))
            return unseen_mutants(self._space, self._seen, no_rows(self._space), wanted, self._rng)
        wanted = min(n, max(1, round(BATCH_SHARE * self._size)))
        return unseen_mutants(self._space, self._seen, self._parents(wanted), wanted, self._rng)

    def _parents(self, count: int) -> Genes:
        """Return the best of ``count`` random samples of the living: of a sorted population, the smallest index."""
        best_first = survivors(self._losses, self._violations, len(self._genes))
        sample = max(1, round(SAMPLE_SHARE * len(self._genes)))
        drawn = self._rng.integers(len(self._genes), size=(sample, count)).min(axis=0)
        return self._genes[best_first[drawn]]

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        newest = slice(-self._size, None)
        self._genes = np.concatenate([self._genes, genes])[newest]
        self._losses = np.concatenate([self._losses, self._problem.losses(scores)])[newest]
        self._violations = np.concatenate([self._violations, self._problem.violations(scores)])[newest]
