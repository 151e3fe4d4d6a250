"""Bottleneck networks with elastic depth, widths, inside widths and precision: once-for-all's ResNet50 space.

Of Cai et al., 2020, joined with a precision for each part, as in the inverted-residual space. A row is ``[resolution,
stem precision, head precision, stem.depth, stem.inside, stem.width, width of each stage, depth of each stage, (keep,
precision) of each block]``. The stem's depth says whether its middle convolution is there; widths are multipliers, one
for all blocks of a stage; keep is the share of a block's output channels that are inside it. The genes of a block left
out are zero, and choices that round to equal channels are the same network: ``canonical`` maps them to one row,
``size`` counts it once. Departure: OFA's stem counts 0.65 and 0.8 inside as two choices; both round to 24 channels.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from search_spaces.bottleneck_parts import STEM_DEPTHS, block_table, head_table, stem_table
from search_spaces.bottleneck_preset import BottleneckPreset
from search_spaces.candidate import Block, Candidate
from search_spaces.choices import check_stages, check_unmixed, choice_index, depth_of
from search_spaces.part_table import Codes, first_of_equals
from search_spaces.space import RESOLUTION, RESOLUTION_MUTATION, Genes, PartChoice
from search_spaces.staged import HEAD_PRECISION, STEM_PRECISION, StagedSpace

KERNEL, EXPAND = 3, 1  # what no block chooses
STEM_DEPTH, FIRST_WIDTH = 3, 4
TOP_GENES = ("resolution", "stem.precision", "head.precision", "stem.depth", "stem.inside", "stem.width")


class BottleneckSpace(StagedSpace):
    """The space of one preset, for one device's menu of precisions."""

    preset_type = BottleneckPreset
    block_genes = ("keep", "precision")
    stem_stride = 4  # a convolution and a pooling of stride 2 each
    preset: BottleneckPreset

    def __init__(self, preset: BottleneckPreset, precisions: Sequence[str] | None = None):
        super().__init__(preset, precisions)
        stages = preset.stages
        self._widths = slice(FIRST_WIDTH, FIRST_WIDTH + 2 + len(stages))
        self._depths = slice(self._widths.stop, self._widths.stop + len(stages))
        self._blocks = slice(self._depths.stop, None)
        self._keeps = slice(self._blocks.start, None, 2)
        menu = len(self.precisions)
        top = [len(self.resolutions), menu, menu, len(STEM_DEPTHS), *[len(preset.widths)] * (2 + len(stages))]
        depths = [len(stage.depths) for stage in stages]
        self.cardinalities = np.array(top + depths + [len(preset.keeps), menu] * self.num_blocks)
        self._build_equals()
        self._build_parts()

    def _build_equals(self) -> None:
        """Build which choices round to equal channels, as the first of the equals."""
        preset = self.preset
        outs = [[preset.stage_out(stage, width) for width in preset.widths] for stage in range(len(preset.stages))]
        stem = [[part(width) for width in preset.widths] for part in (preset.stem_inside, preset.stem_out)]
        self._first_width = np.array([first_of_equals(row) for row in (*stem, *outs)], np.int8)
        inside = [[[preset.middle(out, keep) for keep in preset.keeps] for out in row] for row in outs]
        self._first_keep = np.array([[first_of_equals(row) for row in rows] for rows in inside], np.int8)

    def _build_parts(self) -> None:
        """Build the choices of every part, and one table of all blocks' codes: 0 at its begin, for a block left out."""
        preset, menu = self.preset, self.precisions
        positions = zip(self.stage_of.tolist(), self.index_of.tolist(), strict=True)
        blocks = [block_table(preset, menu, stage, index) for stage, index in positions]
        self._stem, self._head = stem_table(preset, menu), head_table(preset, menu)
        choices: list[Sequence[PartChoice]] = [
            self._stem.choices,
            *(block.choices for block in blocks),
            self._head.choices,
        ]
        self._choices = tuple(choices)
        self._block_codes = np.concatenate([np.zeros(1, np.int32), *(block.codes.ravel() for block in blocks)])
        self._first_slot = 1 + np.arange(self.num_blocks) * blocks[0].codes.size
        self._entering_gene = FIRST_WIDTH + 1 + self.stage_of + (self.index_of > 0)

    def part_codes(self, genes: Genes) -> Codes:
        codes = np.empty((len(genes), self.num_blocks + 2), np.int32)
        stem, blocks = genes[:, STEM_DEPTH : STEM_DEPTH + 3], genes[:, self._blocks]
        codes[:, 0] = self._stem.codes[(*stem.T, genes[:, STEM_PRECISION])]
        codes[:, -1] = self._head.codes[genes[:, self._widths.stop - 1], genes[:, HEAD_PRECISION]]
        widths, keeps, menu = len(self.preset.widths), len(self.preset.keeps), len(self.precisions)
        slots = genes[:, self._entering_gene].astype(np.int32)
        for count, value in ((widths, self._stage_widths(genes)), (keeps, blocks[:, ::2]), (menu, blocks[:, 1::2])):
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
        widths, block = [self.preset.widths] * (2 + len(self.preset.stages)), (self.preset.keeps, self.precisions)
        depths = [()] * len(self.preset.stages)  # a block left out has no features: that says it all
        menus = [self.resolutions, self.precisions, self.precisions, STEM_DEPTHS, *widths, *depths]
        menus += list(block) * self.num_blocks
        return tuple(f"{name}={value}" for name, menu in zip(self.gene_names, menus, strict=True) for value in menu)

    @property
    def num_features(self) -> int:
        return int(self.cardinalities.sum() - self.cardinalities[self._depths].sum())

    @property
    def size(self) -> int:
        menu = len(self.precisions)
        total = len(self.resolutions) * menu**2 * len(STEM_DEPTHS)
        for part in range(2):
            total *= len(set(self._first_width[part]))
        for number, stage in enumerate(self.preset.stages):
            widths = sorted(set(self._first_width[2 + number].tolist()))
            counts = [len(set(self._first_keep[number, width])) for width in widths]
            total *= sum((menu * count) ** depth for count in counts for depth in stage.depths)
        return total

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        return self.canonical(self._draw(n, rng))

    def _draw(self, n: int, rng: np.random.Generator) -> Genes:
        """Draw rows with the genes of all blocks, also of those left out."""
        genes = rng.integers(self.cardinalities, size=(n, self.num_genes)).astype(np.int8)
        for number, gene in enumerate(range(self._widths.start, self._widths.stop)):
            genes[:, gene] = rng.choice(np.unique(self._first_width[number]), size=n)
        genes[:, self._keeps] = self._draw_keeps(genes, rng)
        return genes

    def _draw_keeps(self, genes: Genes, rng: np.random.Generator) -> Genes:
        """Draw the keeps of all blocks, also of those left out, for the rows' stage widths: uniform among distinct."""
        first = self._first_keep[self.stage_of, self._stage_widths(genes)]
        distinct = first == np.arange(first.shape[-1])
        ranks = rng.random(distinct.shape, np.float32) * distinct
        return np.where(distinct, ranks, -1).argmax(axis=2).astype(np.int8)

    def _stage_widths(self, genes: Genes) -> Genes:
        """Return the width gene of each block's stage, ``(n, num_blocks)``."""
        return genes[:, FIRST_WIDTH + 2 + self.stage_of]

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        rates = np.full(self.num_genes, rate)
        rates[RESOLUTION] *= RESOLUTION_MUTATION
        redrawn = rng.random(genes.shape) < rates
        redrawn[:, self._blocks] |= ~self._has_gene(genes)  # a block that a new depth brings in is drawn afresh
        child = np.where(redrawn, self._draw(len(genes), rng), genes).astype(np.int8)
        keeps = redrawn[:, self._keeps]
        child[:, self._keeps] = np.where(keeps, self._draw_keeps(child, rng), child[:, self._keeps])
        return self.canonical(child)

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        from_a = rng.integers(2, size=a.shape, dtype=np.uint8).view(np.bool_)
        has_a, has_b = self._has_gene(a), self._has_gene(b)
        from_a[:, self._blocks] = (from_a[:, self._blocks] | ~has_b) & has_a  # a block only one has comes from it
        return self.canonical(np.where(from_a, a, b).astype(np.int8))

    def canonical(self, genes: Genes) -> Genes:
        result = np.array(genes, dtype=np.int8)
        widths = result[:, self._widths]
        result[:, self._widths] = self._first_width[np.arange(widths.shape[1]), widths]
        keeps = self._first_keep[self.stage_of, self._stage_widths(result), result[:, self._keeps]]
        result[:, self._keeps] = keeps
        result[:, self._blocks] *= self._has_gene(result)
        return result

    def _has_gene(self, genes: Genes) -> NDArray[np.bool_]:
        """Return which genes of blocks are of a block that is there, ``(n, 2 * num_blocks)``."""
        return np.repeat(self.has_block(genes), 2, axis=1)

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        rows = self.canonical(genes)
        there = np.ones((len(rows), self.num_genes), np.float32)
        there[:, self._blocks] = self._has_gene(rows)
        encoded = np.delete(np.arange(self.num_genes), np.arange(self.num_genes)[self._depths])
        first = np.cumsum(np.append(0, self.cardinalities[encoded]))[:-1]
        features = np.zeros((len(rows), self.num_features), np.float32)
        np.put_along_axis(features, first + rows[:, encoded], there[:, encoded], axis=1)
        return features

    def candidate(self, row: Genes) -> Candidate:
        row = self.canonical(np.asarray(row)[None])[0]
        there = self.has_block(row[None])[0]
        blocks = [
            Block(KERNEL, EXPAND, self.preset.keeps[keep], self.precisions[precision]) if on else None
            for (keep, precision), on in zip(row[self._blocks].reshape(-1, 2), there, strict=True)
        ]
        return Candidate(
            space=self.name,
            resolution=self.resolutions[row[RESOLUTION]],
            stem=self.precisions[row[STEM_PRECISION]],
            blocks=self._by_stage(blocks),
            head=self.precisions[row[HEAD_PRECISION]],
            stem_depth=int(row[STEM_DEPTH]),
            widths=tuple(self.preset.widths[width] for width in row[self._widths]),
        )

    def check(self, candidate: Candidate) -> None:
        check_stages(candidate, self.preset)
        widths, count = len(candidate.widths), 2 + len(self.preset.stages)
        if widths != count:
            raise UsageError(
                f"candidate: {widths} widths; allowed: {count}, the stem's inside, its output, and each stage"
            )
        choice_index(candidate.stem_depth, STEM_DEPTHS, "stem depth")
        for width in candidate.widths:
            choice_index(width, self.preset.widths, "width")
        for name, block in zip(self.block_names, candidate.all_blocks(), strict=True):
            if block is not None:
                choice_index(block.kernel, (KERNEL,), f"{name}: kernel")
                choice_index(block.expand, (EXPAND,), f"{name}: expand")
                choice_index(block.keep, self.preset.keeps, f"{name}: keep")
                check_unmixed(name, block)

    def genes(self, candidate: Candidate) -> Genes:
        self.check(candidate)
        preset, precisions = self.preset, self.precisions
        row = np.zeros((1, self.num_genes), np.int8)
        row[0, RESOLUTION] = preset.resolutions.index(candidate.resolution)
        row[0, STEM_PRECISION] = choice_index(candidate.stem, precisions, "stem precision")
        row[0, HEAD_PRECISION] = choice_index(candidate.head, precisions, "head precision")
        row[0, STEM_DEPTH] = choice_index(candidate.stem_depth, STEM_DEPTHS, "stem depth")
        row[0, self._widths] = [preset.widths.index(width) for width in candidate.widths]
        depths = [stage.depths.index(depth_of(s)) for stage, s in zip(preset.stages, candidate.blocks, strict=True)]
        row[0, self._depths] = depths
        for number, (name, block) in enumerate(zip(self.block_names, candidate.all_blocks(), strict=True)):
            if block is not None:
                at, precision = (
                    self._blocks.start + 2 * number,
                    choice_index(block.precision, precisions, f"{name}: precision"),
                )
                row[0, at : at + 2] = preset.keeps.index(block.keep), precision
        return self.canonical(row)[0]
