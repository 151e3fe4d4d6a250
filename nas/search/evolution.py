"""Multi-objective evolution on arrays: NSGA-II (Deb et al., 2002), varied as in once-for-all (Cai et al., 2020).

A generation is one call: parents by binary tournament, half of the children crossed and half mutated, then the best of
parents and children together survive, by front and, within a front, by crowding. So every scored child competes. With
one objective the fronts are single values and the same code is a plain elitist evolution.

Constraints are met by domination (Deb, 2000): feasible before infeasible, infeasible by how much they violate.

Where the problem can ``screen``, more children are drawn than are wanted, and those that violate least are scored.

Departures from both: no network is scored twice. Where too few children are new, more are drawn, with a mutation rate
that doubles from draw to draw and uniform samples in the end, so that a small space is searched to its last network and
the search then stops. The population grows with the budget, and the mutation rate falls with the number of genes:
once-for-all's 0.1 changes seven genes of 71 and found worse fronts from 4,000 evaluations on.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas.search.fronts import Losses, crowding, non_dominated_ranks
from nas.search.problem import Genes, Problem
from nas.search.unique import Seen

MUTATED_GENES = 1.5  # a child, on average
ATTEMPTS = 16  # draws for one generation; the second half are uniform samples
CHILDREN = 2  # for each member of the population
FEW, MANY = 256, 2**16  # rows in a repeated draw, doubling from the one to the other


def population_size(budget: int) -> int:
    """Return the population: 9 for 200 evaluations, 1,357 for 400,000. It has 11 and 147 generations of children."""
    return min(4096, max(4, round(0.25 * budget ** (2 / 3))))


class Evolution:
    """Ask and tell, one generation at a time."""

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._problem, self._space, self._rng = problem, problem.space, rng
        self._size = population_size(budget)
        self._seen = Seen()
        self._fresh = 1.0  # share of new rows among those first drawn for the last generation
        self._feasible = 1.0  # share of the rows last drawn that met the constraints
        self._genes: Genes = np.empty((0, self._space.num_genes), np.int8)  # best first
        self._losses: Losses = np.empty((0, len(problem.objectives)))
        self._violations = np.empty(0)

    def ask(self, n: int) -> Genes:
        wanted = min(n, CHILDREN * self._size)
        children: Genes = np.empty((0, self._space.num_genes), np.int8)
        for attempt in range(ATTEMPTS):
            if 2 * len(children) > wanted or len(self._seen) >= self._space.size:
                break
            count, limit = min(FEW * 2**attempt, MANY), wanted - len(children)
            if attempt == 0:  # all that are new are taken, so that neither the crossed nor the mutated are cut off
                count, limit = round(wanted / self._fresh), n
            fresh = self._seen.claim(self._screened(count, attempt), limit)
            children = np.concatenate([children, fresh])
            if attempt == 0:
                self._fresh = max(0.25, len(fresh) / count)
        return children

    def _screened(self, count: int, attempt: int) -> Genes:
        """Draw ``count``, or more where constraints can be looked at beforehand, of which the best by them are left."""
        if self._problem.screen is None or not self._problem.constraints:
            return self._draw(count, attempt)
        drawn = self._draw(round(count / self._feasible), attempt)
        violations = self._problem.violations(self._problem.screen(drawn))
        self._feasible = max(0.25, float((violations <= 0).mean()))
        kept = np.argsort(violations, kind="stable")[:count]
        return drawn[np.sort(kept)]

    def _draw(self, count: int, attempt: int) -> Genes:
        if len(self._genes) == 0 or attempt >= ATTEMPTS // 2:
            return self._space.sample(count, self._rng)
        rate = min(0.5, MUTATED_GENES / self._space.num_genes * 2**attempt)
        mothers = self._genes[self._tournament(count)]
        crossed = 0 if attempt else count // 2
        fathers = self._genes[self._tournament(crossed)]
        return np.concatenate(
            [
                self._space.crossover(mothers[:crossed], fathers, self._rng),
                self._space.mutate(mothers[crossed:], self._rng, rate),
            ]
        )

    def _tournament(self, count: int) -> NDArray[np.int64]:
        """Return the better of two random members, ``count`` times: of a sorted population, the smaller index."""
        return self._rng.integers(len(self._genes), size=(2, count)).min(axis=0)

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        everyone = np.concatenate([self._genes, genes])
        losses = np.concatenate([self._losses, self._problem.losses(scores)])
        violations = np.concatenate([self._violations, self._problem.violations(scores)])
        best = survivors(losses, violations, self._size)
        self._genes, self._losses, self._violations = everyone[best], losses[best], violations[best]


def survivors(losses: Losses, violations: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """Return the ``count`` best rows, best first: by front, and within a front the less crowded first."""
    ranks = constrained_ranks(losses, violations, count)
    last = np.sort(ranks)[:count][-1]
    kept = np.flatnonzero(ranks <= last)
    order = np.lexsort((-crowding(losses[kept], ranks[kept]), ranks[kept]))
    return kept[order[:count]]


def constrained_ranks(losses: Losses, violations: NDArray[np.float64], enough: int) -> NDArray[np.int64]:
    """Return the front of each row, ``(n,)``: the feasible ones' fronts first, then the infeasible by violation.

    Args:
        losses: ``(n, m)``.
        violations: ``(n,)``, 0 where feasible.
        enough: Once this many rows are ranked, the other feasible rows share the next rank.
    """
    feasible = violations <= 0
    ranks = np.empty(len(losses), np.int64)
    ranks[feasible] = non_dominated_ranks(losses[feasible], enough)
    _, order = np.unique(violations[~feasible], return_inverse=True)
    ranks[~feasible] = order + len(losses)
    return ranks
