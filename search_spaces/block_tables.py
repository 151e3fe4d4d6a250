"""The blocks of a space: where they stand, and tables from a block's four genes to what it is.

A block's genes (kernel, expand, keep, precision) and the width of its input make one number, its *slot*; slot 0 is a
block left out. Everything about a block is then one row of a table, and a population is looked up by one
``numpy.take``. Positions with equal input width share their slots.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from math import prod
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from search_spaces.mbconv_preset import MBConvPreset
from search_spaces.part_table import Codes


@dataclass(frozen=True)
class BlockPosition:
    """Where a block stands, and what of it is not chosen: its channels, stride, activation, squeeze-and-excitation."""

    stage: int
    index: int
    in_width: int
    out_width: int
    stride: int
    activation: str = "relu"
    se: bool = False

    @property
    def name(self) -> str:
        """``block_<stage>_<index>``."""
        return f"block_{self.stage}_{self.index}"

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


@dataclass(frozen=True)
class BlockTables:
    """The tables of one space.

    Attributes:
        choices: Distinct choices by block position.
        radix: Weights of the four genes in a slot, ``(4,)``.
        first_slot: What is added to that sum at each position, ``(num_blocks,)``.
        code: Each slot's choice: 0 for a block left out, else 1 + the index into its position's choices, ``(slots,)``.
        features: One-hot kernel, middle width and precision, ``(slots, width)``; equal networks have equal features.
        feature_names: What each of them is, by block position, such as ``middle=48``; ``unused_0`` where padded.
        genes: The canonical genes of each choice, the positions' choices one after another, ``(choices, 4)``.
        first_choice: Row of ``genes`` where each position's choices begin, ``(num_blocks,)``.
    """

    choices: tuple[tuple[BlockChoice, ...], ...]
    radix: NDArray[np.int64]
    first_slot: NDArray[np.float32]
    code: Codes
    features: NDArray[np.float32]
    feature_names: tuple[tuple[str, ...], ...]
    genes: NDArray[np.int8]
    first_choice: NDArray[np.int64]


def block_positions(preset: MBConvPreset) -> Iterator[BlockPosition]:
    """Yield the block positions of a preset in order, every stage at its greatest depth."""
    width = preset.stem_out_width
    for number, stage in enumerate(preset.stages):
        for index in range(max(stage.depths)):
            stride, activation = stage.stride if index == 0 else 1, stage.activation or preset.activation
            yield BlockPosition(number, index, width, stage.width, stride, activation, stage.se)
            width = stage.width


def build_tables(preset: MBConvPreset, precisions: Sequence[str], in_widths: Sequence[int]) -> BlockTables:
    """Build the tables of the blocks whose inputs have ``in_widths`` channels."""
    cardinalities = [len(preset.kernels), len(preset.expands), len(preset.keeps), len(precisions)]
    widths = sorted(set(in_widths))
    parts = [_width_tables(preset, precisions, width) for width in widths]
    feature_width = max(part.features.shape[1] for part in parts)
    absent = np.zeros((1, feature_width), np.float32)
    padded = [np.pad(part.features, ((0, 0), (0, feature_width - part.features.shape[1]))) for part in parts]
    names = [part.feature_names + _unused(feature_width - len(part.feature_names)) for part in parts]
    which = np.array([widths.index(width) for width in in_widths])
    starts = np.cumsum([0] + [len(part.genes) for part in parts])[:-1]
    return BlockTables(
        choices=tuple(parts[part].choices for part in which),
        radix=np.array([prod(cardinalities[gene + 1 :]) for gene in range(4)]),
        first_slot=(1 + which * prod(cardinalities)).astype(np.float32),
        code=np.concatenate([np.zeros(1, np.int32)] + [part.code for part in parts]),
        features=np.concatenate([absent, *padded]),
        feature_names=tuple(names[part] for part in which),
        genes=np.concatenate([part.genes for part in parts]),
        first_choice=starts[which],
    )


def _unused(count: int) -> tuple[str, ...]:
    return tuple(f"unused_{number}" for number in range(count))


class _WidthTables(NamedTuple):
    """The tables of the positions of one input width."""

    choices: tuple[BlockChoice, ...]
    genes: NDArray[np.int8]
    code: Codes
    features: NDArray[np.float32]
    feature_names: tuple[str, ...]


def _width_tables(preset: MBConvPreset, precisions: Sequence[str], in_width: int) -> _WidthTables:
    """Return the choices of one input width, their genes, and each slot's code and features."""
    # Expands ascend and keeps descend, so the first spelling of a middle width prunes the least.
    spelling: dict[int, tuple[int, int]] = {}
    for (e, expand), (k, keep) in product(enumerate(preset.expands), reversed(list(enumerate(preset.keeps)))):
        spelling.setdefault(preset.middle(in_width, expand, keep), (e, k))
    middles = sorted(spelling)
    choices = tuple(BlockChoice(*choice) for choice in product(preset.kernels, middles, precisions))
    codes = {choice: code for code, choice in enumerate(choices, start=1)}
    genes = [
        (preset.kernels.index(choice.kernel), *spelling[choice.middle], precisions.index(choice.precision))
        for choice in choices
    ]
    slots = [
        BlockChoice(kernel, preset.middle(in_width, expand, keep), precision)
        for kernel, expand, keep, precision in product(preset.kernels, preset.expands, preset.keeps, precisions)
    ]
    menus = {"kernel": preset.kernels, "middle": middles, "precision": precisions}
    features = [[getattr(slot, name) == value for name, menu in menus.items() for value in menu] for slot in slots]
    return _WidthTables(
        choices=choices,
        genes=np.array(genes, np.int8),
        code=np.array([codes[slot] for slot in slots], np.int32),
        features=np.array(features, np.float32),
        feature_names=tuple(f"{name}={value}" for name, menu in menus.items() for value in menu),
    )
