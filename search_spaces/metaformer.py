"""Metaformers with elastic depth, widths, mixers, MLPs and precision: the space of EfficientFormer (Li et al., 2022).

Blocks mix pixels and then channels. The first ones keep feature maps and mix by pooling or a depthwise convolution; the
last ones of the last stage work on tokens and mix by attention, and nothing turns tokens back into maps. So the number
of blocks with attention says which ones have it. A row is ``[resolution, stem precision, head precision, attention,
width of each stage, depth of each stage, (mixer, expand, precision) of each block]``; widths are multipliers. The genes
of a block left out are zero, and so is the mixer of one with attention. Widths that round to equal channels and numbers
of attention blocks beyond the depth are the same network: ``canonical`` maps them to one row, ``size`` counts it once.

Departures: the paper's supernet may have attention in its last two stages, its published networks in the last alone,
and so has this. Its mixer is pooling; the depthwise convolution is that of the second version's blocks (Li et al.,
2023). Its MLPs all expand by 4. The heads of attention are not chosen.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from search_spaces.candidate import Block, Candidate
from search_spaces.choices import check_stages, choice_index, depth_of
from search_spaces.elastic_width import ElasticWidthSpace, Index
from search_spaces.metaformer_parts import ATTENTION, block_table, head_table, stem_table
from search_spaces.metaformer_preset import MetaformerPreset
from search_spaces.part_table import Codes, first_of_equals
from search_spaces.space import RESOLUTION, Genes
from search_spaces.staged import HEAD_PRECISION, STEM_PRECISION

KERNEL, KEEP = 3, 1.0  # what no block chooses
ATTENTIONS, FIRST_WIDTH = 3, 4


class MetaformerSpace(ElasticWidthSpace):
    """The space of one preset, for one device's menu of precisions."""

    preset_type = MetaformerPreset
    top_genes = (ATTENTION,)
    stage_genes = ("width", "depth")
    block_genes = ("mixer", "expand", "precision")
    preset: MetaformerPreset

    def __init__(self, preset: MetaformerPreset, precisions: Sequence[str] | None = None):
        top = [len(preset.attentions), *[len(preset.widths)] * len(preset.stages)]
        super().__init__(preset, precisions, top=top, block=[len(preset.mixers), len(preset.expands)])
        self.stem_stride = preset.stem_stride
        self._widths = slice(FIRST_WIDTH, self._depths.start)
        self._bound = slice(ATTENTIONS, ATTENTIONS + 1)
        self._build_equals()
        self._build_parts()

    def _build_equals(self) -> None:
        """Build which choices are the same, as the first of the equals, and numbers of attention blocks by gene."""
        preset, stages = self.preset, self.preset.stages
        outs = [[preset.stage_out(stage, width) for width in preset.widths] for stage in range(len(stages))]
        self._first_width = np.array([first_of_equals(row) for row in outs], np.int8)
        # Rows: the genes of the last stage's depth.
        self._attention_blocks = np.minimum(preset.attentions, np.array(stages[-1].depths)[:, None]).astype(np.int8)
        self._first_bound = np.array([first_of_equals(row) for row in self._attention_blocks.tolist()], np.int8)

    def _build_parts(self) -> None:
        """Build the table of every part."""
        preset, menu = self.preset, self.precisions
        positions = zip(self.stage_of.tolist(), self.index_of.tolist(), strict=True)
        blocks = [block_table(preset, menu, stage, index) for stage, index in positions]
        self._set_parts(stem_table(preset, menu), blocks, head_table(preset, menu))
        begins = (self.index_of == 0) & (self.stage_of > 0)
        self._entering_gene = FIRST_WIDTH + self.stage_of - begins

    def part_codes(self, genes: Genes) -> Codes:
        codes = np.empty((len(genes), self.num_blocks + 2), np.int32)
        attention = self.has_attention(genes)
        codes[:, 0] = self._stem.codes[genes[:, FIRST_WIDTH], genes[:, STEM_PRECISION]]
        flattens = (~attention.any(axis=1)).astype(np.int8)
        codes[:, -1] = self._head.codes[genes[:, self._widths.stop - 1], flattens, genes[:, HEAD_PRECISION]]
        mixers, expands, precisions = (self.block_gene(genes, name) for name in self.block_genes)
        before = np.pad(attention, ((0, 0), (1, 0)))[:, :-1]
        kind = np.where(attention, len(self.preset.mixers) + (attention & ~before), mixers)
        widths = genes[:, self._entering_gene], genes[:, FIRST_WIDTH + self.stage_of]
        codes[:, 1:-1] = self._codes_of_blocks(genes, (*widths, kind, expands, precisions))
        return codes

    @property
    def feature_names(self) -> tuple[str, ...]:
        top = [self.resolutions, self.precisions, self.precisions, (), *[self.preset.widths] * len(self.preset.stages)]
        names = [f"{name}={value}" for name, menu in zip(self.gene_names, top, strict=False) for value in menu]
        block = {"mixer": (*self.preset.mixers, ATTENTION), "expand": self.preset.expands, "precision": self.precisions}
        blocks = (f"{name}.{gene}={v}" for name in self.block_names for gene, menu in block.items() for v in menu)
        return (*names, *blocks)

    @property
    def num_features(self) -> int:
        top = self.cardinalities[: self._widths.stop].sum() - self.cardinalities[ATTENTIONS]
        return int(top + self.cardinalities[self._blocks].sum()) + self.num_blocks

    @property
    def size(self) -> int:
        plain, menu = len(self.preset.expands) * len(self.precisions), len(self.precisions)
        mixed = len(self.preset.mixers) * plain
        total = len(self.resolutions) * menu**2
        for row in self._first_width.tolist():
            total *= len(set(row))
        for stage in self.preset.stages[:-1]:
            total *= sum(mixed**depth for depth in stage.depths)
        last = zip(self.preset.stages[-1].depths, self._attention_blocks.tolist(), strict=True)
        return total * sum(mixed ** (depth - count) * plain**count for depth, counts in last for count in set(counts))

    def _bound_to(self, genes: Genes) -> Index:
        return (self._last_depths(genes)[:, None],)

    def _tie(self, from_a: NDArray[np.bool_]) -> NDArray[np.bool_]:
        from_a[:, ATTENTIONS] = from_a[:, self._depths.stop - 1]  # what attention means hangs on the last depth
        return from_a

    def has_attention(self, genes: Genes) -> NDArray[np.bool_]:
        """Return which blocks are there and have attention, ``(n, num_blocks)``."""
        last = self._last_depths(genes)
        first = self._depth_values[-1, last] - self._attention_blocks[last, genes[:, ATTENTIONS]]
        at_end = (self.stage_of == len(self.preset.stages) - 1) & (self.index_of >= first[:, None])
        return np.asarray(at_end & self.has_block(genes))

    def _has_gene(self, genes: Genes) -> NDArray[np.bool_]:
        has = super()._has_gene(genes)
        has[:, ::3] &= ~self.has_attention(genes)
        return has

    def _last_depths(self, genes: Genes) -> Genes:
        """Return the gene of the last stage's depth, ``(n,)``."""
        return genes[:, self._depths.stop - 1]

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        rows = self.canonical(genes)
        there, attention = self.has_block(rows)[:, :, None], self.has_attention(rows)
        top = [gene for gene in range(self._widths.stop) if gene != ATTENTIONS]
        parts = [np.eye(self.cardinalities[gene], dtype=np.float32)[rows[:, gene]] for gene in top]
        mixers, expands, precisions = (self.block_gene(rows, name) for name in self.block_genes)
        counts = len(self.preset.mixers) + 1, len(self.preset.expands), len(self.precisions)
        mixing = np.where(attention, counts[0] - 1, mixers)
        values = zip(counts, (mixing, expands, precisions), strict=True)
        blocks = [np.eye(count, dtype=np.float32)[value] * there for count, value in values]
        return np.concatenate(
            [*parts, np.concatenate(blocks, axis=2).reshape(len(rows), self.num_blocks * sum(counts))], axis=1
        )

    def candidate(self, row: Genes) -> Candidate:
        row = self.canonical(np.asarray(row)[None])[0]
        there, attention = self.has_block(row[None])[0], self.has_attention(row[None])[0]
        three = row[self._blocks].reshape(self.num_blocks, len(self.block_genes))
        blocks = [
            self._spell(genes, mixed) if on else None for genes, mixed, on in zip(three, attention, there, strict=True)
        ]
        return Candidate(
            space=self.name,
            resolution=self.resolutions[row[RESOLUTION]],
            stem=self.precisions[row[STEM_PRECISION]],
            blocks=self._by_stage(blocks),
            head=self.precisions[row[HEAD_PRECISION]],
            widths=tuple(self.preset.widths[width] for width in row[self._widths]),
        )

    def _spell(self, genes: Genes, attention: bool) -> Block:
        mixer, expand, precision = genes
        name = ATTENTION if attention else self.preset.mixers[mixer]
        return Block(KERNEL, self.preset.expands[expand], KEEP, self.precisions[precision], name)

    def check(self, candidate: Candidate) -> None:
        check_stages(candidate, self.preset)
        if len(candidate.widths) != len(self.preset.stages) or candidate.stem_depth is not None:
            allowed = f"{len(self.preset.stages)}, one a stage, and no depth of the stem"
            raise UsageError(f"candidate: {len(candidate.widths)} widths; allowed: {allowed}")
        for width in candidate.widths:
            choice_index(width, self.preset.widths, "width")
        count = attention_blocks(candidate)
        last = self.preset.stages[-1].depths.index(depth_of(candidate.blocks[-1]))
        choice_index(count, sorted(set(self._attention_blocks[last].tolist())), "number of blocks with attention")
        local = len(candidate.active_blocks()) - count
        names = [name for name, block in zip(self.block_names, candidate.all_blocks(), strict=True) if block]
        for number, (name, block) in enumerate(zip(names, candidate.active_blocks(), strict=True)):
            mixers = self.preset.mixers if number < local else (ATTENTION,)
            choice_index(block.mixer, mixers, f"{name}: mixer")
            choice_index(block.kernel, (KERNEL,), f"{name}: kernel")
            choice_index(block.expand, self.preset.expands, f"{name}: expand")
            choice_index(block.keep, (KEEP,), f"{name}: keep")

    def genes(self, candidate: Candidate) -> Genes:
        self.check(candidate)
        preset, precisions = self.preset, self.precisions
        row = self._begin_row(candidate)
        row[0, self._widths] = [preset.widths.index(width) for width in candidate.widths]
        counts = self._attention_blocks[self._last_depths(row)[0]].tolist()
        row[0, ATTENTIONS] = counts.index(attention_blocks(candidate))
        for number, (name, block) in enumerate(zip(self.block_names, candidate.all_blocks(), strict=True)):
            if block is not None:
                at = self._blocks.start + 3 * number
                row[0, at : at + 3] = (
                    0 if block.mixer == ATTENTION else preset.mixers.index(block.mixer),
                    preset.expands.index(block.expand),
                    choice_index(block.precision, precisions, f"{name}: precision"),
                )
        return self.canonical(row)[0]


def attention_blocks(candidate: Candidate) -> int:
    """Return how many blocks of a candidate have attention."""
    return sum(block.mixer == ATTENTION for block in candidate.active_blocks())
