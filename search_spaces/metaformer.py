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
from search_spaces.metaformer_parts import ATTENTION, block_table, head_table, kinds, stem_table
from search_spaces.metaformer_preset import MetaformerPreset
from search_spaces.part_table import Codes, first_of_equals
from search_spaces.space import RESOLUTION, RESOLUTION_MUTATION, Genes
from search_spaces.staged import HEAD_PRECISION, STEM_PRECISION, StagedSpace

KERNEL, KEEP = 3, 1.0  # what no block chooses
ATTENTIONS, FIRST_WIDTH = 3, 4
TOP_GENES = ("resolution", "stem.precision", "head.precision", ATTENTION)


class MetaformerSpace(StagedSpace):
    """The space of one preset, for one device's menu of precisions."""

    preset_type = MetaformerPreset
    block_genes = ("mixer", "expand", "precision")
    preset: MetaformerPreset

    def __init__(self, preset: MetaformerPreset, precisions: Sequence[str] | None = None):
        super().__init__(preset, precisions)
        stages = preset.stages
        self.stem_stride = preset.stem_stride
        self._widths = slice(FIRST_WIDTH, FIRST_WIDTH + len(stages))
        self._depths = slice(self._widths.stop, self._widths.stop + len(stages))
        self._blocks = slice(self._depths.stop, None)
        menu = len(self.precisions)
        top = [len(self.resolutions), menu, menu, len(preset.attentions), *[len(preset.widths)] * len(stages)]
        depths = [len(stage.depths) for stage in stages]
        per_block = [len(preset.mixers), len(preset.expands), menu]
        self.cardinalities = np.array(top + depths + per_block * self.num_blocks)
        self._build_equals()
        self._build_parts()

    def _build_equals(self) -> None:
        """Build which choices are the same, as the first of the equals, and numbers of attention blocks by gene."""
        preset, stages = self.preset, self.preset.stages
        outs = [[preset.stage_out(stage, width) for width in preset.widths] for stage in range(len(stages))]
        self._first_width = np.array([first_of_equals(row) for row in outs], np.int8)
        # Rows: the genes of the last stage's depth.
        self._attention_blocks = np.minimum(preset.attentions, np.array(stages[-1].depths)[:, None]).astype(np.int8)
        self._first_attention = np.array([first_of_equals(row) for row in self._attention_blocks.tolist()], np.int8)

    def _build_parts(self) -> None:
        """Build the choices of every part, and one table of all blocks' codes: 0 at its begin, for a block left out."""
        preset, menu = self.preset, self.precisions
        positions = zip(self.stage_of.tolist(), self.index_of.tolist(), strict=True)
        blocks = [block_table(preset, menu, stage, index) for stage, index in positions]
        self._stem, self._head = stem_table(preset, menu), head_table(preset, menu)
        self._choices = (self._stem.choices, *(block.choices for block in blocks), self._head.choices)
        self._block_codes = np.concatenate([np.zeros(1, np.int32), *(block.codes.ravel() for block in blocks)])
        self._first_slot = 1 + np.arange(self.num_blocks) * blocks[0].codes.size
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
        slots = genes[:, self._entering_gene].astype(np.int32)
        for count, value in (
            (len(self.preset.widths), genes[:, FIRST_WIDTH + self.stage_of]),
            (len(kinds(self.preset)), kind),
            (len(self.preset.expands), expands),
            (len(self.precisions), precisions),
        ):
            slots *= count
            slots += value
        codes[:, 1:-1] = self._block_codes.take((slots + self._first_slot) * self.has_block(genes))
        return codes

    @property
    def gene_names(self) -> tuple[str, ...]:
        stages = [f"{what}_{stage}" for what in ("width", "depth") for stage in range(len(self.preset.stages))]
        return (*TOP_GENES, *stages, *(f"{name}.{gene}" for name in self.block_names for gene in self.block_genes))

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

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        return self.canonical(self._draw(n, rng))

    def _draw(self, n: int, rng: np.random.Generator) -> Genes:
        """Draw rows with the genes of all blocks, also of those left out."""
        genes = rng.integers(self.cardinalities, size=(n, self.num_genes)).astype(np.int8)
        for number, gene in enumerate(range(self._widths.start, self._widths.stop)):
            genes[:, gene] = rng.choice(np.unique(self._first_width[number]), size=n)
        genes[:, ATTENTIONS] = self._draw_attentions(genes, rng)
        return genes

    def _draw_attentions(self, genes: Genes, rng: np.random.Generator) -> Genes:
        """Draw the attention of rows of given depths: uniform among the distinct numbers of blocks, ``(n,)``."""
        first = self._first_attention[self._last_depths(genes)]
        distinct = first == np.arange(first.shape[-1])
        ranks = np.where(distinct, rng.random(distinct.shape, np.float32), -1)
        return ranks.argmax(axis=1).astype(np.int8)

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        rates = np.full(self.num_genes, rate)
        rates[RESOLUTION] *= RESOLUTION_MUTATION
        redrawn = rng.random(genes.shape) < rates
        redrawn[:, self._blocks] |= ~self._has_gene(genes)  # what a new depth or mixer brings in is drawn afresh
        child = np.where(redrawn, self._draw(len(genes), rng), genes).astype(np.int8)
        attention = redrawn[:, ATTENTIONS]
        child[:, ATTENTIONS] = np.where(attention, self._draw_attentions(child, rng), child[:, ATTENTIONS])
        return self.canonical(child)

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        from_a = rng.integers(2, size=a.shape, dtype=np.uint8).view(np.bool_)
        from_a[:, ATTENTIONS] = from_a[:, self._depths.stop - 1]  # what attention means hangs on the last depth
        has_a, has_b = self._has_gene(a), self._has_gene(b)
        from_a[:, self._blocks] = (from_a[:, self._blocks] | ~has_b) & has_a  # what only one has comes from it
        return self.canonical(np.where(from_a, a, b).astype(np.int8))

    def canonical(self, genes: Genes) -> Genes:
        result = np.array(genes, dtype=np.int8)
        widths = result[:, self._widths]
        result[:, self._widths] = self._first_width[np.arange(widths.shape[1]), widths]
        result[:, ATTENTIONS] = self._first_attention[self._last_depths(result), result[:, ATTENTIONS]]
        result[:, self._blocks] *= self._has_gene(result)
        return result

    def has_attention(self, genes: Genes) -> NDArray[np.bool_]:
        """Return which blocks are there and have attention, ``(n, num_blocks)``."""
        last = self._last_depths(genes)
        first = self._depth_values[-1, last] - self._attention_blocks[last, genes[:, ATTENTIONS]]
        at_end = (self.stage_of == len(self.preset.stages) - 1) & (self.index_of >= first[:, None])
        return np.asarray(at_end & self.has_block(genes))

    def _has_gene(self, genes: Genes) -> NDArray[np.bool_]:
        """Return which of the blocks' genes mean something, ``(n, 3 * num_blocks)``."""
        has = np.repeat(self.has_block(genes), len(self.block_genes), axis=1)
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
        row = np.zeros((1, self.num_genes), np.int8)
        row[0, RESOLUTION] = preset.resolutions.index(candidate.resolution)
        row[0, STEM_PRECISION] = choice_index(candidate.stem, precisions, "stem precision")
        row[0, HEAD_PRECISION] = choice_index(candidate.head, precisions, "head precision")
        row[0, self._widths] = [preset.widths.index(width) for width in candidate.widths]
        depths = [stage.depths.index(depth_of(s)) for stage, s in zip(preset.stages, candidate.blocks, strict=True)]
        row[0, self._depths] = depths
        row[0, ATTENTIONS] = self._attention_blocks[depths[-1]].tolist().index(attention_blocks(candidate))
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
