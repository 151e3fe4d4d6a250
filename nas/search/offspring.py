"""New networks near known ones: what strategies share that go from good networks to their mutants and neighbours."""

import numpy as np

from nas.search.problem import Genes, Space
from nas.search.unique import Seen

MUTATED_GENES = 1.5  # a mutant, on average
ATTEMPTS = 16  # draws; the second half are uniform samples
FEW, MANY = 64, 2**16  # rows in a repeated draw, doubling from the one to the other


def no_rows(space: Space) -> Genes:
    """Return no network, ``(0, num_genes)``."""
    return np.empty((0, space.num_genes), np.int8)


def unseen_mutants(space: Space, seen: Seen, parents: Genes, wanted: int, rng: np.random.Generator) -> Genes:
    """Return up to ``wanted`` networks that were not met before, and remember them.

    First every parent is mutated once. Where too few mutants are new, more are drawn, at a rate that doubles from draw
    to draw, and uniform samples in the end: a small space is searched to its last network. Fewer than ``wanted`` means
    that many draws in a row brought too little.

    Args:
        space: Mutates and samples.
        seen: What was met before.
        parents: ``(n, num_genes)``; none asks for uniform samples.
        wanted: The most rows.
        rng: Draws.
    """
    found = no_rows(space)
    for attempt in range(ATTEMPTS):
        if len(found) == wanted or len(seen) >= space.size:
            break
        if attempt >= ATTEMPTS // 2 or len(parents) == 0:
            drawn = space.sample(min(max(wanted, FEW) * 2**attempt, MANY), rng)
        else:
            rate = min(0.5, MUTATED_GENES / space.num_genes * 2**attempt)
            count = len(parents) if attempt == 0 else max(len(parents), min(FEW * 2**attempt, MANY))
            drawn = space.mutate(parents[np.arange(count) % len(parents)], rng, rate)
        found = np.concatenate([found, seen.claim(drawn, wanted - len(found))])
    return found


def neighbours(space: Space, row: Genes) -> Genes:
    """Return the distinct networks that one changed gene makes of a row ``(num_genes,)``, itself not among them."""
    changes = [
        (gene, value) for gene, count in enumerate(space.cardinalities) for value in range(count) if value != row[gene]
    ]
    rows = np.repeat(row[None], len(changes), axis=0)
    for number, (gene, value) in enumerate(changes):
        rows[number, gene] = value
    distinct = np.unique(space.canonical(rows), axis=0)
    return distinct[(distinct != row).any(axis=1)]
