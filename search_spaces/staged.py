"""What spaces share whose genes are those of the whole network, then of each stage, then of each block.

A row begins with ``[resolution, stem precision, head precision]``; somewhere it has a depth for each stage, and it ends
with the genes of each block, the last of them its precision.
"""

from collections.abc import Iterable, Sequence
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from search_spaces.candidate import Block, Candidate
from search_spaces.choices import choice_index, depth_of
from search_spaces.preset import Preset
from search_spaces.space import RESOLUTION, Genes, PartChoice, SearchSpace

STEM_PRECISION, HEAD_PRECISION = 1, 2


class StagedSpace(SearchSpace):
    """A space of stages of blocks.

    Args:
        preset: The choices.
        precisions: The menu; without it, the preset's own.
        top: Numbers of choices of the genes between the precisions of stem and head and the depths.
        block: Likewise of a block's genes, but its precision.

    Attributes:
        top_genes: What the whole network chooses besides resolution and precisions; class attribute, as the next two.
        stage_genes: What each stage chooses, its depth last; empty where stages choose nothing.
        block_genes: What each block chooses, its precision last.
        stem_stride: Of the stem as a whole: the side of the input over that of what the first stage reads.
        stage_of: The stage of each block, ``(num_blocks,)``.
        index_of: Its place there, ``(num_blocks,)``.
    """

    top_genes: ClassVar[tuple[str, ...]] = ()
    stage_genes: ClassVar[tuple[str, ...]] = ("depth",)
    block_genes: ClassVar[tuple[str, ...]]
    stem_stride: int
    stage_of: NDArray[np.intp]
    index_of: NDArray[np.intp]
    _depths: slice  # where a row has the depths
    _blocks: slice  # and the genes of blocks
    _choices: tuple[Sequence[PartChoice], ...]  # of every part

    def __init__(self, preset: Preset, precisions: Sequence[str] | None, *, top: Sequence[int], block: Sequence[int]):
        super().__init__(preset, precisions)
        depths = [stage.depths for stage in preset.stages]
        deepest = [max(menu) for menu in depths]
        self.stage_of = np.repeat(np.arange(len(deepest)), deepest)
        self.index_of = np.concatenate([np.arange(depth) for depth in deepest])
        self._depth_values = np.array([np.resize(menu, max(map(len, depths))) for menu in depths], np.int8)
        first = HEAD_PRECISION + 1 + len(top)
        chosen = [len(menu) for menu in depths] if self.stage_genes else []
        self._depths, self._blocks = slice(first, first + len(chosen)), slice(first + len(chosen), None)
        menu = len(self.precisions)
        head = [len(self.resolutions), menu, menu, *top, *chosen]
        self.cardinalities = np.array([*head, *[*block, menu] * self.num_blocks])

    @property
    def num_blocks(self) -> int:
        """Blocks of the deepest network."""
        return len(self.stage_of)

    @property
    def block_names(self) -> tuple[str, ...]:
        """``block_<stage>_<index>`` of each block."""
        return tuple(f"block_{stage}_{index}" for stage, index in zip(self.stage_of, self.index_of, strict=True))

    @property
    def gene_names(self) -> tuple[str, ...]:
        stages = [f"{what}_{stage}" for what in self.stage_genes for stage in range(len(self.preset.stages))]
        blocks = [f"{name}.{gene}" for name in self.block_names for gene in self.block_genes]
        return ("resolution", "stem.precision", "head.precision", *self.top_genes, *stages, *blocks)

    @property
    def part_names(self) -> tuple[str, ...]:
        return ("stem", *self.block_names, "head")

    def part_choices(self, part: int) -> Sequence[PartChoice]:
        return self._choices[part]

    def has_block(self, genes: Genes) -> NDArray[np.bool_]:
        """Return which blocks are there, ``(n, num_blocks)``."""
        depths = self._depth_values[np.arange(len(self.preset.stages)), genes[:, self._depths]]
        return np.asarray(self.index_of < depths[:, self.stage_of])

    def block_gene(self, genes: Genes, name: str) -> Genes:
        """Return a view of one gene of each block, ``(n, num_blocks)``."""
        first = self._depths.stop + self.block_genes.index(name)
        return genes[:, first :: len(self.block_genes)]

    def with_precisions(self, genes: Genes, values: NDArray[np.integer]) -> Genes:
        twin = np.array(genes, dtype=np.int8)
        twin[:, STEM_PRECISION], twin[:, HEAD_PRECISION] = values[:, 0], values[:, -1]
        self.block_gene(twin, "precision")[:] = values[:, 1:-1]
        return self.canonical(twin)

    def feature_size(self, resolution: int, block: int) -> int:
        """Return the side, in pixels, of the map that enters block number ``block``, or the head as the one after."""
        size = -(-resolution // self.stem_stride)
        begun = self.stage_of[:block][self.index_of[:block] == 0]
        for stage in begun:
            size = -(-size // self.preset.stages[stage].stride)
        return size

    def _begin_row(self, candidate: Candidate) -> Genes:
        """Return a row ``(1, num_genes)`` with the resolution, the depths and the ends' precisions of a candidate."""
        row = np.zeros((1, self.num_genes), np.int8)
        row[0, RESOLUTION] = self.resolutions.index(candidate.resolution)
        row[0, STEM_PRECISION] = choice_index(candidate.stem, self.precisions, "stem precision")
        row[0, HEAD_PRECISION] = choice_index(candidate.head, self.precisions, "head precision")
        stages = zip(self.preset.stages, candidate.blocks, strict=True) if self.stage_genes else ()
        row[0, self._depths] = [stage.depths.index(depth_of(blocks)) for stage, blocks in stages]
        return row

    def _by_stage(self, blocks: Iterable[Block | None]) -> tuple[tuple[Block | None, ...], ...]:
        """Return one entry a block position as candidates have them: a tuple a stage."""
        entries = list(zip(blocks, self.stage_of, strict=True))
        return tuple(tuple(block for block, at in entries if at == stage) for stage in range(len(self.preset.stages)))
