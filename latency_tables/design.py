"""Which networks a calibration measures: spread over what the space can be, then where a search would go.

Uniform samples alone would leave the ends to extrapolation, and it is the ends that a search returns.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from latency_tables.costs import Images, part_costs
from latency_tables.measurement import Floats
from search_spaces import Genes, SearchSpace

EXTREME_MUTATION = 0.3
POOL = 4000
GENERATIONS = 8


def spread_networks(space: SearchSpace, n: int, rng: np.random.Generator) -> Genes:
    """Return ``n`` distinct rows of four kinds.

    Uniform ones, ones in one precision, ones near the ends, and ones that change precision once. The first are the
    largest and the smallest network at each precision.
    """
    ends = [end(precision) for precision in space.precisions for end in (space.largest, space.smallest)]
    quarter = -(-n // 4)
    uniform, one, near, once = (space.sample(quarter, rng) for _ in range(4))
    for index in range(quarter):
        row = slice(index, index + 1)
        precision, other = (space.precisions[(index + step) % len(space.precisions)] for step in (0, 1))
        one[row] = space.with_precision(one[row], precision)
        seed = space.largest(precision) if index // 2 % 2 else space.smallest(precision)
        near[row] = space.mutate(seed[None], rng, EXTREME_MUTATION)
        cut = rng.integers(space.num_genes)
        halves = [space.with_precision(once[row], name) for name in (precision, other)]
        once[row] = space.canonical(np.where(np.arange(space.num_genes) < cut, *halves))
    mixed = np.stack([uniform, one, near, once], axis=1).reshape(-1, space.num_genes)
    return distinct(np.concatenate([np.stack(ends), mixed]))[:n]


def searched_networks(
    space: SearchSpace,
    predict_ms: Callable[[Genes], NDArray[np.floating]],
    n: int,
    rng: np.random.Generator,
    *,
    known: Genes | None = None,
) -> Genes:
    """Return ``n`` distinct rows such as a search on ``predict_ms`` returns: the most network for their latency.

    Rows of ``known`` are passed over for the next best; a space without ``n`` others returns fewer.

    "Most network" is a stand-in for accuracy (depth, and logarithms of kernels and channels): what matters is
    that the rows exploit whatever ``predict_ms`` gets wrong.
    """
    rows = distinct(np.concatenate([space.sample(POOL, rng), space.largest()[None], space.smallest()[None]]))
    for _ in range(GENERATIONS):
        parents = rows[_frontier(predict_ms(rows), _capacity(space, rows), POOL // 8)]
        children = space.mutate(parents[rng.integers(len(parents), size=POOL)], rng, 0.1)
        rows = distinct(np.concatenate([parents, children]))
    rows = rows if known is None else without(rows, known)
    if len(rows) <= n:
        return rows
    return rows[_frontier(predict_ms(rows), _capacity(space, rows), n)]


def distinct(genes: Genes) -> Genes:
    """Return the distinct rows in the order of their first appearance."""
    _, first = np.unique(genes, axis=0, return_index=True)
    return genes[np.sort(first)]


def without(genes: Genes, known: Genes) -> Genes:
    """Return the rows of ``genes`` that are not among ``known``, in order; both canonical."""
    seen = {row.tobytes() for row in known}
    return genes[np.fromiter((row.tobytes() not in seen for row in genes), bool, len(genes))]


def _capacity(space: SearchSpace, genes: Genes) -> Floats:
    costs = part_costs(space, Images(space.preset.channels, space.preset.classes))  # of which worth does not depend
    codes, total = space.part_codes(genes), np.zeros(len(genes))
    for part in range(len(space.part_names)):
        worth = [0.0] + [costs.worth(part, choice) for choice in space.part_choices(part)]
        total += np.array(worth)[codes[:, part]]
    pixels = np.array(space.resolutions)[space.resolution_index(genes)]
    return total * np.log(pixels)


def _frontier(ms: NDArray[np.floating], capacity: Floats, n: int) -> np.ndarray:
    """Return the indices of ``n`` rows: by capacity the first of each of ``n / 2`` latency bands, then the second."""
    bands = max(1, n // 2)
    logs = np.log(ms)
    band = np.searchsorted(np.linspace(logs.min(), logs.max(), bands + 1)[1:-1], logs)
    order = np.lexsort((-capacity, band))
    starts = np.searchsorted(band[order], np.arange(bands))
    rank = np.empty(len(ms), np.intp)
    rank[order] = np.arange(len(ms)) - starts[band[order]]
    return np.lexsort((ms, rank))[:n]
