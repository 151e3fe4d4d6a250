"""The supernet of a bottleneck space, and its networks as plain torch: once-for-all's ResNet50 (Cai et al., 2020).

Every tensor of a subnet is the leading part of the supernet's tensor of the same name; so the supernet is its largest
network.

Channels are sorted inside the blocks, as once-for-all does, and likewise the tensors that run along a stage, which all
of its blocks write: their importance is what every block, stage or classifier reads of them.
"""

from collections import OrderedDict
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from search_spaces import BottleneckPreset, BottleneckSpace, Candidate, Preset, SearchSpace
from supernets.channel_order import sort_tensor
from supernets.sliced import SlicedSupernet
from supernets.subnet import ConvBN, Subnet, initialise
from supernets.supernet import ImageInfo


class ResidualConv(nn.Module):
    """A 3x3 convolution that adds its input: the optional one of the stem."""

    def __init__(self, width: int):
        super().__init__()
        self.layer = ConvBN(width, width, 3, activation="relu")

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, width, h, w)`` to the same shape."""
        y: Tensor = self.layer(x)
        return x + y


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside a shortcut (He et al., 2016).

    A block that begins a stage has a shortcut of its own: the mean over ``stride`` x ``stride`` pixels, then a 1x1
    convolution (He et al., 2019, ResNet-D).
    """

    def __init__(self, in_width: int, middle: int, out_width: int, *, stride: int, first: bool):
        super().__init__()
        self.reduce = ConvBN(in_width, middle, 1, activation="relu")
        self.spatial = ConvBN(middle, middle, 3, stride=stride, activation="relu")
        self.widen = ConvBN(middle, out_width, 1, activation=None)
        self.pool = nn.AvgPool2d(stride, stride, ceil_mode=True) if stride > 1 else nn.Identity()
        self.shortcut = ConvBN(in_width, out_width, 1, activation=None) if first else nn.Identity()
        self.act = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, in_width, h, w)`` to ``(n, out_width, h / stride, w / stride)``, rounded up."""
        y: Tensor = self.act(self.widen(self.spatial(self.reduce(x))) + self.shortcut(self.pool(x)))
        return y


class BottleneckStem(nn.Sequential):
    """The stem: convolutions, one of them optional, then the largest of each 3x3 pixels."""

    first: ConvBN
    optional: ResidualConv
    last: ConvBN

    def __init__(self, preset: BottleneckPreset, candidate: Candidate, channels: int):
        super().__init__()
        inside, width = preset.stem_inside(candidate.widths[0]), preset.stem_out(candidate.widths[1])
        self.first = ConvBN(channels, inside, 3, stride=2, activation="relu")
        if candidate.stem_depth:
            self.optional = ResidualConv(inside)
        self.last = ConvBN(inside, width, 3, activation="relu")
        self.pool = nn.MaxPool2d(3, stride=2, padding=1)


def make_head(preset: Preset, width: int, classes: int) -> nn.Sequential:
    """Return the mean over pixels and the classifier."""
    parts: OrderedDict[str, nn.Module] = OrderedDict(pool=nn.AdaptiveAvgPool2d(1), flatten=nn.Flatten())
    parts |= {"dropout": nn.Dropout(preset.dropout), "classifier": nn.Linear(width, classes)}
    return nn.Sequential(parts)


class BottleneckSupernet(SlicedSupernet):
    """Holds the weights of every network of ``space``.

    Args:
        space: The space; its precisions do not matter here.
        info: The images it is for.
        seed: Of the random weights.
    """

    space: BottleneckSpace

    def __init__(self, space: BottleneckSpace, info: ImageInfo, seed: int = 0):
        super().__init__(space, info)
        largest = space.candidate(space.largest(space.precisions[0]))
        self.largest = self.plain(space, largest, channels=self.channels, classes=self.classes)
        initialise(self, torch.Generator().manual_seed(seed))

    @staticmethod
    def plain(space: SearchSpace, candidate: Candidate, *, channels: int, classes: int) -> Subnet:
        assert isinstance(space, BottleneckSpace)
        space.check(candidate)
        preset, width = space.preset, space.preset.stem_out(candidate.widths[1])
        blocks = {}
        for number, (entries, multiplier) in enumerate(zip(candidate.blocks, candidate.widths[2:], strict=True)):
            out, stride = preset.stage_out(number, multiplier), preset.stages[number].stride
            for index, block in enumerate(entries):
                if block is not None:
                    blocks[f"block_{number}_{index}"] = Bottleneck(
                        width, preset.middle(out, block.keep), out, stride=1 if index else stride, first=index == 0
                    )
                    width = out
        stem, head = BottleneckStem(preset, candidate, channels), make_head(preset, width, classes)
        return Subnet(preset, candidate, stem=stem, blocks=blocks, head=head)

    def holders(self) -> Mapping[str, Tensor]:
        return {**dict(self.largest.named_parameters()), **dict(self.largest.named_buffers())}

    def sort_channels(self, trained: SearchSpace) -> None:
        assert isinstance(trained, BottleneckSpace)
        preset, stem = trained.preset, self.largest.stem
        assert isinstance(stem, BottleneckStem)
        blocks = [self._blocks(number) for number in range(len(preset.stages))]
        inside = [preset.stem_inside(width) for width in preset.widths]
        sort_tensor([stem.first, stem.optional.layer], [stem.optional.layer.conv, stem.last.conv], inside)
        sort_tensor([stem.last], _readers(blocks[0]), [preset.stem_out(width) for width in preset.widths])
        for number, stage in enumerate(blocks):
            outs = [preset.stage_out(number, width) for width in preset.widths]
            middles = [preset.middle(out, keep) for out in outs for keep in preset.keeps]
            for block in stage:
                sort_tensor([block.reduce], [block.spatial.conv], middles)
                sort_tensor([block.spatial], [block.widen.conv], middles)
            after = _readers(blocks[number + 1]) if number + 1 < len(blocks) else [self._classifier]
            readers = [*(block.reduce.conv for block in stage[1:]), *after]
            sort_tensor([_shortcut(stage), *(block.widen for block in stage)], readers, outs)

    def _blocks(self, stage: int) -> list[Bottleneck]:
        """Return the blocks of a stage."""
        found = self.largest.blocks.named_children()
        names = f"block_{stage}_"
        return [block for name, block in found if name.startswith(names) and isinstance(block, Bottleneck)]

    @property
    def _classifier(self) -> nn.Linear:
        classifier = self.largest.head.get_submodule("classifier")
        assert isinstance(classifier, nn.Linear)
        return classifier


def _readers(stage: list[Bottleneck]) -> list[nn.Conv2d | nn.Linear]:
    """Return the layers of a stage that read what enters it."""
    return [stage[0].reduce.conv, _shortcut(stage).conv]


def _shortcut(stage: list[Bottleneck]) -> ConvBN:
    """Return the shortcut of the block that begins a stage."""
    shortcut = stage[0].shortcut
    assert isinstance(shortcut, ConvBN)
    return shortcut
