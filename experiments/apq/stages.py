"""Architecture, pruning and precision searched at once, or one after another, at the same budget.

A stage varies some kinds of genes of the networks that the stage before left on its front and keeps the others: first
unpruned and in fp32. So a search in stages is not one network handed on but a whole front, which is kind to it. The
operators, the selection and the number of predictions are the same however the kinds are split.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.search.fronts import crowding, hypervolume, non_dominated, non_dominated_ranks
from search_spaces import Genes, SearchSpace

KINDS = ("architecture", "pruning", "precision")
SPLITS = {
    "joint": (KINDS,),
    "architecture, then pruning, then precision": (("architecture",), ("pruning",), ("precision",)),
    "architecture and pruning, then precision": (("architecture", "pruning"), ("precision",)),
    "architecture and precision, then pruning": (("architecture", "precision"), ("pruning",)),
    "architecture, then pruning and precision": (("architecture",), ("pruning", "precision")),
}
POPULATION = 100
MUTATION = 0.1
IDLE = 50  # generations without a new network before a stage ends

Losses = NDArray[np.float64]
Evaluate = Callable[[Genes], Losses]
"""Rows to ``(n, 2)``: one minus the accuracy, and the logarithm of the latency in ms."""


@dataclass(frozen=True)
class Front:
    """What a search ended with: the non-dominated rows, their losses, and how many predictions it took."""

    genes: Genes
    losses: Losses
    evaluated: int


def kinds_of(space: SearchSpace) -> Mapping[str, NDArray[np.bool_]]:
    """Return which genes are of each kind, ``(num_genes,)``."""
    pruning = np.array([name.endswith(".keep") for name in space.gene_names])
    precision = np.array([name.endswith("precision") for name in space.gene_names])
    return {"architecture": ~pruning & ~precision, "pruning": pruning, "precision": precision}


def search_split(space: SearchSpace, split: str, evaluate: Evaluate, budget: int, seed: int) -> Front:
    """Search with the kinds split into stages, each with an equal part of the ``budget`` of predictions."""
    stages, kinds, rng = SPLITS[split], kinds_of(space), np.random.default_rng(seed)
    parents = _plain(space, space.sample(POPULATION, rng), stages[0])
    losses, evaluated = evaluate(parents), len(parents)

    def as_begun(genes: Genes) -> Genes:
        return _plain(space, genes, stages[0])

    for number, stage in enumerate(stages, start=1):
        repair = as_begun if number == 1 else space.canonical  # a block that the first stage adds is plain too
        free = np.any([kinds[kind] for kind in stage], axis=0)
        parents, losses, evaluated = _stage(
            space, parents, losses, free, repair, evaluate, budget * number // len(stages), evaluated, rng
        )
        if number < len(stages):
            front = non_dominated(losses)
            parents, losses = parents[front], losses[front]
    front = non_dominated(losses)
    return Front(parents[front], losses[front], evaluated)


def _plain(space: SearchSpace, genes: Genes, varied: tuple[str, ...]) -> Genes:
    """Return rows that are unpruned and in fp32, but for the kinds that are ``varied``."""
    if "pruning" not in varied:
        genes = space.canonical(np.where(kinds_of(space)["pruning"], space.largest(), genes))
    return genes if "precision" in varied else space.with_precision(genes, "fp32")


def _stage(
    space: SearchSpace,
    genes: Genes,
    losses: Losses,
    free: NDArray[np.bool_],
    repair: Callable[[Genes], Genes],
    evaluate: Evaluate,
    budget: int,
    evaluated: int,
    rng: np.random.Generator,
) -> tuple[Genes, Losses, int]:
    """Vary the ``free`` genes until ``evaluated`` is ``budget``; return all that may still be on the front."""
    seen = {row.tobytes() for row in genes}
    idle = 0
    while evaluated < budget and idle < IDLE:
        children = repair(_children(space, genes[_order(losses)[:POPULATION]], free, rng))
        fresh = [row for row in children if row.tobytes() not in seen]
        distinct = np.unique(np.array(fresh, genes.dtype), axis=0)[: budget - evaluated] if fresh else genes[:0]
        idle = 0 if len(distinct) else idle + 1
        if not len(distinct):
            continue
        seen.update(row.tobytes() for row in distinct)
        genes, losses = np.concatenate([genes, distinct]), np.concatenate([losses, evaluate(distinct)])
        evaluated += len(distinct)
        kept = _order(losses)[: 10 * POPULATION]
        genes, losses = genes[kept], losses[kept]
    return genes, losses, evaluated


def _order(losses: Losses) -> NDArray[np.intp]:
    """Return the rows by front, and within a front by how alone they are."""
    ranks = non_dominated_ranks(losses)
    return np.lexsort((-crowding(losses, ranks), ranks))


def _children(space: SearchSpace, parents: Genes, free: NDArray[np.bool_], rng: np.random.Generator) -> Genes:
    """Return mutated and crossed parents, half each, that differ from one parent in ``free`` genes only."""
    first, second = (parents[rng.integers(len(parents), size=POPULATION)] for _ in range(2))
    half = POPULATION // 2
    changed = np.concatenate(
        [space.mutate(first[:half], rng, MUTATION), space.crossover(first[half:], second[half:], rng)]
    )
    return np.where(free, changed, first).astype(parents.dtype)


def front_figures(
    fronts: Mapping[str, Front], limits_ms: NDArray[np.float64], reference: NDArray[np.float64]
) -> dict[str, dict[str, object]]:
    """Return for each search its hypervolume and its best accuracy within each of the latencies."""
    return {
        split: {
            "hypervolume": hypervolume(front.losses, reference),
            "accuracy": [_accuracy_within(front.losses, limit) for limit in limits_ms],
            "evaluated": front.evaluated,
        }
        for split, front in fronts.items()
    }


def _accuracy_within(losses: Losses, limit_ms: float) -> float | None:
    inside = losses[losses[:, 1] <= np.log(limit_ms)]
    return float(1 - inside[:, 0].min()) if len(inside) else None
