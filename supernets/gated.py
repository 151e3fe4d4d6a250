"""Every subnet of an inverted-residual supernet as one program: what is chosen are numbers in a tensor, not shapes.

A program whose shapes never change can be recorded once and replayed, as a CUDA graph is. It computes the largest
network whatever is chosen, so it pays only where launching many small kernels takes longer than running them.
"""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from nas.errors import UsageError
from search_spaces import Block, BlockPosition, Candidate
from supernets.elastic import BlockGates, ElasticBlock
from supernets.mbconv import MBConvSupernet
from supernets.supernet import Supernet


class GatedForward:
    """Runs subnets of a supernet at its full size, to the same logits and gradients.

    Two differences: batch norms of what is not chosen see the images too, and its gradients are 0 instead of none, so
    that momentum and weight decay go on moving it.

    Args:
        supernet: Of the family ``mbconv``; it keeps its weights.

    Raises:
        UsageError: It is of another family.
    """

    def __init__(self, supernet: Supernet):
        if not isinstance(supernet, MBConvSupernet):
            raise UsageError(f"space {supernet.space.name} of another family; allowed with CUDA graphs: mbconv")
        self.supernet = supernet
        self.blocks: list[ElasticBlock] = list(supernet.blocks.values())  # type: ignore[arg-type]
        self.sizes = [size for block in self.blocks for size in _sizes(block)]

    def gates(self, candidate: Candidate) -> NDArray[np.float32]:
        """Return the numbers that choose a candidate, ``(gates,)``.

        Raises:
            UsageError: The candidate has a choice that the space lacks.
        """
        space = self.supernet.space
        space.check(candidate)
        positions = zip(self.blocks, space.block_positions, candidate.all_blocks(), strict=True)
        return np.concatenate([part for one in positions for part in self._block_gates(*one)]).astype(np.float32)

    def stack(self, candidates: Sequence[Candidate], device: torch.device) -> Tensor:
        """Return the gates of some candidates, ``(candidates, gates)``."""
        return torch.from_numpy(np.stack([self.gates(candidate) for candidate in candidates])).to(device)

    def __call__(self, x: Tensor, gates: Tensor) -> Tensor:
        """Return logits ``(n, classes)`` for images ``(n, channels, h, w)``, as the supernet does for the candidate."""
        parts = iter(gates.split(self.sizes))
        x = self.supernet.stem(x)
        for block in self.blocks:
            there, kernels, channels, squeezed = (next(parts) for _ in _sizes(block))
            x = block.forward_gated(x, BlockGates(there, kernels, channels, squeezed))
        logits: Tensor = self.supernet.head(x)
        return logits

    def _block_gates(
        self, elastic: ElasticBlock, position: BlockPosition, block: Block | None
    ) -> tuple[NDArray[np.bool_], ...]:
        there, _, channels, squeezed = sizes = _sizes(elastic)
        if block is None:
            return tuple(np.zeros(size, bool) for size in sizes)
        middle = self.supernet.middle(position, block)
        inside = elastic.preset.squeezed(middle) if squeezed else 0
        chosen = np.array(elastic.kernels) == block.kernel
        return np.ones(there, bool), chosen, np.arange(channels) < middle, np.arange(squeezed) < inside


def _sizes(block: ElasticBlock) -> tuple[int, int, int, int]:
    """Return how many numbers a block's ``BlockGates`` have, in their order."""
    squeezed = block.squeeze_excite.reduce.out_channels if block.position.se else 0
    return 1, len(block.kernels), block.depthwise.conv.out_channels, squeezed
