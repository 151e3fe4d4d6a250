"""The layers of inverted-residual networks, as plain torch: blocks, and what makes stem and head."""

from torch import Tensor, nn

from search_spaces import BlockPosition, MBConvPreset
from supernets.subnet import ACTIVATIONS, ConvBN, SqueezeExcite


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


def make_stem(preset: MBConvPreset, channels: int) -> ConvBN:
    """Return the first convolution and, where the preset has one, the fixed block after it."""
    stem = ConvBN(channels, preset.stem_width, 3, stride=preset.stem_stride, activation=preset.activation)
    if preset.stem_block_width:
        activation = preset.stem_block_activation or preset.activation
        stem.add_module("block", SeparableBlock(preset.stem_width, preset.stem_block_width, activation=activation))
    return stem


def make_head(preset: MBConvPreset, classes: int) -> ConvBN:
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
