"""Stages that each repeat one chosen block: MnasNet's factorised hierarchical space and DAMO-YOLO's backbones.

A stage chooses its width, the kind of its layers, their kernel and inside channels, how many there are, and its
precision. All layers of a stage are alike, so a space is smaller by orders of magnitude than one that chooses layer by
layer (Tan et al., 2019). The kinds are MnasNet's inverted residual, with or without squeeze-and-excitation, and those
of MAE-NAS (Sun et al., 2022) as DAMO-YOLO (Xu et al., 2022) has them: ``k1kx`` and ``kxkx`` are ResNet-like, two
convolutions and a sum, and ``csp`` splits the channels, puts one half through layers of ``k1kx``, and joins the halves.

A row is ``[resolution, stem precision, head precision, (width, kind, kernel, keep, layers, precision) of each stage]``.
Every row is a network of its own. A stage is one part, ``block_<stage>_0``.

Departures: MnasNet's plain and separable convolutions and its pooling in place of the skip are left out; what is inside
a layer is a multiple of the stage's output also in its first layer, which never adds its input to its output.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from search_spaces.candidate import Block, Candidate
from search_spaces.choices import check_stages, choice_index
from search_spaces.factorised_parts import PlainStemChoice, head_table, stage_table
from search_spaces.factorised_preset import FactorisedPreset
from search_spaces.part_table import Codes
from search_spaces.space import RESOLUTION, RESOLUTION_MUTATION, Genes
from search_spaces.staged import HEAD_PRECISION, STEM_PRECISION, StagedSpace

WIDTH, KIND, KERNEL, KEEP, LAYERS, PRECISION = range(6)


class FactorisedSpace(StagedSpace):
    """The space of one preset, for one device's menu of precisions."""

    preset_type = FactorisedPreset
    stage_genes = ()
    block_genes = ("width", "kind", "kernel", "keep", "layers", "precision")
    preset: FactorisedPreset

    def __init__(self, preset: FactorisedPreset, precisions: Sequence[str] | None = None):
        block = (preset.widths, preset.kinds, preset.kernels, preset.keeps, preset.layers)
        super().__init__(preset, precisions, top=[], block=[len(choices) for choices in block])
        self.stem_stride = preset.stem_stride
        menu = self.precisions
        self._menus: tuple[Sequence[object], ...] = (self.resolutions, menu, menu, *(*block, menu) * self.num_blocks)
        self._stages = [stage_table(preset, menu, stage) for stage in range(self.num_blocks)]
        self._head = head_table(preset, menu)
        stem = tuple(map(PlainStemChoice, menu))
        self._choices = (stem, *(stage.choices for stage in self._stages), self._head.choices)

    def has_block(self, genes: Genes) -> NDArray[np.bool_]:
        return np.ones((len(genes), self.num_blocks), np.bool_)

    def part_codes(self, genes: Genes) -> Codes:
        codes = np.empty((len(genes), self.num_blocks + 2), np.int32)
        blocks = self._by_block(genes)
        before = np.zeros(len(genes), np.int8)
        codes[:, 0] = genes[:, STEM_PRECISION] + 1
        for stage, table in enumerate(self._stages):
            codes[:, stage + 1] = table.codes[(before, *blocks[:, stage].T)]
            before = blocks[:, stage, WIDTH]
        codes[:, -1] = self._head.codes[before, genes[:, HEAD_PRECISION]]
        return codes

    def _by_block(self, genes: Genes) -> Genes:
        """Return a view of the genes of each block, ``(n, num_blocks, 6)``."""
        return genes[:, self._blocks].reshape(len(genes), self.num_blocks, len(self.block_genes))

    @property
    def feature_names(self) -> tuple[str, ...]:
        named = zip(self.gene_names, self._menus, strict=True)
        return tuple(f"{name}={value}" for name, menu in named for value in menu)

    @property
    def num_features(self) -> int:
        return int(self.cardinalities.sum())

    @property
    def size(self) -> int:
        return int(np.prod(self.cardinalities.astype(object)))

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        return rng.integers(self.cardinalities, size=(n, self.num_genes)).astype(np.int8)

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        rates = np.full(self.num_genes, rate)
        rates[RESOLUTION] *= RESOLUTION_MUTATION
        return np.where(rng.random(genes.shape) < rates, self.sample(len(genes), rng), genes).astype(np.int8)

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        return np.where(rng.integers(2, size=a.shape, dtype=np.uint8).view(np.bool_), a, b).astype(np.int8)

    def canonical(self, genes: Genes) -> Genes:
        return np.array(genes, np.int8)

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        features = np.zeros((len(genes), self.num_features), np.float32)
        first = np.cumsum(np.append(0, self.cardinalities))[:-1]
        np.put_along_axis(features, first + genes, np.float32(1), axis=1)
        return features

    def candidate(self, row: Genes) -> Candidate:
        row = np.asarray(row)
        blocks = self._by_block(row[None])[0]
        return Candidate(
            space=self.name,
            resolution=self.resolutions[row[RESOLUTION]],
            stem=self.precisions[row[STEM_PRECISION]],
            blocks=tuple((self._spell(genes),) for genes in blocks),
            head=self.precisions[row[HEAD_PRECISION]],
            widths=tuple(self.preset.widths[width] for width in blocks[:, WIDTH]),
        )

    def _spell(self, genes: Genes) -> Block:
        preset = self.preset
        return Block(
            kernel=preset.kernels[genes[KERNEL]],
            expand=preset.expand,
            keep=preset.keeps[genes[KEEP]],
            precision=self.precisions[genes[PRECISION]],
            mixer=preset.kinds[genes[KIND]],
            layers=preset.layers[genes[LAYERS]],
        )

    def check(self, candidate: Candidate) -> None:
        check_stages(candidate, self.preset)
        if len(candidate.widths) != self.num_blocks or candidate.stem_depth is not None:
            allowed = f"{self.num_blocks}, one a stage, and no depth of the stem"
            raise UsageError(f"candidate: {len(candidate.widths)} widths; allowed: {allowed}")
        for width in candidate.widths:
            choice_index(width, self.preset.widths, "width")
        for name, block in zip(self.block_names, candidate.active_blocks(), strict=True):
            choice_index(block.mixer, self.preset.kinds, f"{name}: mixer")
            choice_index(block.kernel, self.preset.kernels, f"{name}: kernel")
            choice_index(block.expand, (self.preset.expand,), f"{name}: expand")
            choice_index(block.keep, self.preset.keeps, f"{name}: keep")
            choice_index(block.layers, self.preset.layers, f"{name}: layers")

    def genes(self, candidate: Candidate) -> Genes:
        self.check(candidate)
        preset, row = self.preset, self._begin_row(candidate)
        named = zip(self.block_names, candidate.widths, candidate.active_blocks(), strict=True)
        self._by_block(row)[0] = [
            (
                preset.widths.index(width),
                preset.kinds.index(block.mixer),
                preset.kernels.index(block.kernel),
                preset.keeps.index(block.keep),
                preset.layers.index(block.layers),
                choice_index(block.precision, self.precisions, f"{name}: precision"),
            )
            for name, width, block in named
        ]
        return row[0]
