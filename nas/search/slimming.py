"""Latency-driven slimming (EfficientFormer, Li et al., 2022): from the largest network down, step by step.

First the blocks of a trained supernet are given importances by Gumbel softmax (``supernets/importance.py``), on images.
Then every action on the network at hand (``search_spaces/slimming.py``) is scored, and the one that loses the least
accuracy for each millisecond that it gains is taken, until the latency is the one wanted; without a limit, until
nothing is left to take away, so that the steps are a front. The largest network at each resolution in each precision is
slimmed in turn.

Departures: an action's accuracy is the search's own score of it; the paper evaluates the supernet. What is left of the
budget goes to mutants of the networks that were taken. The actions have departures of their own.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas.search.cost import cost_name
from nas.search.offspring import no_rows, unseen_mutants
from nas.search.problem import Genes, Problem
from nas.search.training import Actions, training_of
from nas.search.unique import Seen

BATCH_SHARE = 1 / 32  # of the budget: mutants scored together


class Slimming:
    """Ask and tell, the actions on one network at a time.

    Attributes:
        taken: The networks that were taken, in order, ``(n, num_genes)``.
    """

    name = "slimming"

    def __init__(self, problem: Problem, budget: int, rng: np.random.Generator):
        self._space, self._rng, self._seen = problem.space, rng, Seen()
        self._actions: Actions = training_of(problem, self.name).actions(rng)
        self._batch = max(1, round(BATCH_SHARE * budget))
        self._gain = next((name for name, how in problem.objectives.items() if how == "max"), None)
        self._cost = cost_name(problem)
        self._limit = problem.constraints.get(self._cost or "", (None, None))[1]
        self._starts = list(self._actions.starts())
        self._scores: dict[bytes, tuple[float, float]] = {}  # accuracy and cost of every network that was scored
        self.taken = no_rows(problem.space)
        self._current: Genes | None = None  # of this walk; None before its first network is taken
        self._open = self._begin()  # scored next: a largest network, or what the actions make of the one at hand

    def ask(self, n: int) -> Genes:
        while len(self._open):
            found = self._seen.claim(self._open, n)
            if len(found):
                return found
            self._go_on()
        return unseen_mutants(self._space, self._seen, self.taken, min(n, self._batch), self._rng)

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        nothing = np.zeros(len(genes))
        gains = scores[self._gain] if self._gain else nothing
        costs = scores[self._cost] if self._cost else nothing
        for row, gain, cost in zip(genes, gains, costs, strict=True):
            self._scores[row.tobytes()] = float(gain), float(cost)

    @property
    def finished(self) -> bool:
        """Whether all walks are over, and what is asked for are mutants."""
        return len(self._open) == 0

    def _begin(self) -> Genes:
        """Return the next of the largest networks, ``(1 or 0, num_genes)``."""
        self._current = None
        return self._starts.pop(0)[None] if self._starts else no_rows(self._space)

    def _go_on(self) -> None:
        """Take one of the networks that are scored and open the actions on it, or begin with the next largest."""
        taken = self._open[0] if self._current is None else self._cheapest(self._current)
        smaller = no_rows(self._space)
        if taken is not None:
            self._current = taken
            self.taken = np.concatenate([self.taken, taken[None]])
            if self._limit is None or self._scores[taken.tobytes()][1] > self._limit:
                smaller = self._actions.smaller(taken)
        self._open = smaller if len(smaller) else self._begin()

    def _cheapest(self, current: Genes) -> Genes | None:
        """Return the scored network that loses the least accuracy for its gain in cost; None where none gains."""
        gain, cost = self._scores[current.tobytes()]
        best, least = None, np.inf
        for row in self._open:
            its_gain, its_cost = self._scores[row.tobytes()]
            if its_cost < cost and (loss := (gain - its_gain) / (cost - its_cost)) < least:
                best, least = row, loss
        return best
