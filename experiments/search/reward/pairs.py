"""A network found within a limit of multiply-adds, and the fastest as accurate one of a search that sees latency."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nas.errors import InfeasibleError
from nas.search import Choice, Problem, search
from nas.search.problem import Genes, Scores, Space


@dataclass(frozen=True)
class Pair:
    """What two searches of equal budgets found; ``aware`` is no slower than ``blind``, and as accurate or more."""

    blind: Choice
    aware: Choice


def find_pair(space: Space, evaluate: Callable[[Genes], Scores], most_macs: float, budget: int, seed: int) -> Pair:
    """Search twice by ``rl`` with the hard reward: within multiply-adds, then within the latency of what that found.

    Args:
        space: What is searched.
        evaluate: Scores ``accuracy``, ``macs_m`` and ``latency_ms``.
        most_macs: The limit.
        budget: Candidates of each search.
        seed: Of both.
    """

    def found(name: str, limit: float) -> Problem:
        return Problem(space, {"accuracy": "max"}, {name: (None, limit)}, evaluate)

    blind = search(found("macs_m", most_macs), "rl", budget, seed).best()
    try:
        aware = search(found("latency_ms", blind.scores["latency_ms"]), "rl", budget, seed).history
    except InfeasibleError:
        return Pair(blind, blind)
    as_good = np.flatnonzero(aware.scores["accuracy"] >= blind.scores["accuracy"])
    if len(as_good) == 0:
        return Pair(blind, blind)
    best = as_good[aware.scores["latency_ms"][as_good].argmin()]
    scores = {name: float(values[best]) for name, values in aware.scores.items()}
    faster = scores["latency_ms"] <= blind.scores["latency_ms"]
    return Pair(blind, Choice(aware.genes[best], scores) if faster else blind)
