"""Inverted residual blocks with elastic depth, kernel, expansion, pruning and precision.

The once-for-all MobileNetV3 space (Cai et al., 2020) joined with APQ's pruning and precision (Wang et al., 2020). Both
``expand`` and ``keep`` end in one number, the middle channels of the block, picked in the order of importance. So two
pairs with the same middle width are the same network: ``canonical`` maps them to one row, ``size`` counts them once, and
sampling draws every distinct block with equal probability.

A row is ``[resolution, stem precision, head precision, depth of each stage, (kernel, expand, keep, precision) of each
block]``. Inside, a block is one *code*: 0 if left out, else 1 + the index of its choice in ``block_choices``.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from search_spaces.candidate import Block, Candidate
from search_spaces.preset import Preset
from search_spaces.space import Genes, SearchSpace

CHUNK = 4096  # rows worked on at a time, so that the working set stays in the cache
GLOBAL_GENES = 3  # resolution, stem precision, head precision
RESOLUTION_MUTATION = 5.0  # the resolution is redrawn this many times as often as a block's gene (0.5 against 0.1 in OFA)


@dataclass(frozen=True)
class BlockPosition:
    """Where a block stands: its stage, its index there, its channels, its stride, and whether it adds its input."""

    stage: int
    index: int
    in_width: int
    out_width: int
    stride: int

    @property
    def residual(self) -> bool:
        """Whether the block adds its input to its output."""
        return self.stride == 1 and self.in_width == self.out_width


@dataclass(frozen=True)
class BlockChoice:
    """One distinct way to fill a block: kernel side, middle channels, precision."""

    kernel: int
    middle: int
    precision: str


class MBConvSpace(SearchSpace):
    """The space of one preset, for one device's menu of precisions."""

    def __init__(self, preset: Preset, precisions: Sequence[str] | None = None):
        self.preset = preset
        self.name = preset.name
        self.precisions = tuple(preset.precisions if precisions is None else precisions)
        if not self.precisions or len(set(self.precisions)) < len(self.precisions):
            raise UsageError(f"precisions {list(self.precisions)} of space {self.name}; allowed: one or more, none twice")
        self.resolutions = preset.resolutions
        self.block_positions = tuple(_positions(preset))
        self.num_blocks = len(self.block_positions)
        self._stage_of = np.array([position.stage for position in self.block_positions])
        self._index_in_stage = np.array([position.index for position in self.block_positions])
        self._depths = [np.array(stage.depths) for stage in preset.stages]
        self._first_block_gene = GLOBAL_GENES + len(preset.stages)
        per_block = [len(preset.kernels), len(preset.expands), len(preset.keeps), len(self.precisions)]
        self._block_strides = np.array([int(np.prod(per_block[i + 1 :])) for i in range(4)], dtype=np.int16)
        top = [len(self.resolutions), len(self.precisions), len(self.precisions)]
        self.cardinalities = np.array(top + [len(d) for d in self._depths] + per_block * self.num_blocks)
        self._build_tables()

    def _build_tables(self) -> None:
        """Tables from a block's four genes to its code, and from the code back to canonical genes and to features."""
        self._choices: list[tuple[BlockChoice, ...]] = []
        self._code_of: list[NDArray[np.int16]] = []
        self._genes_of: list[NDArray[np.int8]] = []
        self._features_of: list[NDArray[np.float32]] = []
        built: dict[int, int] = {}
        for number, position in enumerate(self.block_positions):
            known = built.setdefault(position.in_width, number)
            tables = self._tables(position) if known == number else self._tables_at(known)
            for store, table in zip((self._choices, self._code_of, self._genes_of, self._features_of), tables, strict=True):
                store.append(table)  # type: ignore[arg-type]
        starts = np.cumsum([self._num_global_features] + [table.shape[1] for table in self._features_of])
        self._feature_starts, self._num_features = starts[:-1], int(starts[-1])

    def _tables_at(self, number: int) -> tuple[tuple[BlockChoice, ...], NDArray, NDArray, NDArray]:
        return self._choices[number], self._code_of[number], self._genes_of[number], self._features_of[number]

    def _tables(self, position: BlockPosition) -> tuple[tuple[BlockChoice, ...], NDArray, NDArray, NDArray]:
        preset, choices, genes = self.preset, {}, [(0, 0, 0, 0)]
        codes = []
        # Expands ascend and keeps descend, so the first spelling of a middle width prunes the least.
        spellings = list(product(enumerate(preset.expands), reversed(list(enumerate(preset.keeps)))))
        canonical: dict[int, tuple[int, int]] = {}
        for (e, expand), (k, keep) in spellings:
            canonical.setdefault(preset.middle(position.in_width, expand, keep), (e, k))
        middles = sorted(canonical)
        for (i, kernel), middle, (p, precision) in product(enumerate(preset.kernels), middles, enumerate(self.precisions)):
            choices[BlockChoice(kernel, middle, precision)] = len(choices) + 1
            genes.append((i, *canonical[middle], p))
        for kernel, expand, keep, precision in product(preset.kernels, preset.expands, preset.keeps, self.precisions):
            codes.append(choices[BlockChoice(kernel, preset.middle(position.in_width, expand, keep), precision)])
        features = np.zeros((len(choices) + 1, len(preset.kernels) + len(middles) + len(self.precisions)), np.float32)
        for choice, code in choices.items():
            features[code, preset.kernels.index(choice.kernel)] = 1
            features[code, len(preset.kernels) + middles.index(choice.middle)] = 1
            features[code, len(preset.kernels) + len(middles) + self.precisions.index(choice.precision)] = 1
        return tuple(choices), np.array(codes, np.int16), np.array(genes, np.int8), features

    @property
    def _num_global_features(self) -> int:
        return len(self.resolutions) + 2 * len(self.precisions)

    @property
    def num_features(self) -> int:
        return self._num_features

    @property
    def size(self) -> int:
        total = len(self.resolutions) * len(self.precisions) ** 2
        for number, stage in enumerate(self.preset.stages):
            counts = [len(choices) for choices, s in zip(self._choices, self._stage_of, strict=True) if s == number]
            total *= sum(int(np.prod(counts[:depth], dtype=object)) for depth in stage.depths)
        return total

    def block_choices(self, block: int) -> tuple[BlockChoice, ...]:
        """Return the distinct choices of block position ``block``; choice ``i`` has code ``i + 1``."""
        return self._choices[block]

    def block_codes(self, genes: Genes) -> NDArray[np.int16]:
        """Return each block's code ``(n, num_blocks)``: 0 if left out, else 1 + the index into ``block_choices``."""
        blocks = self._blocks(genes)
        flat = blocks[..., 0] * self._block_strides[0]
        for gene in (1, 2, 3):
            flat += blocks[..., gene] * self._block_strides[gene]
        codes = np.empty(flat.shape, np.int16)
        for block, table in enumerate(self._code_of):
            codes[:, block] = table[flat[:, block]]
        codes *= self._active(genes)
        return codes

    def resolution_index(self, genes: Genes) -> Genes:
        """Return the index into ``resolutions`` of each row, ``(n,)``."""
        return genes[:, 0]

    def stem_precision(self, genes: Genes) -> Genes:
        """Return the index into ``precisions`` of each row's stem, ``(n,)``."""
        return genes[:, 1]

    def head_precision(self, genes: Genes) -> Genes:
        """Return the index into ``precisions`` of each row's head, ``(n,)``."""
        return genes[:, 2]

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        genes = np.empty((n, self.num_genes), np.int8)
        for gene in range(self._first_block_gene):
            genes[:, gene] = rng.integers(self.cardinalities[gene], size=n, dtype=np.uint8)
        codes = np.empty((n, self.num_blocks), np.int16)
        for block, choices in enumerate(self._choices):
            codes[:, block] = rng.integers(1, len(choices) + 1, size=n, dtype=np.uint16)
        codes *= self._active(genes)
        self._write_blocks(genes, codes)
        return genes

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        fresh = self.sample(len(genes), rng)
        redraw = rng.random(genes.shape, np.float32) < np.float32(rate)
        redraw[:, 0] = rng.random(len(genes)) < min(1.0, RESOLUTION_MUTATION * rate)
        child = np.where(redraw, fresh, genes)
        absent = ~self._active(genes)
        # A block that was out has no genes of its own: it takes the fresh ones, or a draw where the fresh row lacks it too.
        spare = self._random_blocks(len(genes), rng)
        donor = np.where(self._active(fresh)[..., None], self._blocks(fresh), spare)
        self._blocks(child)[absent] = donor[absent]
        lost = redraw[:, self._first_block_gene :].reshape(len(genes), -1, 4) & ~self._active(fresh)[..., None]
        lost &= ~absent[..., None]
        self._blocks(child)[lost] = spare[lost]
        return self.canonical(child)

    def _random_blocks(self, n: int, rng: np.random.Generator) -> NDArray[np.int8]:
        full = np.zeros((n, self.num_genes), np.int8)
        for block, choices in enumerate(self._choices):
            picked = rng.integers(1, len(choices) + 1, size=n, dtype=np.uint16)
            self._blocks(full)[:, block] = self._genes_of[block][picked]
        return self._blocks(full)

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        child = np.where(rng.random(a.shape, np.float32) < 0.5, a, b)
        first = rng.random((len(a), self.num_blocks), np.float32) < 0.5
        in_a, in_b = self._active(a), self._active(b)
        from_a = np.where(in_a == in_b, first, in_a)  # a block only one parent has comes from that parent
        self._blocks(child)[...] = np.where(from_a[..., None], self._blocks(a), self._blocks(b))
        return self.canonical(child)

    def canonical(self, genes: Genes) -> Genes:
        result = np.array(genes, dtype=np.int8)
        self._write_blocks(result, self.block_codes(result))
        return result

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        out = np.zeros((len(genes), self.num_features), np.float32)
        one_hot = [np.eye(count, dtype=np.float32) for count in self.cardinalities[:GLOBAL_GENES]]
        for start in range(0, len(genes), CHUNK):
            part, target = genes[start : start + CHUNK], out[start : start + CHUNK]
            codes = self.block_codes(part)
            at = 0
            for gene, table in enumerate(one_hot):
                target[:, at : at + len(table)] = table[part[:, gene]]
                at += len(table)
            for block, table in enumerate(self._features_of):
                begin = self._feature_starts[block]
                target[:, begin : begin + table.shape[1]] = table[codes[:, block]]
        return out

    def candidate(self, row: Genes) -> Candidate:
        row = self.canonical(np.asarray(row)[None])[0]
        active = self._active(row[None])[0]
        blocks = [self._spell(genes) if on else None for genes, on in zip(self._blocks(row[None])[0], active, strict=True)]
        return Candidate(
            space=self.name,
            resolution=self.resolutions[row[0]],
            stem=self.precisions[row[1]],
            blocks=tuple(
                tuple(block for block, s in zip(blocks, self._stage_of, strict=True) if s == stage)
                for stage in range(len(self.preset.stages))
            ),
            head=self.precisions[row[2]],
        )

    def _spell(self, genes: NDArray[np.int8]) -> Block:
        preset = self.preset
        kernel, expand, keep, precision = genes
        return Block(preset.kernels[kernel], preset.expands[expand], preset.keeps[keep], self.precisions[precision])

    def genes(self, candidate: Candidate) -> Genes:
        if candidate.space != self.name:
            raise UsageError(f"candidate of space {candidate.space!r}; allowed: {self.name!r}")
        row = np.zeros((1, self.num_genes), np.int8)
        row[0, 0] = _index(candidate.resolution, self.resolutions, "resolution")
        row[0, 1] = _index(candidate.stem, self.precisions, "stem precision")
        row[0, 2] = _index(candidate.head, self.precisions, "head precision")
        blocks = [block for stage in candidate.blocks for block in stage]
        if len(candidate.blocks) != len(self.preset.stages) or len(blocks) != self.num_blocks:
            raise UsageError(f"candidate with blocks {[len(stage) for stage in candidate.blocks]}; allowed: {self._shape()}")
        for stage, (entries, allowed) in enumerate(zip(candidate.blocks, self.preset.stages, strict=True)):
            depth = sum(block is not None for block in entries)
            if len(entries) != max(allowed.depths) or any(block is None for block in entries[:depth]):
                raise UsageError(f"stage {stage} of the candidate: a block is left out before the last, or {self._shape()} is not met")
            row[0, GLOBAL_GENES + stage] = _index(depth, allowed.depths, f"depth of stage {stage}")
        for number, block in enumerate(blocks):
            if block is not None:
                self._blocks(row)[0, number] = self._gene_values(block)
        return self.canonical(row)[0]

    def _shape(self) -> list[int]:
        return [max(stage.depths) for stage in self.preset.stages]

    def _gene_values(self, block: Block) -> tuple[int, int, int, int]:
        return (
            _index(block.kernel, self.preset.kernels, "kernel"),
            _index(block.expand, self.preset.expands, "expand"),
            _index(block.keep, self.preset.keeps, "keep"),
            _index(block.precision, self.precisions, "precision"),
        )

    def largest(self, precision: str = "fp32") -> Genes:
        """Return the row of the largest network, all of it in ``precision``."""
        return self._extreme(precision, self.cardinalities - 1)

    def smallest(self, precision: str = "fp32") -> Genes:
        """Return the row of the smallest network, all of it in ``precision``."""
        return self._extreme(precision, np.zeros_like(self.cardinalities))

    def _extreme(self, precision: str, values: NDArray[np.int64]) -> Genes:
        return self.with_precision(self.canonical(values.astype(np.int8)[None]), precision)[0]

    def with_precision(self, genes: Genes, precision: str) -> Genes:
        """Return the same architectures ``(n, num_genes)`` with every part in ``precision``."""
        index = _index(precision, self.precisions, "precision")
        twin = np.array(genes, dtype=np.int8)
        twin[:, 1:GLOBAL_GENES] = index
        self._blocks(twin)[..., 3] = index
        return self.canonical(twin)

    def feature_size(self, resolution: int, block: int) -> int:
        """Return the side, in pixels, of the feature map that enters block position ``block`` at an input resolution."""
        size = -(-resolution // self.preset.stem_stride)
        for position in self.block_positions[:block]:
            size = -(-size // position.stride)
        return size

    def _blocks(self, genes: Genes) -> Genes:
        """View the block genes of contiguous rows as ``(n, num_blocks, 4)``."""
        return genes[:, self._first_block_gene :].reshape(len(genes), self.num_blocks, 4, copy=False)

    def _active(self, genes: Genes) -> NDArray[np.bool_]:
        """Return which blocks are there, ``(n, num_blocks)``."""
        active = np.empty((len(genes), self.num_blocks), np.bool_)
        for stage, depths in enumerate(self._depths):
            columns = self._stage_of == stage
            active[:, columns] = self._index_in_stage[columns] < depths[genes[:, GLOBAL_GENES + stage]][:, None]
        return active

    def _write_blocks(self, genes: Genes, codes: NDArray[np.int16]) -> None:
        blocks = self._blocks(genes)
        for block, table in enumerate(self._genes_of):
            blocks[:, block] = table[codes[:, block]]


def _positions(preset: Preset) -> Iterator[BlockPosition]:
    width = preset.stem_width
    for number, stage in enumerate(preset.stages):
        for index in range(max(stage.depths)):
            yield BlockPosition(number, index, width, stage.width, stage.stride if index == 0 else 1)
            width = stage.width


def _index(value: object, allowed: Sequence[object], what: str) -> int:
    if value not in allowed:
        raise UsageError(f"{what} {value!r}; allowed: {', '.join(map(str, allowed))}")
    return list(allowed).index(value)
