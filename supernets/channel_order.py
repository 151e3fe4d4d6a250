"""Channels sorted by importance, so that narrower networks, which keep the first ones, keep those that matter."""

from collections.abc import Iterable, Sequence
from itertools import pairwise

import torch
from torch import Tensor, nn

from supernets.subnet import ConvBN

PER_CHANNEL = ("weight", "bias", "running_mean", "running_var")  # what a batch norm holds one value a channel of


@torch.no_grad()
def sort_tensor(writers: Sequence[ConvBN], readers: Sequence[nn.Conv2d | nn.Linear], trained: Iterable[int]) -> Tensor:
    """Sort a tensor's channels in place, by the L1 norm of the weights that read them (as once-for-all does).

    Args:
        writers: The layers that write it: all of those that are added, and depthwise ones on the way.
        readers: The layers that read it.
        trained: Widths of it that have been trained, the full one among them: networks of these stay the same.

    Returns:
        The order, ``(channels,)``: what stood at ``order[i]`` stands at ``i``.
    """
    read = torch.stack([layer.weight.abs().transpose(0, 1).flatten(1).sum(1) for layer in readers])
    order = banded_order(read.sum(0), sorted(set(trained)))
    for layer in writers:
        layer.conv.weight.copy_(layer.conv.weight[order])
        for name in PER_CHANNEL:
            getattr(layer.bn, name).copy_(getattr(layer.bn, name)[order])
    for reader in readers:
        reader.weight.copy_(reader.weight[:, order])
    return order


def banded_order(importance: Tensor, bounds: list[int]) -> Tensor:
    """Return the channels in the order of falling importance, none across one of the ascending ``bounds``."""
    order = [
        begin + torch.argsort(importance[begin:end], descending=True, stable=True)
        for begin, end in pairwise([0, *bounds])
    ]
    return torch.cat(order)
