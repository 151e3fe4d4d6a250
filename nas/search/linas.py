"""LINAS (DyNAS-T, Cummings et al., 2022): a predictor refitted to all true scores, and true scores where it points.

A round evolves a population on the predictor alone, thousands of predictions for nothing, and asks for the true scores
of the best new networks that it ends with; the next round knows them. So it is for problems whose evaluation costs far
more than a prediction: a measured latency, a trained accuracy.

Departures: the predictor is that of ``surrogate``, with no settings to choose, and it says how sure it is. The inner
evolution begins where the true front is and looks at predictions that are a standard deviation better than expected. Of
what it ends with, a round takes by expected gain of hypervolume times the probability to meet the constraints, one
after the other, each time as if the one before had scored as predicted. The first networks are far apart.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from scipy.special import ndtr

from nas.search.evolution import survivors
from nas.search.fronts import Losses
from nas.search.improvement import hypervolume_improvement
from nas.search.offspring import no_rows, unseen_mutants
from nas.search.problem import Genes, Problem, Scores
from nas.search.surrogate import LEAST_VARIANCE, Surrogate
from nas.search.unique import Seen

ROUNDS = 20  # of a budget
MOST_ROWS = 64  # in a round
DRAWN = 64  # samples for each of the first networks
GENERATIONS, POPULATION = 12, 100  # of the evolution on the predictor
MOST_FITTED = 1000  # rows that the predictor is fitted to: the best

Floats = NDArray[np.float64]


class Linas:
    """Ask and tell, a round at a time."""

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._problem, self._space, self._rng = problem, problem.space, rng
        bounds = list(problem.constraints.values())
        self._low = np.array([-np.inf if low is None else low for low, _ in bounds])
        self._high = np.array([np.inf if high is None else high for _, high in bounds])
        self._round = max(1, min(MOST_ROWS, round(budget / ROUNDS)))
        self._first = min(MOST_ROWS, max(2, 2 * self._round))
        self._seen = Seen()
        self._genes = no_rows(self._space)  # best first
        self._scores: Scores = {name: np.empty(0) for name in problem.names}

    def ask(self, n: int) -> Genes:
        missing = self._first - len(self._genes)
        if missing > 0:
            found = self._seen.claim(self._far_apart(min(n, missing)), n)
            parents, wanted = no_rows(self._space), min(n, missing)
        else:
            wanted = min(n, self._round)
            found = self._seen.claim(self._pointed(wanted), wanted)
            parents = self._genes[: max(1, wanted - len(found))]
        rest = unseen_mutants(self._space, self._seen, parents, wanted - len(found), self._rng)
        return np.concatenate([found, rest])

    def _far_apart(self, count: int) -> Genes:
        """Draw many and return ``count``, each the farthest from those before it by its features."""
        drawn = self._space.sample(DRAWN * count, self._rng)
        features = self._space.encode(drawn)
        chosen = [0]
        nearest = np.full(len(drawn), np.inf, np.float32)
        while len(chosen) < count:
            nearest = np.minimum(nearest, ((features - features[chosen[-1]]) ** 2).sum(axis=1))
            chosen.append(int(nearest.argmax()))
        return drawn[chosen]

    def _pointed(self, wanted: int) -> Genes:
        """Return where the predictor points, at most ``wanted`` rows."""
        losses = tempered(self._problem.losses(self._scores))
        limited = [self._scores[name] for name in self._problem.constraints]
        targets = np.column_stack([losses, *limited])[:MOST_FITTED]
        surrogate = Surrogate(self._space.encode(self._genes[:MOST_FITTED]), targets)
        pool = self._seen.unmet(self._evolved(surrogate))
        return pool[self._chosen(surrogate, losses, pool, wanted)] if len(pool) else pool

    def _evolved(self, surrogate: Surrogate) -> Genes:
        """Return what evolution on hopeful predictions ends with, best first."""
        met, children = Seen(), self._genes[:POPULATION]
        everyone, losses, violations = no_rows(self._space), np.empty((0, len(self._problem.objectives))), np.empty(0)
        for _ in range(GENERATIONS + 1):
            fresh = met.claim(children, len(children))
            hoped = self._hoped(surrogate, fresh)
            everyone = np.concatenate([everyone, fresh])
            losses, violations = np.concatenate([losses, hoped[0]]), np.concatenate([violations, hoped[1]])
            best = survivors(losses, violations, 4 * POPULATION)
            everyone, losses, violations = everyone[best], losses[best], violations[best]
            children = self._children(everyone[:POPULATION])
        return everyone

    def _hoped(self, surrogate: Surrogate, genes: Genes) -> tuple[Losses, Floats]:
        """Return losses ``(n, objectives)`` and violations ``(n,)`` a standard deviation better than expected."""
        mean, deviation = surrogate.predict(self._space.encode(genes))
        least, most, objectives = mean - deviation, mean + deviation, len(self._problem.objectives)
        if not len(self._low):
            return least, np.zeros(len(genes))
        limited = slice(objectives, None)
        nearest = np.clip(np.clip(mean[:, limited], self._low, self._high), least[:, limited], most[:, limited])
        scores = dict(zip(self._problem.constraints, nearest.T, strict=True))
        return least[:, :objectives], self._problem.violations(scores)

    def _children(self, parents: Genes) -> Genes:
        """Return as many crossed, mutated, and crossed and mutated children as a population."""
        mothers, fathers = (parents[self._rng.integers(len(parents), size=POPULATION)] for _ in range(2))
        rate = 1.5 / self._space.num_genes
        crossed = self._space.crossover(mothers, fathers, self._rng)
        mutated = self._space.mutate(mothers, self._rng, rate)
        return np.concatenate([crossed, mutated, self._space.mutate(crossed, self._rng, rate)])

    def _chosen(self, surrogate: Surrogate, losses: Losses, pool: Genes, wanted: int) -> list[int]:
        """Return the rows of ``pool`` whose true scores promise most, ``wanted`` of them if there are so many."""
        features, objectives = self._space.encode(pool), losses.shape[1]
        mean, deviation = surrogate.predict(features)
        covariances, noise = surrogate.covariances(features), surrogate.noise
        feasible = self._problem.violations(self._scores) <= 0
        front, reference = losses[feasible], losses.max(axis=0)
        chosen: list[int] = []
        while len(chosen) < min(wanted, len(pool)):
            promise = self._probability(mean[:, objectives:], deviation[:, objectives:])
            if feasible.any():
                promise *= hypervolume_improvement(front, reference, mean[:, :objectives], deviation[:, :objectives])
            promise[chosen] = -1.0
            row = int(promise.argmax())
            chosen.append(row)
            front = np.concatenate([front, mean[row, None, :objectives]])
            shared = covariances[:, :, row]
            known = shared[:, row] + noise
            covariances = covariances - shared[:, :, None] * shared[:, None, :] / known[:, None, None]
            deviation = np.sqrt(np.maximum(np.diagonal(covariances, axis1=1, axis2=2).T, LEAST_VARIANCE))
        return chosen

    def _probability(self, mean: Floats, deviation: Floats) -> Floats:
        """Return how probable it is that scores ``(n, constraints)`` meet the constraints, ``(n,)``."""
        met = ndtr((self._high - mean) / deviation) - ndtr((self._low - mean) / deviation)
        return np.prod(met, axis=1)

    def tell(self, genes: Genes, scores: Mapping[str, Floats]) -> None:
        everyone = np.concatenate([self._genes, genes])
        merged = {name: np.concatenate([told, scores[name]]) for name, told in self._scores.items()}
        best = survivors(self._problem.losses(merged), self._problem.violations(merged), len(everyone))
        self._genes, self._scores = everyone[best], {name: values[best] for name, values in merged.items()}


def tempered(losses: Losses) -> Losses:
    """Return losses ``(n, m)`` in the same order, the worse half drawn together so that outliers do not rule."""
    middle = np.median(losses, axis=0)
    scale = np.maximum(middle - losses.min(axis=0), 1e-12)
    away = (losses - middle) / scale
    return np.where(away > 0, np.log1p(np.maximum(away, 0)), away)
