"""What a search gives back: every scored candidate, the front among them, and how to pick from it."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.errors import InfeasibleError, UsageError
from nas.search.fronts import hypervolume, knee, non_dominated
from nas.search.problem import Genes, Problem, Scores


@dataclass(frozen=True)
class Scored:
    """Candidates and their scores, row by row.

    Args:
        genes: ``(n, num_genes)``.
        scores: ``{name: (n,)}``.
    """

    genes: Genes
    scores: Scores

    def __len__(self) -> int:
        return len(self.genes)

    def take(self, rows: NDArray[np.integer] | NDArray[np.bool_]) -> "Scored":
        """Return the chosen rows, by index or mask."""
        return Scored(self.genes[rows], {name: values[rows] for name, values in self.scores.items()})

    @staticmethod
    def join(parts: "list[Scored]") -> "Scored":
        """Return the rows of all parts, of which there is at least one, in order."""
        names = parts[0].scores
        scores = {name: np.concatenate([part.scores[name] for part in parts]) for name in names}
        return Scored(np.concatenate([part.genes for part in parts]), scores)


@dataclass(frozen=True)
class Choice:
    """One scored candidate: its row ``(num_genes,)`` and ``{name: value}``."""

    genes: Genes
    scores: dict[str, float]


def front_of(problem: Problem, scored: Scored) -> Scored:
    """Return the feasible, non-dominated rows, ascending in the last objective's loss (latency, as a rule)."""
    feasible = scored.take(problem.violations(scored.scores) <= 0)
    front = feasible.take(non_dominated(problem.losses(feasible.scores)))
    return front.take(np.lexsort(problem.losses(front.scores).T))


@dataclass(frozen=True)
class SearchResult:
    """A finished search.

    Args:
        problem: What was searched.
        strategy: Name of the strategy.
        seed: Seed of the search.
        history: Every candidate scored, in order.
        front: The feasible ones that no other feasible one dominates, fastest first.
        exhausted: Whether the strategy had nothing new to ask for before the budget was spent.
        seconds: Wall time, of the resumed part only where the search was resumed.
    """

    problem: Problem
    strategy: str
    seed: int
    history: Scored
    front: Scored
    exhausted: bool
    seconds: float

    @property
    def evaluated(self) -> int:
        """Number of candidates scored."""
        return len(self.history)

    def best(self, **limits: float) -> Choice:
        """Return the best candidate within limits: ``best(latency_ms=3.0)`` is the most accurate of at most 3 ms.

        A limit is inclusive: from above, or from below for an objective that is maximised. Best is by the first
        objective without a limit; ties go to the others in their order. Everything scored is looked at.

        Raises:
            UsageError: A limit names no score.
            InfeasibleError: Nothing scored is within the limits; the message says what range was seen.
        """
        scores = self.history.scores
        within = self.problem.violations(scores) <= 0
        for name, limit in limits.items():
            if name not in scores:
                raise UsageError(f"no score {name!r} to limit; there is: {', '.join(scores)}")
            seen = scores[name][within]
            at_least = self.problem.objectives.get(name) == "max"
            within = within & (scores[name] >= limit if at_least else scores[name] <= limit)
            if not within.any():
                also = "" if len(limits) == 1 else " within the limits before it"
                raise InfeasibleError(
                    f"no candidate has {name} {'≥' if at_least else '≤'} {limit:g}; "
                    f"reached{also}: {seen.min():.4g} to {seen.max():.4g}"
                )
        rows = np.flatnonzero(within)
        losses = self.problem.losses({name: values[rows] for name, values in scores.items()})
        limited = [name in limits for name in self.problem.objectives]
        keys = [column for _, column in sorted(zip(limited, losses.T, strict=True), key=lambda pair: pair[0])]
        return self._choice(self.history, int(rows[np.lexsort(keys[::-1])[0]]))

    def knee(self) -> Choice:
        """Return the front's knee: furthest from the chord between its ends, both objectives scaled to [0, 1].

        Raises:
            UsageError: There are not two objectives.
        """
        if len(self.problem.objectives) != 2:
            raise UsageError(f"a knee needs two objectives; this search has: {', '.join(self.problem.objectives)}")
        return self._choice(self.front, knee(self.problem.losses(self.front.scores)))

    def hypervolume(self, **reference: float) -> float:
        """Return the volume between the front and a reference point, given as one value for each objective.

        Raises:
            UsageError: The reference does not name exactly the objectives.
        """
        if set(reference) != set(self.problem.objectives):
            raise UsageError(f"reference names {sorted(reference)}; allowed: exactly {sorted(self.problem.objectives)}")
        point = self.problem.losses({name: np.array([value]) for name, value in reference.items()})[0]
        return hypervolume(self.problem.losses(self.front.scores), point)

    @staticmethod
    def _choice(scored: Scored, row: int) -> Choice:
        return Choice(scored.genes[row], {name: float(values[row]) for name, values in scored.scores.items()})
