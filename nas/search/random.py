"""Uniform random search without repeats: the baseline that every strategy must beat (Li and Talwalkar, 2020)."""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas.search.problem import Genes, Problem
from nas.search.unique import Seen

BATCH = 4096  # the most rows a call; a small budget is asked for in ten calls, so that progress shows and is stored
ATTEMPTS = 16  # draws in a row that bring nothing new before the space counts as exhausted


class Random:
    """Samples the space; what it is told changes nothing."""

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._space = problem.space
        self._rng = rng
        self._seen = Seen()
        self._batch = min(BATCH, -(-budget // 10))

    def ask(self, n: int) -> Genes:
        wanted = min(n, self._batch)
        for _ in range(ATTEMPTS):
            if len(self._seen) >= self._space.size:
                break
            fresh = self._seen.claim(self._space.sample(BATCH, self._rng), wanted)
            if len(fresh):
                return fresh
        return np.empty((0, self._space.num_genes), np.int8)

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        pass
