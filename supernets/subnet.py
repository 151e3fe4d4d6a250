"""A network cut out of a supernet: plain torch, one static path, nothing elastic left."""

import functools
from collections import OrderedDict
from collections.abc import Callable

import torch
from torch import Tensor, nn

from search_spaces import BlockPosition, BottleneckPreset, Candidate, MBConvSpace, Preset

ACTIVATIONS: dict[str, Callable[[], nn.Module]] = {
    "relu": functools.partial(nn.ReLU, inplace=True),  # what they follow is read by nothing else
    "relu6": functools.partial(nn.ReLU6, inplace=True),
    "hswish": nn.Hardswish,  # its gradient needs its input
}


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


class InvertedResidual(nn.Module):
    """Expand by 1x1, filter depthwise, project by 1x1; adds its input where the shapes allow (Sandler et al., 2018).

    Args:
        position: Says the widths, the stride and the activation.
        kernel: Side of the depthwise kernel.
        middle: Channels of the depthwise convolution.
        squeezed: Channels inside its squeeze-and-excitation; None for none.
    """

    def __init__(self, position: BlockPosition, *, kernel: int, middle: int, squeezed: int | None = None):
        super().__init__()
        act = position.activation
        self.residual = position.residual
        self.expand = ConvBN(position.in_width, middle, 1, activation=act)
        self.depthwise = ConvBN(middle, middle, kernel, stride=position.stride, groups=middle, activation=act)
        if squeezed is not None:
            self.depthwise.se = SqueezeExcite(middle, squeezed)
        self.project = ConvBN(middle, position.out_width, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, in_width, h, w)`` to ``(n, out_width, h / stride, w / stride)``, rounded up."""
        y: Tensor = self.project(self.depthwise(self.expand(x)))
        return x + y if self.residual else y


class SeparableBlock(nn.Module):
    """Filters 3x3 depthwise and projects by 1x1; adds its input where the widths are equal: the fixed first block."""

    def __init__(self, in_width: int, out_width: int, *, activation: str):
        super().__init__()
        self.residual = in_width == out_width
        self.depthwise = ConvBN(in_width, in_width, 3, groups=in_width, activation=activation)
        self.project = ConvBN(in_width, out_width, 1, activation=None)

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, in_width, h, w)`` to ``(n, out_width, h, w)``."""
        y: Tensor = self.project(self.depthwise(x))
        return x + y if self.residual else y


def make_stem(preset: Preset, channels: int) -> ConvBN:
    """Return the first convolution and, where the preset has one, the fixed block after it."""
    stem = ConvBN(channels, preset.stem_width, 3, stride=preset.stem_stride, activation=preset.activation)
    if preset.stem_block_width:
        activation = preset.stem_block_activation or preset.activation
        stem.add_module("block", SeparableBlock(preset.stem_width, preset.stem_block_width, activation=activation))
    return stem


def make_head(preset: Preset, classes: int) -> ConvBN:
    """Return the last 1x1 convolution, the mean over pixels, where there is one the mixing layer, the classifier."""
    head = ConvBN(preset.stages[-1].width, preset.head_width, 1, activation=preset.activation)
    head.add_module("pool", nn.AdaptiveAvgPool2d(1))
    if preset.head_mix_width:
        head.add_module("mix", nn.Conv2d(preset.head_width, preset.head_mix_width, 1, bias=False))
        head.add_module("mix_act", ACTIVATIONS[preset.activation]())
    head.add_module("flatten", nn.Flatten())
    head.add_module("dropout", nn.Dropout(preset.dropout))
    head.add_module("classifier", nn.Linear(preset.head_mix_width or preset.head_width, classes))
    return head


class Subnet(nn.Module):
    """The network of one candidate.

    Units of precision are ``stem``, ``blocks.block_<stage>_<index>`` and ``head``: module paths, and prefixes of the
    node names in the exported graph.

    Raises:
        UsageError: The candidate has a choice that the space lacks.
    """

    def __init__(self, space: MBConvSpace, candidate: Candidate, *, channels: int, classes: int):
        super().__init__()
        space.check(candidate)
        preset = space.preset
        self.candidate = candidate
        self.stem = make_stem(preset, channels)
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for position, block in zip(space.block_positions, candidate.all_blocks(), strict=True):
            if block is not None:
                middle = preset.middle(position.in_width, block.expand, block.keep)
                squeezed = preset.squeezed(middle) if position.se else None
                blocks[position.name] = InvertedResidual(
                    position, kernel=block.kernel, middle=middle, squeezed=squeezed
                )
        self.blocks = nn.Sequential(blocks)
        self.head = make_head(preset, classes)
        set_batch_norms(self, preset)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)`` of images ``(n, channels, resolution, resolution)``."""
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits

    def units(self) -> list[tuple[str, str]]:
        """Return the units of precision in order: module path and precision."""
        names = ["stem", *(f"blocks.{name}" for name, _ in self.blocks.named_children()), "head"]
        return list(zip(names, self.candidate.precisions, strict=True))


def set_batch_norms(module: nn.Module, preset: Preset | BottleneckPreset) -> None:
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
