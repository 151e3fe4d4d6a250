"""The supernet of a bottleneck space, and its networks as plain torch: once-for-all's ResNet50 (Cai et al., 2020).

Every tensor of a subnet is the leading part of the supernet's tensor of the same name. So the supernet is its largest
network; a candidate is run as the plain network of its shape on views of the supernet's tensors, and cut out by copying
them. There is no other elastic code.
"""

from collections import OrderedDict

import torch
from torch import Tensor, nn
from torch.func import functional_call

from search_spaces import Candidate
from search_spaces.bottleneck import BottleneckSpace
from supernets.subnet import ConvBN, initialise, set_batch_norms
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


class BottleneckNet(nn.Module):
    """The network of one candidate."""

    def __init__(self, space: BottleneckSpace, candidate: Candidate, *, channels: int, classes: int):
        super().__init__()
        preset = space.preset
        self.candidate = candidate
        inside, width = preset.stem_inside(candidate.widths[0]), preset.stem_out(candidate.widths[1])
        stem: OrderedDict[str, nn.Module] = OrderedDict(first=ConvBN(channels, inside, 3, stride=2, activation="relu"))
        if candidate.stem_depth:
            stem["optional"] = ResidualConv(inside)
        stem["last"] = ConvBN(inside, width, 3, activation="relu")
        stem["pool"] = nn.MaxPool2d(3, stride=2, padding=1)
        self.stem = nn.Sequential(stem)
        blocks: OrderedDict[str, nn.Module] = OrderedDict()
        for number, (entries, multiplier) in enumerate(zip(candidate.blocks, candidate.widths[2:], strict=True)):
            out = preset.stage_out(number, multiplier)
            for index, block in enumerate(entries):
                if block is not None:
                    stride = preset.stages[number].stride if index == 0 else 1
                    middle = preset.middle(out, block.keep)
                    first = index == 0
                    blocks[f"block_{number}_{index}"] = Bottleneck(width, middle, out, stride=stride, first=first)
                    width = out
        self.blocks = nn.Sequential(blocks)
        self.head = nn.Sequential(
            OrderedDict(
                pool=nn.AdaptiveAvgPool2d(1),
                flatten=nn.Flatten(),
                dropout=nn.Dropout(preset.dropout),
                classifier=nn.Linear(width, classes),
            )
        )
        set_batch_norms(self, preset)

    def forward(self, x: Tensor) -> Tensor:
        """Return logits ``(n, classes)`` of images ``(n, channels, resolution, resolution)``."""
        logits: Tensor = self.head(self.blocks(self.stem(x)))
        return logits


class BottleneckSupernet(nn.Module):
    """Holds the weights of every network of ``space``.

    Args:
        space: The space.
        info: The images it is for.
        seed: Of the random weights.
    """

    def __init__(self, space: BottleneckSpace, info: ImageInfo, seed: int = 0):
        super().__init__()
        self.space = space
        self.info = info
        largest = space.candidate((space.cardinalities - 1).astype("int8"))
        self.largest = BottleneckNet(space, largest, channels=info.channels, classes=len(info.classes))
        initialise(self, torch.Generator().manual_seed(seed))

    def forward(self, x: Tensor, candidate: Candidate) -> Tensor:
        """Return the candidate's logits ``(n, classes)`` for preprocessed images ``(n, channels, h, w)``.

        Raises:
            UsageError: The candidate has a choice that the space lacks.
        """
        shape = self._shape(candidate)
        logits: Tensor = functional_call(shape.train(self.training), self._leading(shape), (x,))
        return logits

    @torch.no_grad()
    def extract(self, candidate: Candidate) -> BottleneckNet:
        """Return the candidate as plain torch with copies of its weights, in evaluation mode, on the same device.

        Raises:
            UsageError: The candidate has a choice that the space lacks.
        """
        subnet = self._shape(candidate)
        copies = {name: tensor.clone() for name, tensor in self._leading(subnet).items()}
        subnet.load_state_dict(copies, assign=True)
        return subnet.eval()

    def _shape(self, candidate: Candidate) -> BottleneckNet:
        """Return the candidate's network without memory for its tensors."""
        self.space.check(candidate)
        with torch.device("meta"):
            return BottleneckNet(self.space, candidate, channels=self.info.channels, classes=len(self.info.classes))

    def _leading(self, subnet: BottleneckNet) -> dict[str, Tensor]:
        """Return the leading part of each of our tensors, as large as the subnet's of that name."""
        own = {**dict(self.largest.named_parameters()), **dict(self.largest.named_buffers())}
        return {
            name: own[name][tuple(slice(size) for size in tensor.shape)] for name, tensor in subnet.state_dict().items()
        }
