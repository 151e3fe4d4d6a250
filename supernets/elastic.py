"""The elastic inverted residual: one block that holds every kernel and every middle width.

Once-for-all (Cai et al., 2020): a smaller kernel is the centre of the next larger one times a learned matrix, one per
block and step (7 to 5: 25 x 25, 5 to 3: 9 x 9), initialised to the identity; a narrower block keeps the first channels.
Departure: the choice is an argument of ``forward``; no layer remembers an active subnet.
"""

from dataclasses import dataclass
from itertools import pairwise

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import BlockPosition, MBConvPreset
from supernets.channel_order import PER_CHANNEL, sort_tensor
from supernets.convolution import depthwise, pointwise
from supernets.elastic_squeeze import ElasticSqueezeExcite
from supernets.mbconv_layers import InvertedResidual


@dataclass(frozen=True)
class BlockGates:
    """A choice of a block as numbers: each tensor is 1 where the chosen block has something, 0 elsewhere.

    Attributes:
        block: ``()``, whether the block is there at all.
        kernels: ``(kernels,)``, which kernel it has, the smallest first.
        channels: ``(middle,)``, its middle channels.
        squeezed: ``(squeezed,)``, its channels inside squeeze-and-excitation; empty without one.
    """

    block: Tensor
    kernels: Tensor
    channels: Tensor
    squeezed: Tensor


