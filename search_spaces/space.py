"""What every search space offers: populations as integer arrays, and everything on them vectorised.

A population is one ``int8`` array ``(n, num_genes)``; a gene is the index of a choice. Rows that the methods return are
canonical: genes of blocks left out are zero, and equal networks are equal rows.
"""

from abc import ABC, abstractmethod

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from search_spaces.candidate import Candidate

Genes = NDArray[np.int8]


class SearchSpace(ABC):
    """A finite set of networks, addressed by genes."""

    name: str
    precisions: tuple[str, ...]
    cardinalities: NDArray[np.int64]
    """Number of values of each gene, ``(num_genes,)``."""

    @property
    def num_genes(self) -> int:
        """Length of a row."""
        return len(self.cardinalities)

    @property
    @abstractmethod
    def size(self) -> int:
        """Exact number of distinct networks."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """Short hash of every choice and of the menu of precisions: equal digests, equal networks behind equal rows."""

    @property
    @abstractmethod
    def gene_names(self) -> tuple[str, ...]:
        """What each gene chooses, such as ``depth_1`` or ``block_1_0.kernel``."""

    @property
    @abstractmethod
    def feature_names(self) -> tuple[str, ...]:
        """What each feature stands for, such as ``resolution=20`` or ``block_1_0.precision=int8``."""

    @property
    @abstractmethod
    def num_features(self) -> int:
        """Width of ``encode``."""

    @abstractmethod
    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        """Draw ``n`` networks: every choice uniform among the distinct ones, independent of the others."""

    @abstractmethod
    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        """Redraw each choice of canonical rows with probability ``rate``; blocks that come in are drawn afresh.

        A space may redraw a choice more often than ``rate`` says where few choices matter much; it says so itself.
        """

    @abstractmethod
    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        """Mix canonical rows pairwise: each choice comes from one parent, or from the only one that has it."""

    @abstractmethod
    def canonical(self, genes: Genes) -> Genes:
        """Return the canonical rows of the same networks."""

    @abstractmethod
    def encode(self, genes: Genes) -> NDArray[np.float32]:
        """Return one-hot features ``(n, num_features)``; a block left out is all zeros."""

    @abstractmethod
    def candidate(self, row: Genes) -> Candidate:
        """Spell out one row ``(num_genes,)``."""

    @abstractmethod
    def genes(self, candidate: Candidate) -> Genes:
        """Return the canonical row of a candidate.

        Raises:
            UsageError: The candidate is of another space, or has a choice that this one lacks.
        """

    def validate(self, genes: NDArray[np.integer]) -> Genes:
        """Check shape and range of foreign genes and return them as canonical ``int8`` rows.

        Raises:
            UsageError: The shape is not ``(n, num_genes)`` or a value is out of range; the message names the gene.
        """
        genes = np.asarray(genes)
        if genes.ndim != 2 or genes.shape[1] != self.num_genes or not np.issubdtype(genes.dtype, np.integer):
            allowed = f"integers (n, {self.num_genes}) for {self.name}"
            raise UsageError(f"genes of shape {genes.shape} and type {genes.dtype}; allowed: {allowed}")
        wrong = (genes < 0) | (genes >= self.cardinalities)
        if wrong.any():
            row, gene = np.argwhere(wrong)[0]
            allowed = f"0 to {self.cardinalities[gene] - 1} for {self.name}"
            name, value = self.gene_names[gene], genes[row, gene]
            raise UsageError(f"gene {gene} ({name}) of row {row} is {value}; allowed: {allowed}")
        return self.canonical(genes.astype(np.int8))
