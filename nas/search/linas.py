"""LINAS (DyNAS-T, Cummings et al., 2022): a predictor refitted to all true scores, and true scores where it points.

A round evolves a population on the predictor alone, thousands of predictions for nothing, and asks for the true scores
of the best new networks that it ends with; the next round knows them. So it is for problems whose evaluation costs far
more than a prediction: a measured latency, a trained accuracy.

Departures: the predictor is that of ``surrogate``, with no settings to choose; the inner evolution begins where the
true front is; a part of each round is mutants of the true front, where the predictor may be wrong; constraints are
predicted too.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas.search.evolution import survivors
from nas.search.offspring import no_rows, unseen_mutants
from nas.search.problem import Genes, Problem
from nas.search.surrogate import Surrogate
from nas.search.unique import Seen

ROUNDS = 20  # of a budget
MOST_ROWS = 64  # in a round
EXPLORED = 0.1  # share of a round that the predictor does not choose
GENERATIONS, POPULATION = 12, 100  # of the evolution on the predictor
MOST_FITTED = 1000  # rows that the predictor is fitted to: the best


class Linas:
    """Ask and tell, a round at a time."""

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._problem, self._space, self._rng = problem, problem.space, rng
        self._round = max(1, min(MOST_ROWS, round(budget / ROUNDS)))
        self._first = min(MOST_ROWS, max(2, 2 * self._round))
        self._seen = Seen()
        self._genes = no_rows(self._space)  # best first
        self._targets = np.empty((0, len(problem.names)))

    def ask(self, n: int) -> Genes:
        missing = self._first - len(self._genes)
        if missing > 0:
            wanted = min(n, self._round, missing)
            return unseen_mutants(self._space, self._seen, no_rows(self._space), wanted, self._rng)
        wanted = min(n, self._round)
        explored = int(self._rng.binomial(wanted, EXPLORED))
        pointed = self._seen.claim(self._evolved(), wanted - explored)
        parents = self._genes[: max(1, wanted - len(pointed))]
        rest = unseen_mutants(self._space, self._seen, parents, wanted - len(pointed), self._rng)
        return np.concatenate([pointed, rest])

    def _evolved(self) -> Genes:
        """Return what evolution on the predictor ends with, best first."""
        surrogate = Surrogate(self._space.encode(self._genes), self._targets)
        population = self._genes[:POPULATION]
        everyone = population
        for _ in range(GENERATIONS):
            children = self._children(population)
            everyone = np.unique(np.concatenate([everyone, children]), axis=0)
            everyone = everyone[self._best(surrogate.predict(self._space.encode(everyone)), 4 * POPULATION)]
            population = everyone[:POPULATION]
        return everyone

    def _children(self, parents: Genes) -> Genes:
        """Return as many crossed and as many mutated children as a population."""
        mothers, fathers = (parents[self._rng.integers(len(parents), size=POPULATION)] for _ in range(2))
        rate = 1.5 / self._space.num_genes
        crossed = self._space.crossover(mothers, fathers, self._rng)
        mutated = self._space.mutate(mothers, self._rng, rate)
        return np.concatenate([crossed, mutated, self._space.mutate(crossed, self._rng, rate)])

    def _best(self, targets: NDArray[np.float64], count: int) -> NDArray[np.int64]:
        """Return the best rows of scores ``(n, names)``, best first."""
        scores = dict(zip(self._problem.names, targets.T, strict=True))
        return survivors(self._problem.losses(scores), self._problem.violations(scores), count)

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        everyone = np.concatenate([self._genes, genes])
        targets = np.concatenate([self._targets, np.stack([scores[name] for name in self._problem.names], axis=1)])
        best = self._best(targets, MOST_FITTED)
        self._genes, self._targets = everyone[best], targets[best]
