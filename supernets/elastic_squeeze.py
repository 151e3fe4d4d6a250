"""Squeeze-and-excitation whose width changes: a narrower one keeps the first channels, outside and inside.

As in once-for-all (Cai et al., 2020). Departure: when channels are sorted for a later stage of training, those inside
stay within the bounds of the widths already trained, as those outside do.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.channel_order import banded_order
from supernets.subnet import SqueezeExcite


class ElasticSqueezeExcite(SqueezeExcite):
    """Squeeze-and-excitation at its widest."""

    def forward_choice(self, x: Tensor, squeezed: int) -> Tensor:
        """Scale ``(n, width, h, w)`` by the first ``width`` channels, ``squeezed`` of them inside."""
        width = x.shape[1]
        weight_in, bias_in, weight_out, bias_out = tensors(self)
        y = self.act(F.conv2d(self.pool(x), weight_in[:squeezed, :width], bias_in[:squeezed]))
        scale: Tensor = self.gate(F.conv2d(y, weight_out[:width, :squeezed], bias_out[:width]))
        return x * scale

    def forward_gated(self, x: Tensor, gates: Tensor) -> Tensor:
        """Scale ``(n, channels, h, w)``, 0 where not chosen, by the channels inside whose gate is 1."""
        y = self.act(self.reduce(self.pool(x))) * gates[:, None, None]
        scale: Tensor = self.gate(self.expand(y))
        return x * scale

    @torch.no_grad()
    def fill(self, squeeze: SqueezeExcite) -> None:
        """Copy the leading part of each weight into a plain, narrower one."""
        for mine, theirs in zip(tensors(self), tensors(squeeze), strict=True):
            theirs.copy_(mine[tuple(slice(size) for size in theirs.shape)])

    @torch.no_grad()
    def sort_channels(self, permutation: Tensor, trained: list[int]) -> None:
        """Let the channels follow ``permutation`` and sort those inside by importance, within the bounds ``trained``.

        Importance is the L1 norm of the weights that read a channel.
        """
        weight_in, bias_in, weight_out, bias_out = tensors(self)
        inside = banded_order(weight_out.abs().sum(dim=(0, 2, 3)), trained)
        weight_in.copy_(weight_in[inside][:, permutation])
        bias_in.copy_(bias_in[inside])
        weight_out.copy_(weight_out[permutation][:, inside])
        bias_out.copy_(bias_out[permutation])


def tensors(se: SqueezeExcite) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return weight and bias of the convolution into the squeezed channels, then of the one out of them."""
    assert se.reduce.bias is not None and se.expand.bias is not None
    return se.reduce.weight, se.reduce.bias, se.expand.weight, se.expand.bias
