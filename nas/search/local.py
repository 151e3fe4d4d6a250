"""Local search: the neighbours of what is best so far, one changed gene away, until none is better; then again.

Pareto local search (Paquete et al., 2004) with restarts; with one objective it is hill climbing, which is hard to beat
on small spaces (White et al., 2021). A climb begins with random networks. It keeps those that no other dominates
(feasible before infeasible), and looks at the neighbours of members whose neighbours it has not seen. When all of them
are known the climb is over and the next begins.

Departures: a neighbourhood is left as soon as something dominates its centre (the paper looks at whole neighbourhoods),
and neighbours are scored in batches.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas.search.evolution import constrained_ranks
from nas.search.offspring import neighbours, no_rows, unseen_mutants
from nas.search.problem import Genes, Problem
from nas.search.unique import Seen

STARTS = 0.05  # of the budget: random networks that a climb begins with
MOST_STARTS = 64
BATCH_SHARE, MOST_BATCH = 0.01, 1024  # of the budget, scored together


class Local:
    """Ask and tell, a hundredth of the budget at a time."""

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._problem, self._space, self._rng = problem, problem.space, rng
        self._starts = max(1, min(MOST_STARTS, round(STARTS * budget)))
        self._batch = max(1, min(MOST_BATCH, round(BATCH_SHARE * budget)))
        self._seen = Seen()
        self._begin()

    def _begin(self) -> None:
        self._near = no_rows(self._space)  # neighbours still to be looked at
        self._centre = 0  # the member whose neighbours they are
        self._genes = no_rows(self._space)  # kept by this climb
        self._explored = np.empty(0, bool)
        self._losses = np.empty((0, len(self._problem.objectives)))
        self._violations = np.empty(0)

    def ask(self, n: int) -> Genes:
        found = self._unseen_neighbours(min(n, self._batch))
        if len(found):
            return found
        self._begin()
        return unseen_mutants(self._space, self._seen, no_rows(self._space), min(n, self._starts), self._rng)

    def _unseen_neighbours(self, wanted: int) -> Genes:
        """Return up to ``wanted``: of the neighbourhood at hand, then of members that have not been looked at."""
        found = no_rows(self._space)
        while len(found) < wanted:
            open_members = np.flatnonzero(~self._explored)
            if len(self._near) == 0 and len(open_members) == 0:
                break
            if len(self._near) == 0:
                self._centre = int(self._rng.choice(open_members))
                self._explored[self._centre] = True
                self._near = self._rng.permutation(neighbours(self._space, self._genes[self._centre]))
            block, self._near = np.split(self._near, [wanted - len(found)])
            found = np.concatenate([found, self._seen.claim(block, len(block))])
        return found

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        everyone = np.concatenate([self._genes, genes])
        losses = np.concatenate([self._losses, self._problem.losses(scores)])
        violations = np.concatenate([self._violations, self._problem.violations(scores)])
        explored = np.concatenate([self._explored, np.zeros(len(genes), bool)])
        ranks = constrained_ranks(losses, violations, 1)
        kept = np.flatnonzero(ranks == ranks.min())
        self._genes, self._losses, self._violations = everyone[kept], losses[kept], violations[kept]
        self._explored = explored[kept]
        if self._centre in kept:
            self._centre = int(np.searchsorted(kept, self._centre))
        else:
            self._near = no_rows(self._space)
