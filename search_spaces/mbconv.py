"""Inverted residual blocks with elastic depth, kernel, expansion, pruning and precision.

The once-for-all MobileNetV3 space (Cai et al., 2020) joined with APQ's pruning and precision (Wang et al., 2020). Both
``expand`` and ``keep`` end in one number, the middle channels of the block, picked in the order of importance. So two
pairs with the same middle width are the same network: ``canonical`` maps them to one row, ``size`` counts them once,
and sampling draws every distinct block with equal probability.

A row is ``[resolution, stem precision, head precision, depth of each stage, (kernel, expand, keep, precision) of each
block]``; the genes of a block left out are zero. A mutation redraws the resolution five times as often as the rest.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from search_spaces.block_tables import BlockChoice, block_positions, build_tables
from search_spaces.candidate import Block, Candidate
from search_spaces.choices import check_stages, check_unmixed, choice_index
from search_spaces.mbconv_preset import MBConvPreset
from search_spaces.part_table import Codes
from search_spaces.space import RESOLUTION, RESOLUTION_MUTATION, Genes
from search_spaces.staged import HEAD_PRECISION, STEM_PRECISION, StagedSpace

CHUNK = 256  # rows worked on at a time: their arrays stay in the cache and are not given back to the system
CODED = 1024  # rows whose codes are looked up at a time: these arrays are narrower
GLOBAL_GENES = 3  # resolution, stem precision, head precision
EXPAND, KEEP = 1, 2


@dataclass(frozen=True)
class EndChoice:
    """One way to fill the stem or the head, which choose nothing but a precision."""

    precision: str


class MBConvSpace(StagedSpace):
    """The space of one preset, for one device's menu of precisions."""

    preset_type = MBConvPreset
    block_genes = ("kernel", "expand", "keep", "precision")
    preset: MBConvPreset

    def __init__(self, preset: MBConvPreset, precisions: Sequence[str] | None = None):
        menus = [len(preset.kernels), len(preset.expands), len(preset.keeps)]
        super().__init__(preset, precisions, top=[], block=menus)
        self.stem_stride = preset.stem_stride
        self.block_positions = tuple(block_positions(preset))
        self._tables = build_tables(preset, self.precisions, [position.in_width for position in self.block_positions])
        ends = tuple(map(EndChoice, self.precisions))
        self._choices = (ends, *self._tables.choices, ends)
        self._build_rows()

    def _build_rows(self) -> None:
        """Build what concerns whole rows: which genes and blocks each combination of depths has, and gene weights."""
        first = self._blocks.start
        depths = np.array(list(product(*(stage.depths for stage in self.preset.stages))))
        has_block = self.index_of < depths[:, self.stage_of]  # (combinations of depths, num_blocks)
        self._has_block = has_block.astype(np.float32)  # as slots are
        self._lacks_gene = np.zeros((len(depths), self.num_genes), np.bool_)
        self._lacks_gene[:, first:] = np.repeat(~has_block, 4, axis=1)
        # Slots are one matrix product: a row times the weight of each gene in each block's slot.
        self._slot_weights = np.zeros((self.num_genes, self.num_blocks), np.float32)
        for block in range(self.num_blocks):
            self._slot_weights[first + 4 * block : first + 4 * block + 4, block] = self._tables.radix
        top, self._depth_counts = np.split(self.cardinalities[:first], [GLOBAL_GENES])
        one_hot = product(*(np.eye(count, dtype=np.float32) for count in top))
        self._top_counts, self._top_features = top, np.array([np.concatenate(parts) for parts in one_hot])
        choices = [len(self.block_choices(block)) for block in range(self.num_blocks)]
        self._draws = np.append(self.cardinalities[:first], choices).astype(np.float32)

    @property
    def feature_names(self) -> tuple[str, ...]:
        tops = zip(self.gene_names, (self.resolutions, self.precisions, self.precisions), strict=False)
        top = [f"{name}={value}" for name, menu in tops for value in menu]
        blocks = zip(self.block_positions, self._tables.feature_names, strict=True)
        return (*top, *(f"{position.name}.{name}" for position, names in blocks for name in names))

    @property
    def num_features(self) -> int:
        return self._top_features.shape[1] + self.num_blocks * self._tables.features.shape[1]

    @property
    def size(self) -> int:
        total = len(self.resolutions) * len(self.precisions) ** 2
        for number, stage in enumerate(self.preset.stages):
            counts = [len(self.block_choices(block)) for block, at in enumerate(self.stage_of) if at == number]
            total *= sum(prod(counts[:depth]) for depth in stage.depths)
        return total

    def part_codes(self, genes: Genes) -> Codes:
        codes = np.empty((len(genes), self.num_blocks + 2), np.int32)
        codes[:, 0], codes[:, -1] = genes[:, STEM_PRECISION] + 1, genes[:, HEAD_PRECISION] + 1
        for rows in _chunks(len(genes), CODED):
            codes[rows, 1:-1] = self._tables.code.take(self._slots(genes[rows]))
        return codes

    def block_choices(self, block: int) -> tuple[BlockChoice, ...]:
        """Return the distinct choices of block position ``block``; choice ``i`` has code ``i + 1``."""
        return self._tables.choices[block]

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        genes = np.empty((n, self.num_genes), np.int8)
        for rows in _chunks(n):
            genes[rows] = self._draw(len(genes[rows]), rng)
            self._clear(genes[rows])
        return genes

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        rates = np.full(self.num_genes, rate, np.float32)
        rates[RESOLUTION] *= RESOLUTION_MUTATION
        children = np.array(genes, dtype=np.int8)
        for rows in _chunks(len(genes)):
            child = children[rows]
            redrawn = self._tie_widths(rng.random(child.shape, np.float32) < rates)
            redrawn |= self._lacks_gene[self._combination(child)]  # a block that a new depth brings in is drawn afresh
            np.copyto(child, self._draw(len(child), rng), where=redrawn)
            self._clear(child)
        return children

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        children = np.array(b, dtype=np.int8)
        for rows in _chunks(len(a)):
            child = children[rows]
            lacks_a, lacks_b = self._lacks_gene[self._combination(a[rows])], self._lacks_gene[self._combination(child)]
            coin = self._tie_widths(rng.integers(2, size=child.shape, dtype=np.uint8).view(np.bool_))
            from_a = (coin | lacks_b) & ~lacks_a  # a block that one parent lacks comes from the other
            np.copyto(child, a[rows], where=from_a)
            self._clear(child)
        return children

    def canonical(self, genes: Genes) -> Genes:
        result = np.array(genes, dtype=np.int8)
        for rows in _chunks(len(genes)):
            part = result[rows]
            choice = self._tables.code.take(self._slots(part)) + self._tables.first_choice
            part[:, self._blocks] = self._block_genes(choice - 1)
            self._clear(part)
        return result

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        features = np.empty((len(genes), self.num_features), np.float32)
        top, width = self._top_features.shape[1], self._tables.features.shape[1]
        blocks = np.empty((min(CHUNK, len(genes)), self.num_blocks, width), np.float32)  # one buffer for all chunks
        for rows in _chunks(len(genes)):
            part, target = genes[rows], features[rows]
            numbers = np.ravel_multi_index(tuple(part[:, :GLOBAL_GENES].T), self._top_counts)
            target[:, :top] = self._top_features.take(numbers, axis=0)
            filled = blocks[: len(part)]
            self._tables.features.take(self._slots(part), axis=0, out=filled, mode="clip")
            target[:, top:] = filled.reshape(len(part), -1)
        return features

    def candidate(self, row: Genes) -> Candidate:
        row = self.canonical(np.asarray(row)[None])[0]
        there = self.has_block(row[None])[0]
        four = row[self._blocks].reshape(self.num_blocks, 4)
        blocks = [self._spell(genes) if on else None for genes, on in zip(four, there, strict=True)]
        return Candidate(
            space=self.name,
            resolution=self.resolutions[row[RESOLUTION]],
            stem=self.precisions[row[STEM_PRECISION]],
            blocks=self._by_stage(blocks),
            head=self.precisions[row[HEAD_PRECISION]],
        )

    def _spell(self, genes: NDArray[np.int8]) -> Block:
        preset = self.preset
        kernel, expand, keep, precision = genes
        return Block(preset.kernels[kernel], preset.expands[expand], preset.keeps[keep], self.precisions[precision])

    def check(self, candidate: Candidate) -> None:
        preset = self.preset
        check_stages(candidate, preset)
        if candidate.widths or candidate.stem_depth is not None:
            raise UsageError(f"candidate with a depth of the stem or with widths; allowed: none in space {self.name!r}")
        for position, block in zip(self.block_positions, candidate.all_blocks(), strict=True):
            if block is not None:
                choice_index(block.kernel, preset.kernels, f"{position.name}: kernel")
                choice_index(block.expand, preset.expands, f"{position.name}: expand")
                choice_index(block.keep, preset.keeps, f"{position.name}: keep")
                check_unmixed(position.name, block)

    def genes(self, candidate: Candidate) -> Genes:
        self.check(candidate)
        preset, precisions = self.preset, self.precisions
        row = self._begin_row(candidate)
        for number, block in enumerate(candidate.all_blocks()):
            if block is not None:
                at = self._blocks.start + 4 * number
                row[0, at : at + 4] = (
                    preset.kernels.index(block.kernel),
                    preset.expands.index(block.expand),
                    preset.keeps.index(block.keep),
                    choice_index(block.precision, precisions, f"{self.block_positions[number].name}: precision"),
                )
        return self.canonical(row)[0]

    def _combination(self, genes: Genes) -> NDArray[np.intp]:
        """Return the number of each row's combination of depths, ``(n,)``."""
        return np.ravel_multi_index(tuple(genes[:, self._depths].T), self._depth_counts)

    def _slots(self, genes: Genes) -> NDArray[np.intp]:
        """Return each block's slot, ``(n, num_blocks)``; see ``block_tables``."""
        slots = genes.astype(np.float32) @ self._slot_weights  # exact: small integers
        slots += self._tables.first_slot
        slots *= self._has_block[self._combination(genes)]
        return slots.astype(np.intp)

    def _draw(self, n: int, rng: np.random.Generator) -> Genes:
        """Draw rows whose blocks are all there, also those that the drawn depths leave out."""
        drawn = (rng.random((n, len(self._draws)), np.float32) * self._draws).astype(np.intp)
        genes = np.empty((n, self.num_genes), np.int8)
        first = self._blocks.start
        genes[:, :first] = drawn[:, :first]
        genes[:, first:] = self._block_genes(drawn[:, first:] + self._tables.first_choice)
        return genes

    def _block_genes(self, choices: NDArray[np.integer]) -> Genes:
        """Return the genes ``(n, 4 * num_blocks)`` of rows of ``tables.genes``."""
        return self._tables.genes.take(choices, axis=0).reshape(len(choices), -1)

    def _clear(self, genes: Genes) -> None:
        """Set the genes of blocks that the depths leave out to zero, in place."""
        np.copyto(genes, 0, where=self._lacks_gene[self._combination(genes)])

    def _tie_widths(self, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Let ``keep`` follow ``expand``: both spell one choice, the middle width."""
        first = self._blocks.start
        mask[:, first + KEEP :: 4] = mask[:, first + EXPAND :: 4]
        return mask


def _chunks(n: int, size: int = CHUNK) -> Iterator[slice]:
    """Cut ``n`` rows into slices of at most ``size``."""
    return (slice(start, start + size) for start in range(0, n, size))
