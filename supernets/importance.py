"""How important each block of a supernet is, by Gumbel softmax (EfficientFormer's slimming, Li et al., 2022).

The largest network is run with a mixture in the place of each block that may be left out: of the block, of the block
with attention where a space lets it choose, and of the identity, weighted by a softmax over learned numbers and Gumbel
noise. A block is as important as it is more probable than the identity. Departure: the paper trains weights and
mixtures together, from scratch; a supernet of ours is trained already, so its weights stay, and batch norms take the
statistics of the batch.
"""

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from search_spaces import MBConvSpace, MetaformerSpace
from search_spaces.metaformer_parts import ATTENTION
from supernets.datasets import ImageSet
from supernets.evaluation import prepare
from supernets.metaformer_layers import Rows
from supernets.subnet import Subnet
from supernets.supernet import Supernet

RATE = 0.05  # of the softmaxes' numbers, by Adam
TOKENS = ("attention", "token_mlp")  # modules that work on rows of tokens


class Mixed(nn.Module):
    """Several modules of one input and one output shape, and perhaps the identity, as a weighted sum."""

    def __init__(self, kinds: Sequence[nn.Module], optional: bool):
        super().__init__()
        self.kinds, self.optional = nn.ModuleList(kinds), optional
        self.alpha = nn.Parameter(torch.zeros(len(kinds) + optional))

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        """Map a feature map, given noise ``(kinds, or one more)``."""
        outputs = [kind(x) for kind in self.kinds] + ([x] if self.optional else [])
        weights = (self.alpha + noise).softmax(0)
        return torch.stack([weight * output for weight, output in zip(weights, outputs, strict=True)]).sum(0)

    @property
    def importance(self) -> float:
        """The probability of the block, of whatever kind, over that of the identity."""
        p = self.alpha.detach().softmax(0)
        return float(p[:-1].sum() / p[-1])


class OnMaps(nn.Module):
    """A block of a metaformer whose attention works on tokens, from feature map to feature map."""

    def __init__(self, block: nn.Module):
        super().__init__()
        self.block = block

    def forward(self, x: Tensor) -> Tensor:
        """Map ``(n, width, h, w)`` to the shape that the block gives."""
        for name, module in self.block.named_children():
            if name in TOKENS:
                n, width, h, w = x.shape
                rows = module(x.flatten(2).permute(0, 2, 1).reshape(-1, width))
                x = rows.view(n, h * w, width).permute(0, 2, 1).view(n, width, h, w)
            elif not isinstance(module, Rows):
                x = module(x)
        return x


def block_importance(
    supernet: Supernet, images: ImageSet, *, steps: int, batch_size: int, rng: np.random.Generator
) -> dict[str, float]:
    """Return the importance of each block that may be left out, by the name of its part.

    Args:
        supernet: Trained; of inverted residuals or of metaformers. It is left as it is.
        images: Training images.
        steps: How long the mixtures learn.
        batch_size: Images of a step.
        rng: Draws images and noise.
    """
    stem, blocks, head = _mixtures(supernet)
    whole = nn.ModuleList([stem, *blocks.values(), head]).requires_grad_(False)
    mixtures = [block for block in blocks.values() if isinstance(block, Mixed)]
    for module in whole.modules():
        module.train(isinstance(module, nn.BatchNorm2d))
    alphas = [mixture.alpha.requires_grad_() for mixture in mixtures]
    optimizer = torch.optim.Adam(alphas, RATE)
    side = max(supernet.space.resolutions)
    for _ in range(steps):
        drawn = torch.from_numpy(rng.integers(len(images), size=batch_size))
        x = stem(prepare(images.images[drawn], side, supernet.info))
        for block in blocks.values():
            if isinstance(block, Mixed):
                x = block(x, torch.from_numpy(rng.gumbel(size=len(block.alpha))).float())
            else:
                x = block(x)
        optimizer.zero_grad()
        F.cross_entropy(head(x), images.labels[drawn]).backward()
        optimizer.step()
    return {name: block.importance for name, block in blocks.items() if isinstance(block, Mixed) and block.optional}


def _mixtures(supernet: Supernet) -> tuple[nn.Module, dict[str, nn.Module], nn.Module]:
    """Return stem, blocks by name with mixtures among them, and head of the largest network, from map to map."""
    space = supernet.space
    assert isinstance(space, MBConvSpace | MetaformerSpace)
    largest = space.largest(space.precisions[0])
    nets = [supernet.extract(space.candidate(largest))]
    if isinstance(space, MetaformerSpace):
        without = largest.copy()
        without[space.gene_names.index(ATTENTION)] = 0
        nets.insert(0, supernet.extract(space.candidate(space.canonical(without[None])[0])))
    least = [min(stage.depths) for stage in space.preset.stages]
    blocks: dict[str, nn.Module] = {}
    for name, _ in nets[0].blocks.named_children():
        _, stage, index = name.split("_")
        kinds = _kinds(nets, name)
        optional = int(index) >= least[int(stage)]
        blocks[name] = Mixed(kinds, optional) if optional or len(kinds) > 1 else kinds[0]
    return nets[0].stem, blocks, _head_on_maps(nets[0])


def _kinds(nets: Sequence[Subnet], name: str) -> list[nn.Module]:
    """Return the blocks of a name that differ in kind between the networks."""
    found = [net.blocks.get_submodule(name) for net in nets]
    has_attention = [hasattr(block, ATTENTION) for block in found]
    distinct = [block for number, block in enumerate(found) if has_attention[number] not in has_attention[:number]]
    return [OnMaps(block) if hasattr(block, ATTENTION) else block for block in distinct]


def _head_on_maps(net: Subnet) -> nn.Module:
    """Return the head; where it reads tokens, after what makes them."""
    last = list(net.blocks.children())[-1]
    if not hasattr(last, ATTENTION):
        return net.head
    width = net.head.norm.normalized_shape[0]  # type: ignore[union-attr,index]
    return nn.Sequential(Rows(int(width)), net.head)
