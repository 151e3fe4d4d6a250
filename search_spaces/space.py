"""What every search space offers: populations as integer arrays, and everything on them vectorised.

A population is one ``int8`` array ``(n, num_genes)``; a gene is the index of a choice, the first one that of the
resolution. Rows that the methods return are canonical: genes of blocks left out are zero, and equal networks are equal
rows.

A network is a chain of *parts*: stem, block positions, head. Each is left out or filled by one of its distinct choices,
which says everything that the part costs and how exactly it is computed. Tables of costs and choices of precision are
over parts; what else a family's genes mean is its own affair.
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from search_spaces.candidate import Candidate
from search_spaces.choices import choice_index
from search_spaces.part_table import Codes
from search_spaces.preset import Preset

Genes = NDArray[np.int8]
RESOLUTION = 0  # the first gene of every row
RESOLUTION_MUTATION = 5.0  # it is redrawn this many times as often as another gene (OFA: 0.5 against 0.1)


class PartChoice(Protocol):
    """One distinct way to fill a part: a frozen dataclass of its family, equal where the filled parts are equal."""

    @property
    def precision(self) -> str:
        """What the part is executed in."""


class SearchSpace(ABC):
    """A finite set of networks, addressed by genes: the space of one preset, for one device's menu of precisions.

    Args:
        preset: The choices.
        precisions: The menu; without it, the preset's own.

    Attributes:
        preset_type: The family's presets; class attribute.
        preset: The choices.
        name: The preset's name.
        precisions: The menu, in the order of the precision genes.
        resolutions: Sides of the square input, in pixels.
        cardinalities: Number of values of each gene, ``(num_genes,)``.

    Raises:
        UsageError: The precisions are none, or one is there twice.
    """

    preset_type: ClassVar[type[Preset]]
    cardinalities: NDArray[np.int64]

    def __init__(self, preset: Preset, precisions: Sequence[str] | None = None):
        self.preset = preset
        self.name = preset.name
        self.precisions = tuple(preset.precisions if precisions is None else precisions)
        if not self.precisions or len(set(self.precisions)) < len(self.precisions):
            raise UsageError(f"precisions {list(self.precisions)} of {self.name}; allowed: one or more, none twice")
        self.resolutions = preset.resolutions

    def restricted(self, open: Mapping[str, int]) -> Self:
        """Return the part with only the last ``open[name]`` choices of each of ``preset.elastic``, 1 where absent."""
        return type(self)(self.preset.restricted(open), self.precisions)

    @property
    def num_genes(self) -> int:
        """Length of a row."""
        return len(self.cardinalities)

    @property
    @abstractmethod
    def size(self) -> int:
        """Exact number of distinct networks."""

    @property
    def digest(self) -> str:
        """Short hash of every choice and of the menu of precisions: equal digests, equal networks behind equal rows."""
        return f"{self.preset.digest}-{'-'.join(self.precisions)}"

    @property
    @abstractmethod
    def part_names(self) -> tuple[str, ...]:
        """The parts in order: ``stem``, each ``block_<stage>_<index>``, ``head``."""

    @abstractmethod
    def part_choices(self, part: int) -> Sequence[PartChoice]:
        """Return the distinct choices of part number ``part``; choice ``i`` has code ``i + 1``."""

    @abstractmethod
    def part_codes(self, genes: Genes) -> Codes:
        """Return each part's code ``(n, parts)`` of canonical rows: 0 if left out, else 1 + its choice."""

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

    @abstractmethod
    def check(self, candidate: Candidate) -> None:
        """Check that the space has every choice of a candidate but the precisions.

        Raises:
            UsageError: It does not; the message names the choice and what is allowed.
        """

    @abstractmethod
    def with_precisions(self, genes: Genes, values: NDArray[np.integer]) -> Genes:
        """Return the same architectures with the indices of precisions ``(n, parts)`` of each part."""

    def with_precision(self, genes: Genes, precision: str) -> Genes:
        """Return the same architectures ``(n, num_genes)`` with every part in ``precision``."""
        index = choice_index(precision, self.precisions, "precision")
        return self.with_precisions(genes, np.full((len(genes), len(self.part_names)), index))

    def largest(self, precision: str | None = None) -> Genes:
        """Return the row of the largest network, the last choice of every gene, in one precision: the menu's first."""
        genes = (self.cardinalities - 1).astype(np.int8)[None]
        return self.with_precision(genes, precision or self.precisions[0])[0]

    def smallest(self, precision: str | None = None) -> Genes:
        """Return the row of the smallest network, the first choice of every gene, likewise in one precision."""
        genes = np.zeros((1, self.num_genes), np.int8)
        return self.with_precision(genes, precision or self.precisions[0])[0]

    def resolution_index(self, genes: Genes) -> Genes:
        """Return the index into ``resolutions`` of each row, ``(n,)``."""
        return genes[:, RESOLUTION]

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
