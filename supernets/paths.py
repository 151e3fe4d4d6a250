"""The paths of an inverted-residual supernet: every choice as a sum of gated outputs (ProxylessNAS, Cai et al., 2019).

A choice has options; a *gate* gives some of them a weight. The output of a choice is the sum of its gated options'
outputs, and what has no gate is not computed. With one option of weight 1 each, the network is that of a candidate.

The choices are the resolution, whose outputs are logits; the depth of each stage, whose outputs are those of its blocks
one after the other; and the kernel and the middle width of each block. Departures: the paper's paths have weights of
their own, ours share the supernet's; it chooses among 7 pairs of kernel and width at once, of which we have 21, so
kernel and width are choices of their own, whose gates multiply; its zero path may stand anywhere in a stage, our depths
keep a stage's first blocks; its resolution is fixed. Precisions are not paths: a supernet computes in floating point.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from search_spaces import BlockPosition, Genes, MBConvSpace
from supernets.elastic import ElasticBlock
from supernets.evaluation import prepare
from supernets.mbconv import MBConvSupernet

Gate = Mapping[int, Tensor | float]
"""Option to its weight, a scalar."""


@dataclass(frozen=True)
class PathChoice:
    """A choice between paths.

    Attributes:
        name: What it chooses, such as ``depth_1`` or ``block_1_0.kernel``.
        columns: The genes that spell it, ``(columns,)``.
        values: Their values for each option, ``(options, columns)``.
    """

    name: str
    columns: NDArray[np.intp]
    values: NDArray[np.int8]


class MBConvPaths:
    """The paths of a supernet; its weights are used as they are, not copied.

    Args:
        supernet: Has the weights.
        space: The networks to choose from: the supernet's own, or a part of them.

    Attributes:
        choices: The resolution, the depth of each stage, then what fills each block.
    """

    def __init__(self, supernet: MBConvSupernet, space: MBConvSpace):
        self.supernet, self.space = supernet, space
        widths = [{choice.middle for choice in space.block_choices(block)} for block in range(space.num_blocks)]
        self._widths = [sorted(menu) for menu in widths]
        depths = [f"depth_{stage}" for stage in range(len(space.preset.stages))]
        blocks = zip(space.block_positions, self._widths, strict=True)
        self.choices = (
            *(self._gene(name) for name in ("resolution", *depths)),
            *(choice for at, menu in blocks for choice in (self._gene(f"{at.name}.kernel"), self._width(at, menu))),
        )

    def _gene(self, name: str) -> PathChoice:
        """Return the choice that one gene is."""
        gene = self.space.gene_names.index(name)
        count = int(self.space.cardinalities[gene])
        return PathChoice(name, np.array([gene]), np.arange(count, dtype=np.int8)[:, None])

    def _width(self, position: BlockPosition, menu: Sequence[int]) -> PathChoice:
        """Return the choice of a block's middle width, which two genes spell."""
        preset = self.space.preset
        spelling = {
            preset.middle(position.in_width, expand, keep): (e, k)
            for (e, expand), (k, keep) in product(enumerate(preset.expands), enumerate(preset.keeps))
        }
        columns = [self.space.gene_names.index(f"{position.name}.{gene}") for gene in ("expand", "keep")]
        return PathChoice(
            f"{position.name}.width", np.array(columns), np.array([spelling[middle] for middle in menu], np.int8)
        )

    def genes(self, picks: NDArray[np.integer], precision: str) -> Genes:
        """Return the canonical rows of options ``(n, choices)``, all of it in ``precision``."""
        rows = np.zeros((len(picks), self.space.num_genes), np.int8)
        for options, choice in zip(picks.T, self.choices, strict=True):
            rows[:, choice.columns] = choice.values[options]
        return self.space.with_precision(rows, precision)

    def logits(self, images: Tensor, gates: Sequence[Gate]) -> Tensor:
        """Return logits ``(n, classes)`` of ``uint8`` images ``(n, channels, h, w)`` through a gate for each choice."""
        resolution, *others = gates
        outputs = [
            gate * self._at_one_resolution(prepare(images, self.space.resolutions[option], self.supernet.info), others)
            for option, gate in resolution.items()
        ]
        return torch.stack(outputs).sum(0)

    def _at_one_resolution(self, x: Tensor, gates: Sequence[Gate]) -> Tensor:
        stages = self.space.preset.stages
        fillings = gates[len(stages) :]
        blocks = iter(zip(self.space.block_positions, self._widths, fillings[::2], fillings[1::2], strict=True))
        x = self.supernet.stem(x.contiguous(memory_format=torch.channels_last))
        for stage, depth_gate in zip(stages, gates, strict=False):
            weights = {stage.depths[option]: gate for option, gate in depth_gate.items()}
            outputs = []
            for depth in range(1, max(stage.depths) + 1):
                position, widths, kernel_gate, width_gate = next(blocks)
                if depth <= max(weights):
                    x = self._block(position, widths, kernel_gate, width_gate, x)
                if depth in weights:
                    outputs.append(weights[depth] * x)
            x = sum(outputs[1:], outputs[0])
        logits: Tensor = self.supernet.head(x)
        return logits

    def _block(
        self, position: BlockPosition, widths: Sequence[int], kernel_gate: Gate, width_gate: Gate, x: Tensor
    ) -> Tensor:
        block = self.supernet.blocks[position.name]
        assert isinstance(block, ElasticBlock)
        outputs = [
            of_kernel * of_width * block.forward_choice(x, self.space.preset.kernels[kernel], widths[width])
            for (kernel, of_kernel), (width, of_width) in product(kernel_gate.items(), width_gate.items())
            if of_kernel or of_width  # with both closed it adds nothing, and nothing to a gradient
        ]
        return sum(outputs[1:], outputs[0])
