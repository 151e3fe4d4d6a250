"""The supernet of a factorised space, and its networks as plain torch.

Every tensor of a subnet is the leading part of the supernet's tensor of the same name. Each stage has the layers of
every kind and kernel side by side, with weights of their own; widths, inside channels and numbers of layers share them.
"""

from collections.abc import Iterable, Mapping
from itertools import product

import torch
from torch import Tensor, nn

from search_spaces import Candidate, FactorisedSpace, SearchSpace
from supernets.bottleneck import make_head
from supernets.channel_order import sort_tensor
from supernets.factorised_layers import CrossStage, Layer, ResidualLayer, make_stage
from supernets.mbconv_layers import InvertedResidual
from supernets.sliced import SlicedSupernet
from supernets.subnet import ConvBN, SqueezeExcite, Subnet, initialise, set_batch_norms
from supernets.supernet import ImageInfo


class FactorisedSupernet(SlicedSupernet):
    """Holds the weights of every network of ``space``.

    Args:
        space: The space; its precisions do not matter here.
        info: The images it is for.
        seed: Of the random weights.
    """

    space: FactorisedSpace

    def __init__(self, space: FactorisedSpace, info: ImageInfo, seed: int = 0):
        super().__init__(space, info)
        preset = space.preset
        self.stem = _stem(space, info.channels)
        self.blocks = nn.ModuleDict()
        width = preset.stem_width
        for stage, name in enumerate(space.block_names):
            out = preset.stage_out(stage, preset.widths[-1])
            shape = {"in_width": width, "middle": preset.middle(out, preset.keeps[-1]), "out_width": out}
            layers: dict[str, nn.Module] = {}
            for kind, kernel in product(preset.kinds, preset.kernels):
                layers |= make_stage(preset, stage, kind=kind, kernel=kernel, layers=preset.layers[-1], **shape)
            self.blocks[name], width = nn.ModuleDict(layers), out
        self.head = make_head(preset, width, self.classes)
        set_batch_norms(self, preset)
        initialise(self, torch.Generator().manual_seed(seed))

    @staticmethod
    def plain(space: SearchSpace, candidate: Candidate, *, channels: int, classes: int) -> Subnet:
        assert isinstance(space, FactorisedSpace)
        space.check(candidate)
        preset, width = space.preset, space.preset.stem_width
        blocks = {}
        chosen = zip(space.block_names, candidate.widths, candidate.active_blocks(), strict=True)
        for stage, (name, multiplier, block) in enumerate(chosen):
            out = preset.stage_out(stage, multiplier)
            layers = make_stage(
                preset, stage, kind=block.mixer, kernel=block.kernel, in_width=width,
                middle=preset.middle(out, block.keep), out_width=out, layers=block.layers,
            )  # fmt: skip
            blocks[name], width = nn.Sequential(layers), out
        head = make_head(preset, width, classes)
        return Subnet(preset, candidate, stem=_stem(space, channels), blocks=blocks, head=head)

    def holders(self) -> Mapping[str, Tensor]:
        return {**dict(self.named_parameters()), **dict(self.named_buffers())}

    def sort_channels(self, trained: SearchSpace) -> None:
        assert isinstance(trained, FactorisedSpace)
        preset, names = trained.preset, self.space.block_names
        for stage, name in enumerate(names):
            outs = [preset.stage_out(stage, width) for width in preset.widths]
            middles = [preset.middle(out, keep) for out in outs for keep in preset.keeps]
            layers = self._layers(name)
            for layer in layers.values():
                _sort_inside(layer, outs, middles)
            later = [layer for key, layer in layers.items() if not _begins(key)]
            if stage + 1 < len(names):
                later += [layer for key, layer in self._layers(names[stage + 1]).items() if _begins(key)]
            readers: list[nn.Conv2d | nn.Linear] = [_first(layer).conv for layer in later]
            if stage + 1 == len(names):
                readers.append(self._classifier)
            sort_tensor([last for layer in layers.values() for last in _last(layer)], readers, outs)

    def _layers(self, name: str) -> dict[str, Layer]:
        """Return the layers of a stage, of every kind and kernel."""
        stage = self.blocks[name]
        assert isinstance(stage, nn.ModuleDict)
        return {key: layer for key, layer in stage.items() if isinstance(layer, Layer)}

    @property
    def _classifier(self) -> nn.Linear:
        classifier = self.head.get_submodule("classifier")
        assert isinstance(classifier, nn.Linear)
        return classifier


def _stem(space: FactorisedSpace, channels: int) -> ConvBN:
    """Return the first convolution."""
    preset = space.preset
    return ConvBN(channels, preset.stem_width, 3, stride=preset.stem_stride, activation=preset.activation)


def _begins(key: str) -> bool:
    """Return whether a layer of that name reads what enters its stage."""
    return not key.rpartition("_")[2].isdigit() or key.endswith("_0")


def _first(layer: Layer) -> ConvBN:
    """Return the convolution that reads a layer's input."""
    if isinstance(layer, InvertedResidual):
        return layer.expand
    return layer.down if isinstance(layer, CrossStage) else layer.reduce


def _last(layer: Layer) -> list[ConvBN]:
    """Return the convolutions that write a layer's output."""
    if isinstance(layer, InvertedResidual):
        return [layer.project]
    return [layer.join, layer.join_aside] if isinstance(layer, CrossStage) else [layer.spatial]


def _sort_inside(layer: Layer, outs: Iterable[int], middles: Iterable[int]) -> None:
    """Sort the channels inside a layer, whose trained widths are given."""
    if isinstance(layer, InvertedResidual):
        order = sort_tensor([layer.expand, layer.depthwise], [layer.project.conv], middles)
        if hasattr(layer.depthwise, "se"):
            _sort_squeeze(layer.depthwise.se, order)
    elif isinstance(layer, ResidualLayer):
        sort_tensor([layer.reduce], [layer.spatial.conv], middles)
    else:
        inner = [one for one in layer.layers if isinstance(one, ResidualLayer)]
        halves = [out // 2 for out in outs]
        for one in inner:
            sort_tensor([one.reduce], [one.spatial.conv], middles)
        sort_tensor([layer.down], [layer.aside.conv, layer.main.conv], outs)
        sort_tensor([layer.aside], [layer.join_aside.conv], halves)
        readers = [*(one.reduce.conv for one in inner), layer.join.conv]
        sort_tensor([layer.main, *(one.spatial for one in inner)], readers, halves)


@torch.no_grad()
def _sort_squeeze(se: SqueezeExcite, order: Tensor) -> None:
    """Give a squeeze-and-excitation the order of the channels that it scales; those inside it stay as they are."""
    se.reduce.weight.copy_(se.reduce.weight[:, order])
    assert se.expand.bias is not None
    se.expand.weight.copy_(se.expand.weight[order])
    se.expand.bias.copy_(se.expand.bias[order])
