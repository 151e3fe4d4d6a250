"""A network cut out of a supernet, plain torch with nothing elastic left, and the layers that families share."""

import functools
from collections import OrderedDict
from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from search_spaces import Candidate, Preset

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": functools.partial(nn.ReLU, inplace=True),  # what they follow is read by nothing else
    "relu6": functools.partial(nn.ReLU6, inplace=True),
    "hswish": nn.Hardswish,  # its gradient needs its input
    "gelu": nn.GELU,  # likewise
}


class Subnet(nn.Module):
    """The network of one candidate, of whatever family: a stem, blocks by name, a head.

    Units of precision are ``stem``, ``blocks.block_<stage>_<index>`` and ``head``: module paths, and prefixes of the
    node names in the exported graph.

    Args:
        preset: Says what its batch norms are like.
        candidate: What it is the network of.
        stem: From images to what the first block reads.
        blocks: The blocks that the candidate has, by the names of their positions, in order.
        head: From what the last block writes to logits.
    """

    def __init__(
        self, preset: Preset, candidate: Candidate, *, stem: nn.Module, blocks: Mapping[str, nn.Module], head: nn.Module
    ):
        super().__init__()
        self.candidate = candidate
        self.stem = stem
        self.blocks = nn.Sequential(OrderedDict(blocks))
        self.head = head
        set_batch_norms(self, preset)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)`` of images ``(n, channels, resolution, resolution)``."""
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits

    def units(self) -> list[tuple[str, str]]:
        """Return the units of precision in order: module path and precision."""
        names = ["stem", *(f"blocks.{name}" for name, _ in self.blocks.named_children()), "head"]
        return list(zip(names, self.candidate.precisions, strict=True))


class SqueezeExcite(nn.Module):
    """Scales each channel by what two 1x1 convolutions make of the channels' means (Hu et al., 2018).

    ReLU between them and hard-sigmoid after them, as in MobileNetV3 (Howard et al., 2019).
    """

    def __init__(self, width: int, squeezed: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(width, squeezed, 1)
        self.act = nn.ReLU()
        self.expand = nn.Conv2d(squeezed, width, 1)
        self.gate = nn.Hardsigmoid()

    def forward(self, x: Tensor) -> Tensor:
        """Return ``(n, width, h, w)`` scaled."""
        scale: Tensor = self.gate(self.expand(self.act(self.reduce(self.pool(x)))))
        return x * scale


class ConvBN(nn.Sequential):
    """Convolution, batch norm and, unless ``activation`` is None, the activation, as ``conv``, ``bn``, ``act``.

    A depthwise one may have squeeze-and-excitation after that, as ``se``.
    """

    conv: nn.Conv2d
    bn: nn.BatchNorm2d
    act: nn.Module
    se: SqueezeExcite

    def __init__(
        self, in_width: int, out_width: int, kernel: int, *, stride: int = 1, groups: int = 1, activation: str | None
    ):
        super().__init__()
        self.conv = nn.Conv2d(in_width, out_width, kernel, stride, kernel // 2, groups=groups, bias=False)
        self.bn = nn.BatchNorm2d(out_width)
        if activation is not None:
            self.act = ACTIVATIONS[activation]()


def set_batch_norms(module: nn.Module, preset: Preset) -> None:
    """Give every batch norm the preset's epsilon and momentum."""
    for layer in module.modules():
        if isinstance(layer, nn.BatchNorm2d):
            layer.eps, layer.momentum = preset.bn_eps, preset.bn_momentum


def initialise(module: nn.Module, generator: torch.Generator) -> None:
    """Draw convolutions from He's normal distribution (fan out), the classifier from N(0, 0.01); biases are zero."""
    for layer in module.modules():
        if isinstance(layer, nn.Conv2d):
            fan_out = layer.out_channels * layer.kernel_size[0] * layer.kernel_size[1] // layer.groups
            nn.init.normal_(layer.weight, 0.0, (2.0 / fan_out) ** 0.5, generator=generator)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.Linear):
            nn.init.normal_(layer.weight, 0.0, 0.01, generator=generator)
            nn.init.zeros_(layer.bias)
