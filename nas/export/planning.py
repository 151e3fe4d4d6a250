"""What to verify: finalists from the predicted front, the baselines, and the twins of mixed finalists."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from nas.export.choose import below_limit, spread_over
from nas.export.finalists import BASELINE, FINALIST, TWIN, Entry, in_one_precision
from nas.search import Scored
from search_spaces import Candidate, Genes, SearchSpace

TWINS = 2  # mixed finalists that get twins

Score = Callable[[Genes], Mapping[str, NDArray[np.float64]]]
"""Genes ``(n, num_genes)`` to predicted ``accuracy`` and ``latency_ms``, ``(n,)`` each."""


def pick_finalists(space: SearchSpace, front: Scored, *, count: int, limit_ms: float | None = None) -> list[Candidate]:
    """Return finalists, fastest first: spread over the predicted front, or close below the limit where there is one.

    Args:
        space: The space, with the device's precisions.
        front: The predicted front, with its ``accuracy`` and ``latency_ms``.
        count: How many.
        limit_ms: The latency budget.
    """
    latency, accuracy = front.scores["latency_ms"], front.scores["accuracy"]
    if limit_ms is None:
        rows = spread_over(latency, accuracy, count)
    else:
        rows = below_limit(latency, accuracy, limit_ms, count)
    return [space.candidate(row) for row in front.genes[rows]]


def plan_entries(space: SearchSpace, candidates: Sequence[Candidate], score: Score) -> list[Entry]:
    """Return everything that one measuring batch shall verify: finalists, baselines and twins.

    Args:
        space: The space, with the device's precisions.
        candidates: The finalists.
        score: Predicts.
    """
    finalists = _entries(FINALIST, [(one.id, one, None) for one in candidates], space, score)
    return [*finalists, *baseline_entries(space, score), *twin_entries(finalists, space, score)]


def baseline_entries(space: SearchSpace, score: Score) -> list[Entry]:
    """Return the largest and the smallest network in each precision."""
    named = [
        (f"{size} {precision}", space.candidate(row(precision)), None)
        for size, row in (("largest", space.largest), ("smallest", space.smallest))
        for precision in space.precisions
    ]
    return _entries(BASELINE, named, space, score)


def twin_entries(finalists: Sequence[Entry], space: SearchSpace, score: Score) -> list[Entry]:
    """Return, for the mixed finalists predicted to gain most by mixing, the same networks in one precision."""
    entries = []
    for mixed in (one for one in finalists if len(set(one.candidate.precisions)) > 1):
        named = [
            (f"{mixed.name} {precision}", in_one_precision(mixed.candidate, precision), mixed.candidate.id)
            for precision in space.precisions
        ]
        twins = _entries(TWIN, named, space, score)
        entries.append((min(twin.latency_ms for twin in twins) / mixed.latency_ms, twins))
    entries.sort(key=lambda pair: -pair[0])
    return [twin for _, twins in entries[:TWINS] for twin in twins]


def _entries(
    role: str, named: Sequence[tuple[str, Candidate, str | None]], space: SearchSpace, score: Score
) -> list[Entry]:
    genes = np.stack([space.genes(candidate) for _, candidate, _ in named])
    scores = score(genes)
    return [
        Entry(name, role, candidate, float(accuracy), float(latency_ms), twin_of)
        for (name, candidate, twin_of), accuracy, latency_ms in zip(
            named, scores["accuracy"], scores["latency_ms"], strict=True
        )
    ]
