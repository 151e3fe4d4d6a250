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
from search_spaces.choices import check_stages, check_unmixed, choice_index
from search_spaces.elastic_width import ElasticWidthSpace, Index
from search_spaces.part_table import Codes, first_of_equals
from search_spaces.space import RESOLUTION, Genes
from search_spaces.staged import HEAD_PRECISION, STEM_PRECISION

KERNEL, EXPAND = 3, 1  # what no block chooses
STEM_DEPTH, FIRST_WIDTH = 3, 4


class BottleneckSpace(ElasticWidthSpace):
    """The space of one preset, for one device's menu of precisions."""

    preset_type = BottleneckPreset
    top_genes = ("stem.depth", "stem.inside", "stem.width")
    stage_genes = ("width", "depth")
    block_genes = ("keep", "precision")
    stem_stride = 4  # a convolution and a pooling of stride 2 each
    preset: BottleneckPreset

    def __init__(self, preset: BottleneckPreset, precisions: Sequence[str] | None = None):
        widths = [len(preset.widths)] * (2 + len(preset.stages))
        super().__init__(preset, precisions, top=[len(STEM_DEPTHS), *widths], block=[len(preset.keeps)])
        self._widths = slice(FIRST_WIDTH, self._depths.start)
        self._bound = slice(self._blocks.start, None, 2)
        self._build_equals()
        self._build_parts()

    def _build_equals(self) -> None:
        """Build which choices round to equal channels, as the first of the equals."""
        preset = self.preset
        outs = [[preset.stage_out(stage, width) for width in preset.widths] for stage in range(len(preset.stages))]
        stem = [[part(width) for width in preset.widths] for part in (preset.stem_inside, preset.stem_out)]
        self._first_width = np.array([first_of_equals(row) for row in (*stem, *outs)], np.int8)
        inside = [[[preset.middle(out, keep) for keep in preset.keeps] for out in row] for row in outs]
        self._first_bound = np.array([[first_of_equals(row) for row in rows] for rows in inside], np.int8)

    def _build_parts(self) -> None:
        """Build the table of every part."""
        preset, menu = self.preset, self.precisions
        positions = zip(self.stage_of.tolist(), self.index_of.tolist(), strict=True)
        blocks = [block_table(preset, menu, stage, index) for stage, index in positions]
        self._set_parts(stem_table(preset, menu), blocks, head_table(preset, menu))
        self._entering_gene = FIRST_WIDTH + 1 + self.stage_of + (self.index_of > 0)

    def part_codes(self, genes: Genes) -> Codes:
        codes = np.empty((len(genes), self.num_blocks + 2), np.int32)
        stem, blocks = genes[:, STEM_DEPTH : STEM_DEPTH + 3], genes[:, self._blocks]
        codes[:, 0] = self._stem.codes[(*stem.T, genes[:, STEM_PRECISION])]
        codes[:, -1] = self._head.codes[genes[:, self._widths.stop - 1], genes[:, HEAD_PRECISION]]
        places = genes[:, self._entering_gene], self._stage_widths(genes), blocks[:, ::2], blocks[:, 1::2]
        codes[:, 1:-1] = self._codes_of_blocks(genes, places)
        return codes

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
            counts = [len(set(self._first_bound[number, width])) for width in widths]
            total *= sum((menu * count) ** depth for count in counts for depth in stage.depths)
        return total

    def _stage_widths(self, genes: Genes) -> Genes:
        """Return the width gene of each block's stage, ``(n, num_blocks)``."""
        return genes[:, FIRST_WIDTH + 2 + self.stage_of]

    def _bound_to(self, genes: Genes) -> Index:
        return self.stage_of, self._stage_widths(genes)

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
        row = self._begin_row(candidate)
        row[0, STEM_DEPTH] = choice_index(candidate.stem_depth, STEM_DEPTHS, "stem depth")
        row[0, self._widths] = [preset.widths.index(width) for width in candidate.widths]
        for number, (name, block) in enumerate(zip(self.block_names, candidate.all_blocks(), strict=True)):
            if block is not None:
                at, precision = (
                    self._blocks.start + 2 * number,
                    choice_index(block.precision, precisions, f"{name}: precision"),
                )
                row[0, at : at + 2] = preset.keeps.index(block.keep), precision
        return self.canonical(row)[0]
