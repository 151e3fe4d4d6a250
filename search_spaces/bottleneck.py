"""Bottleneck networks with elastic depth, widths and inside widths: once-for-all's ResNet50 space (Cai et al., 2020).

A row is ``[resolution, stem.depth, stem.inside, stem.width, width of each stage, depth of each stage, keep of each
block]``. The stem's depth says whether its middle convolution is there; widths are multipliers, one for all blocks of a
stage; keep is the share of a block's output channels that are inside it. The genes of a block left out are zero, and
choices that round to equal channels are the same network: ``canonical`` maps them to one row, ``size`` counts it once.
Departure: OFA's stem counts 0.65 and 0.8 inside as two choices; both round to 24 channels.

The blocks of a stage share a width, so a block's cost depends on genes that are not its own: latency tables do not hold
such a space. So no device is calibrated for it, and no command takes it: it is there from Python.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from search_spaces.bottleneck_preset import BottleneckPreset
from search_spaces.candidate import Block, Candidate
from search_spaces.choices import check_stages, choice_index, depth_of
from search_spaces.space import Genes, SearchSpace

KERNEL, EXPAND, PRECISION = 3, 1, "fp32"  # what no block chooses
STEM_DEPTHS = (0, 1)
STEM_GENES = ("stem.inside", "stem.width")
RESOLUTION, STEM_DEPTH, FIRST_WIDTH = 0, 1, 2
RESOLUTION_MUTATION = 5.0  # as in the inverted-residual space


class BottleneckSpace(SearchSpace):
    """The space of one preset, in fp32."""

    def __init__(self, preset: BottleneckPreset):
        self.preset = preset
        self.name = preset.name
        self.precisions = (PRECISION,)
        self.resolutions = preset.resolutions
        stages = preset.stages
        self.stage_of = np.repeat(np.arange(len(stages)), [max(stage.depths) for stage in stages])
        self._index = np.concatenate([np.arange(max(stage.depths)) for stage in stages])
        self._widths = slice(FIRST_WIDTH, FIRST_WIDTH + 2 + len(stages))
        self._depths = slice(self._widths.stop, self._widths.stop + len(stages))
        self._keeps = slice(self._depths.stop, self._depths.stop + len(self.stage_of))
        depths = [len(stage.depths) for stage in stages]
        counts = [len(preset.resolutions), len(STEM_DEPTHS), *[len(preset.widths)] * (2 + len(stages)), *depths]
        self.cardinalities = np.array(counts + [len(preset.keeps)] * len(self.stage_of))
        self._build_tables()

    def _build_tables(self) -> None:
        """Build which choices round to equal channels: ``first`` of the equals, and the distinct ones in order."""
        preset = self.preset
        outs = [[preset.stage_out(stage, width) for width in preset.widths] for stage in range(len(preset.stages))]
        stem = [[part(width) for width in preset.widths] for part in (preset.stem_inside, preset.stem_out)]
        self._first_width = np.array([_first_of_equals(row) for row in (*stem, *outs)], np.int8)
        inside = [[[preset.middle(out, keep) for keep in preset.keeps] for out in row] for row in outs]
        self._first_keep = np.array([[_first_of_equals(row) for row in rows] for rows in inside], np.int8)
        self._depth_values = np.zeros((len(preset.stages), max(len(stage.depths) for stage in preset.stages)), np.int8)
        for number, stage in enumerate(preset.stages):
            self._depth_values[number, : len(stage.depths)] = stage.depths

    @property
    def digest(self) -> str:
        return f"{self.preset.digest}-{PRECISION}"

    @property
    def num_blocks(self) -> int:
        """Blocks of the deepest network."""
        return len(self.stage_of)

    @property
    def block_names(self) -> tuple[str, ...]:
        """``block_<stage>_<index>`` of each block."""
        return tuple(f"block_{stage}_{index}" for stage, index in zip(self.stage_of, self._index, strict=True))

    @property
    def gene_names(self) -> tuple[str, ...]:
        stages = range(len(self.preset.stages))
        top = ["resolution", "stem.depth", *STEM_GENES, *(f"width_{stage}" for stage in stages)]
        return (*top, *(f"depth_{stage}" for stage in stages), *(f"{name}.keep" for name in self.block_names))

    @property
    def feature_names(self) -> tuple[str, ...]:
        menus = [self.resolutions, STEM_DEPTHS, *[self.preset.widths] * (2 + len(self.preset.stages))]
        blocks = [f"{name}.keep={keep}" for name in self.block_names for keep in self.preset.keeps]
        top = [f"{name}={value}" for name, menu in zip(self.gene_names, menus, strict=False) for value in menu]
        return (*top, *blocks)

    @property
    def num_features(self) -> int:
        return int(self.cardinalities[: self._widths.stop].sum() + self.cardinalities[self._keeps].sum())

    @property
    def size(self) -> int:
        total = len(self.resolutions) * len(STEM_DEPTHS)
        for part in range(2):
            total *= len(set(self._first_width[part]))
        for number, stage in enumerate(self.preset.stages):
            widths = sorted(set(self._first_width[2 + number].tolist()))
            counts = [len(set(self._first_keep[number, width])) for width in widths]
            total *= sum(count**depth for count in counts for depth in stage.depths)
        return total

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        genes = np.zeros((n, self.num_genes), np.int8)
        for gene in (RESOLUTION, STEM_DEPTH, *range(self._depths.start, self._depths.stop)):
            genes[:, gene] = rng.integers(self.cardinalities[gene], size=n)
        for number, gene in enumerate(range(self._widths.start, self._widths.stop)):
            genes[:, gene] = rng.choice(np.unique(self._first_width[number]), size=n)
        genes[:, self._keeps] = self._draw_keeps(genes, rng)
        return self.canonical(genes)

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
        redrawn[:, self._keeps] |= ~self.has_block(genes)  # a block that a new depth brings in is drawn afresh
        child = np.where(redrawn, self.sample(len(genes), rng), genes).astype(np.int8)
        keeps = redrawn[:, self._keeps]
        child[:, self._keeps] = np.where(keeps, self._draw_keeps(child, rng), child[:, self._keeps])
        return self.canonical(child)

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        from_a = rng.integers(2, size=a.shape, dtype=np.uint8).view(np.bool_)
        has_a, has_b = self.has_block(a), self.has_block(b)
        from_a[:, self._keeps] = (from_a[:, self._keeps] | ~has_b) & has_a  # a block only one has comes from it
        return self.canonical(np.where(from_a, a, b).astype(np.int8))

    def canonical(self, genes: Genes) -> Genes:
        result = np.array(genes, dtype=np.int8)
        widths = result[:, self._widths]
        result[:, self._widths] = self._first_width[np.arange(widths.shape[1]), widths]
        keeps = self._first_keep[self.stage_of, self._stage_widths(result), result[:, self._keeps]]
        result[:, self._keeps] = keeps * self.has_block(result)
        return result

    def has_block(self, genes: Genes) -> NDArray[np.bool_]:
        """Return which blocks are there, ``(n, num_blocks)``."""
        depths = self._depth_values[np.arange(len(self.preset.stages)), genes[:, self._depths]]
        return np.asarray(self._index < depths[:, self.stage_of])

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        rows = self.canonical(genes)
        top = [np.eye(count, dtype=np.float32)[rows[:, gene]] for gene, count in self._one_hot()]
        keeps = np.eye(len(self.preset.keeps), dtype=np.float32)[rows[:, self._keeps]]
        keeps *= self.has_block(rows)[:, :, None]
        return np.concatenate([*top, keeps.reshape(len(rows), self.num_blocks * len(self.preset.keeps))], axis=1)

    def _one_hot(self) -> list[tuple[int, int]]:
        return list(enumerate(self.cardinalities[: self._widths.stop].tolist()))

    def candidate(self, row: Genes) -> Candidate:
        row = self.canonical(np.asarray(row)[None])[0]
        there = self.has_block(row[None])[0]
        blocks = [
            Block(KERNEL, EXPAND, self.preset.keeps[keep], PRECISION) if on else None
            for keep, on in zip(row[self._keeps], there, strict=True)
        ]
        return Candidate(
            space=self.name,
            resolution=self.resolutions[row[RESOLUTION]],
            stem=PRECISION,
            blocks=tuple(
                tuple(block for block, at in zip(blocks, self.stage_of, strict=True) if at == stage)
                for stage in range(len(self.preset.stages))
            ),
            head=PRECISION,
            stem_depth=int(row[STEM_DEPTH]),
            widths=tuple(self.preset.widths[width] for width in row[self._widths]),
        )

    def check(self, candidate: Candidate) -> None:
        """Check that the space has every choice of a candidate but the precisions.

        Raises:
            UsageError: It does not; the message names the choice and what is allowed.
        """
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

    def genes(self, candidate: Candidate) -> Genes:
        self.check(candidate)
        preset = self.preset
        for precision in candidate.precisions:
            choice_index(precision, self.precisions, "precision")
        row = np.zeros((1, self.num_genes), np.int8)
        row[0, RESOLUTION] = preset.resolutions.index(candidate.resolution)
        row[0, STEM_DEPTH] = choice_index(candidate.stem_depth, STEM_DEPTHS, "stem depth")
        row[0, self._widths] = [preset.widths.index(width) for width in candidate.widths]
        depths = [stage.depths.index(depth_of(s)) for stage, s in zip(preset.stages, candidate.blocks, strict=True)]
        row[0, self._depths] = depths
        row[0, self._keeps] = [preset.keeps.index(block.keep) if block else 0 for block in candidate.all_blocks()]
        return self.canonical(row)[0]


def _first_of_equals(values: Sequence[int]) -> list[int]:
    """Return, for each value, the index of the first that is equal."""
    return [values.index(value) for value in values]