class ElasticBlock(InvertedResidual):
    """An inverted residual at its largest, from which ``fill`` copies any smaller one.

    Args:
        position: Where it stands.
        preset: Says the kernels, and how far squeeze-and-excitation squeezes.
        middle: The most middle channels.
    """

    def __init__(self, position: BlockPosition, preset: MBConvPreset, middle: int):
        kernels = preset.kernels
        super().__init__(position, kernel=kernels[-1], middle=middle)
        if position.se:
            self.depthwise.se = ElasticSqueezeExcite(middle, preset.squeezed(middle))
        self.preset = preset
        self.position = position
        self.kernels = kernels
        self.transforms = nn.ParameterDict(
            {f"{large}to{small}": nn.Parameter(torch.eye(small * small)) for small, large in pairwise(kernels)}
        )

    @property
    def squeeze_excite(self) -> ElasticSqueezeExcite:
        """The squeeze-and-excitation of a block that has one."""
        assert isinstance(self.depthwise.se, ElasticSqueezeExcite)
        return self.depthwise.se

    def depthwise_weight(self, kernel: int, middle: int) -> Tensor:
        """Return the depthwise weight ``(middle, 1, kernel, kernel)``."""
        weight: Tensor = self.depthwise.conv.weight[:middle]
        for small, large in reversed(list(pairwise(self.kernels))):
            if kernel > small:
                break
            border = (large - small) // 2
            centre = weight[:, :, border : border + small, border : border + small]
            weight = (centre.reshape(middle, -1) @ self.transforms[f"{large}to{small}"]).view(middle, 1, small, small)
        return weight

    def forward_choice(self, x: Tensor, kernel: int, middle: int) -> Tensor:
        """Run the block with a kernel and a middle width on ``(n, in_width, h, w)``."""
        y = pointwise(x, self.expand.conv.weight[:middle])
        y = self.expand.act(sliced_batch_norm(self.expand.bn, y))
        y = depthwise(y, self.depthwise_weight(kernel, middle), self.position.stride)
        y = self.depthwise.act(sliced_batch_norm(self.depthwise.bn, y))
        if self.position.se:
            y = self.squeeze_excite.forward_choice(y, self.preset.squeezed(middle))
        y = self.project.bn(pointwise(y, self.project.conv.weight[:, :middle]))
        return x + y if self.residual else y

    def forward_gated(self, x: Tensor, gates: BlockGates) -> Tensor:
        """Compute ``forward_choice``, or ``x`` without a block, at the block's full size, whatever is chosen.

        A gated batch norm is 0 in the channels that are not chosen, and so are all activations of 0 that blocks use.
        """
        y = self.expand.act(self.expand.bn(pointwise(x, self.expand.conv.weight)))
        y = depthwise(y, self._gated_weight(gates.kernels), self.position.stride)
        y = self.depthwise.act(gated_batch_norm(self.depthwise.bn, y, gates.channels))
        if self.position.se:
            y = self.squeeze_excite.forward_gated(y, gates.squeezed)
        y = gated_batch_norm(self.project.bn, pointwise(y, self.project.conv.weight), gates.block)
        return x + y if self.residual else y

    def _gated_weight(self, gates: Tensor) -> Tensor:
        """Return the depthwise weight of the chosen kernel in the middle of the largest ``(middle, 1, k, k)``."""
        largest, middle = self.kernels[-1], self.depthwise.conv.out_channels
        weights = (
            F.pad(self.depthwise_weight(kernel, middle), ((largest - kernel) // 2,) * 4) for kernel in self.kernels
        )
        return torch.stack([gate * weight for gate, weight in zip(gates, weights, strict=True)]).sum(0)

    @torch.no_grad()
    def fill(self, block: InvertedResidual, kernel: int, middle: int) -> None:
        """Copy the chosen weights and the batch norms' statistics into a plain block of that kernel and width."""
        block.expand.conv.weight.copy_(self.expand.conv.weight[:middle])
        block.depthwise.conv.weight.copy_(self.depthwise_weight(kernel, middle))
        block.project.conv.weight.copy_(self.project.conv.weight[:, :middle])
        for mine, theirs in (
            (self.expand, block.expand),
            (self.depthwise, block.depthwise),
            (self.project, block.project),
        ):
            copy_batch_norm(mine.bn, theirs.bn)
        if self.position.se:
            self.squeeze_excite.fill(block.depthwise.se)

    @torch.no_grad()
    def sort_channels(self, trained: list[int]) -> None:
        """Order the middle channels by importance, the largest first, so that narrower blocks keep the important ones.

        Importance is the L1 norm of the projection's weights that read a channel (the next convolution's, as in OFA).

        Args:
            trained: Middle widths that have already been trained, ascending; channels never cross one of these bounds,
                so those narrower blocks keep their channels.
        """
        permutation = sort_tensor([self.expand, self.depthwise], [self.project.conv], trained)
        if self.position.se:
            self.squeeze_excite.sort_channels(permutation, sorted({self.preset.squeezed(width) for width in trained}))


def sliced_batch_norm(bn: nn.BatchNorm2d, x: Tensor) -> Tensor:
    """Apply the first channels of a batch norm to ``x``; in training mode their running statistics are updated."""
    width = x.shape[1]
    assert bn.running_mean is not None and bn.running_var is not None and bn.momentum is not None
    return F.batch_norm(
        x,
        bn.running_mean[:width],
        bn.running_var[:width],
        bn.weight[:width],
        bn.bias[:width],
        bn.training,
        bn.momentum,
        bn.eps,
    )


def gated_batch_norm(bn: nn.BatchNorm2d, x: Tensor, gates: Tensor) -> Tensor:
    """Apply a batch norm to ``x`` and multiply each channel by its gate."""
    assert bn.momentum is not None
    weight, bias = bn.weight * gates, bn.bias * gates
    return F.batch_norm(x, bn.running_mean, bn.running_var, weight, bias, bn.training, bn.momentum, bn.eps)


def copy_batch_norm(source: nn.BatchNorm2d, target: nn.BatchNorm2d) -> None:
    """Copy the first channels' parameters and statistics of ``source`` into the narrower ``target``."""
    for name in PER_CHANNEL:
        getattr(target, name).copy_(getattr(source, name)[: target.num_features])
    assert source.num_batches_tracked is not None and target.num_batches_tracked is not None
    target.num_batches_tracked.copy_(source.num_batches_tracked)
