"""A part of a space that is small enough to be enumerated: some genes free, the others as in one network."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import product

import numpy as np
from numpy.typing import NDArray

from search_spaces import Genes, SearchSpace

WITHIN = 8  # genes that vary within a block of the enumeration; those before vary from block to block


@dataclass(frozen=True, eq=False)
class Part:
    """The networks of ``whole`` that differ from ``fixed`` ``(num_genes,)`` in the ``free`` genes only."""

    whole: SearchSpace
    fixed: Genes
    free: tuple[int, ...]

    @property
    def name(self) -> str:
        """The whole's, as a part."""
        return f"part of {self.whole.name}"

    @property
    def digest(self) -> str:
        """What distinguishes it."""
        return f"{self.whole.digest} {self.free} {self.fixed.tolist()}"

    @property
    def num_genes(self) -> int:
        """Length of a row: the whole's."""
        return self.whole.num_genes

    @cached_property
    def cardinalities(self) -> NDArray[np.int64]:
        """Number of values of each gene; 1 where it is fixed."""
        counts = np.ones(self.num_genes, np.int64)
        counts[list(self.free)] = np.asarray(self.whole.cardinalities)[list(self.free)]
        return counts

    @cached_property
    def size(self) -> int:
        """Number of distinct networks, counted."""
        return sum(map(len, self.everything()))

    def everything(self) -> Iterator[Genes]:
        """Yield every network once, some hundred thousand rows at a time."""
        outer, inner = self.free[:-WITHIN], self.free[-WITHIN:]
        counts = self.cardinalities
        grid = np.indices(counts[list(inner)]).reshape(len(inner), -1).T
        for values in product(*(range(counts[gene]) for gene in outer)):
            rows = np.repeat(self.fixed[None], len(grid), axis=0)
            rows[:, outer], rows[:, inner] = values, grid
            yield np.unique(self.whole.canonical(rows), axis=0)

    def _inside(self, genes: Genes) -> Genes:
        rows = np.repeat(self.fixed[None], len(genes), axis=0)
        rows[:, self.free] = genes[:, self.free]
        return self.whole.canonical(rows)

    def canonical(self, genes: Genes) -> Genes:
        """Return canonical rows, the genes that are not free as in ``fixed``."""
        return self._inside(genes)

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        """Return the whole's features."""
        return self.whole.encode(genes)

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        """Draw ``(n, num_genes)``."""
        return self._inside(rng.integers(self.cardinalities, size=(n, self.num_genes), dtype=np.int8))

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        """Redraw each free gene with a probability that changes as many of them as ``rate`` does of all."""
        drawn = rng.random(genes.shape) < rate * self.num_genes / len(self.free)
        return self._inside(np.where(drawn, rng.integers(self.cardinalities, size=genes.shape, dtype=np.int8), genes))

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        """Take each gene from one of the two parents."""
        return self._inside(np.where(rng.random(a.shape) < 0.5, a, b))
