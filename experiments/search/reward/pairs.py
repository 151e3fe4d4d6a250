"""A network found within a limit of multiply-adds, and the fastest as accurate one of a search that sees latency."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nas.errors import InfeasibleError
from nas.search import Choice, Problem, search
from nas.search.problem import Genes, Scores, Space

Evaluate = Callable[[Genes], Scores]
"""Scores ``accuracy``, ``macs_m`` and ``latency_ms`` of networks."""


@dataclass(frozen=True)
class Pair:
    """What two searches of equal budgets found; ``aware`` is no slower than ``blind``, and as accurate or more."""

    blind: Choice
    aware: Choice


def find_blind(space: Space, evaluate: Evaluate, most_macs: float, budget: int, seed: int) -> Genes:
    """Return the row of the most accurate network within a limit that ``rl`` finds with the hard reward."""
    return search(_within(space, evaluate, "macs_m", most_macs), "rl", budget, seed).best().genes


def find_pair(space: Space, evaluate: Evaluate, blind: Genes, budget: int, seed: int) -> Pair:
    """Search within the latency of ``blind``; of what is as accurate, the fastest counts, if there is any."""
    known = Choice(blind, {name: float(values[0]) for name, values in evaluate(blind[None]).items()})
    limit = known.scores["latency_ms"]
    try:
        found = search(_within(space, evaluate, "latency_ms", limit), "rl", budget, seed).history
    except InfeasibleError:
        return Pair(known, known)
    good = (found.scores["accuracy"] >= known.scores["accuracy"]) & (found.scores["latency_ms"] <= limit)
    if not good.any():
        return Pair(known, known)
    best = np.flatnonzero(good)[found.scores["latency_ms"][good].argmin()]
    return Pair(known, Choice(found.genes[best], {name: float(values[best]) for name, values in found.scores.items()}))


def _within(space: Space, evaluate: Evaluate, name: str, limit: float) -> Problem:
    return Problem(space, {"accuracy": "max"}, {name: (None, limit)}, evaluate)
