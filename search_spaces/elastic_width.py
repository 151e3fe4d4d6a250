"""What staged spaces share whose stages choose their widths, multipliers of the preset's channels.

Widths that round to equal channels are the same network. A family has another such choice, *bound* to genes before it:
which of its values are the same hangs on theirs. What fills a part is numbered by a table (see ``part_table``).
"""

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from search_spaces.part_table import Codes, PartTable
from search_spaces.space import RESOLUTION, RESOLUTION_MUTATION, Genes
from search_spaces.staged import StagedSpace

Index = tuple[NDArray[np.integer], ...]


class ElasticWidthSpace(StagedSpace):
    """A staged space with elastic widths; a family sets these attributes."""

    _widths: slice  # the genes of widths
    _first_width: Genes  # of each such gene and value, the first value of equal channels: (genes, menu)
    _bound: slice  # the genes of the bound choice
    _first_bound: Genes  # likewise, by the genes that it is bound to: (..., menu)

    @abstractmethod
    def _bound_to(self, genes: Genes) -> Index:
        """Return the index into ``_first_bound``, but for the last axis, of each bound gene, ``(n, bound genes)``."""

    def _has_gene(self, genes: Genes) -> NDArray[np.bool_]:
        """Return which of the blocks' genes mean something, ``(n, block_genes * num_blocks)``."""
        return np.repeat(self.has_block(genes), len(self.block_genes), axis=1)

    def _tie(self, from_a: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Let genes that mean nothing apart come from one parent."""
        return from_a

    def _set_parts(self, stem: PartTable[Any], blocks: Sequence[PartTable[Any]], head: PartTable[Any]) -> None:
        """Set the choices of every part, and one table of all blocks' codes: 0 at its begin, for a block left out."""
        self._stem, self._head = stem, head
        self._choices = tuple(table.choices for table in (stem, *blocks, head))
        self._block_menus = blocks[0].codes.shape
        self._block_codes = np.concatenate([np.zeros(1, np.int32), *(block.codes.ravel() for block in blocks)])
        self._first_slot = 1 + np.arange(self.num_blocks) * blocks[0].codes.size

    def _codes_of_blocks(self, genes: Genes, places: Sequence[NDArray[np.integer]]) -> Codes:
        """Return the codes of the blocks from their places ``(n, num_blocks)`` along each axis of their tables."""
        slots = places[0].astype(np.int32)
        for count, place in zip(self._block_menus[1:], places[1:], strict=True):
            slots *= count
            slots += place
        return self._block_codes.take((slots + self._first_slot) * self.has_block(genes))

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        return self.canonical(self._draw(n, rng))

    def _draw(self, n: int, rng: np.random.Generator) -> Genes:
        """Draw rows with the genes of all blocks, also of those left out."""
        genes = rng.integers(self.cardinalities, size=(n, self.num_genes)).astype(np.int8)
        for number, gene in enumerate(range(self._widths.start, self._widths.stop)):
            genes[:, gene] = rng.choice(np.unique(self._first_width[number]), size=n)
        genes[:, self._bound] = self._draw_bound(genes, rng)
        return genes

    def _draw_bound(self, genes: Genes, rng: np.random.Generator) -> Genes:
        """Draw the bound choices for the rows' other genes: uniform among the distinct ones, ``(n, bound genes)``."""
        first = self._first_bound[self._bound_to(genes)]
        distinct = first == np.arange(first.shape[-1])
        ranks = np.where(distinct, rng.random(distinct.shape, np.float32), -1)
        return ranks.argmax(axis=-1).astype(np.int8)

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        rates = np.full(self.num_genes, rate)
        rates[RESOLUTION] *= RESOLUTION_MUTATION
        redrawn = rng.random(genes.shape) < rates
        redrawn[:, self._blocks] |= ~self._has_gene(genes)  # what other genes bring in is drawn afresh
        child = np.where(redrawn, self._draw(len(genes), rng), genes).astype(np.int8)
        bound = redrawn[:, self._bound]
        child[:, self._bound] = np.where(bound, self._draw_bound(child, rng), child[:, self._bound])
        return self.canonical(child)

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        from_a = self._tie(rng.integers(2, size=a.shape, dtype=np.uint8).view(np.bool_))
        has_a, has_b = self._has_gene(a), self._has_gene(b)
        from_a[:, self._blocks] = (from_a[:, self._blocks] | ~has_b) & has_a  # what only one has comes from it
        return self.canonical(np.where(from_a, a, b).astype(np.int8))

    def canonical(self, genes: Genes) -> Genes:
        result = np.array(genes, dtype=np.int8)
        widths = result[:, self._widths]
        result[:, self._widths] = self._first_width[np.arange(widths.shape[1]), widths]
        result[:, self._bound] = self._first_bound[(*self._bound_to(result), result[:, self._bound])]
        result[:, self._blocks] *= self._has_gene(result)
        return result
