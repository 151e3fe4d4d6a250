"""The supernet of a metaformer space: EfficientFormer's supernet (Li et al., 2022) with every tensor shared.

Every tensor of a subnet is the leading part of the supernet's tensor of the same name. Pooling and convolution share a
block's MLP and have scales of their own; attention has an MLP of its own.

Departures: the paper's supernet chooses between blocks by Gumbel softmax at fixed widths and slims the result; here
depth, width and MLP shrink progressively, as in once-for-all (Cai et al., 2020). The biases of attention at a smaller
resolution are those of the offsets that it has, without interpolation: one pixel apart stays one pixel apart.
"""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import replace

import torch
from torch import Tensor, nn

from search_spaces import Candidate, MetaformerSpace, SearchSpace
from search_spaces.metaformer_parts import ATTENTION
from supernets.metaformer_channels import mlps_of, sort, stream_of
from supernets.metaformer_layers import (
    Rows,
    make_attention_block,
    make_embedding,
    make_head,
    make_local_block,
    make_stem,
)
from supernets.sliced import SlicedSupernet
from supernets.subnet import Subnet, initialise, set_batch_norms
from supernets.supernet import ImageInfo

LINEAR_STD = 0.02  # of the truncated normal distribution that EfficientFormer draws linear layers from


class MetaformerSupernet(SlicedSupernet):
    """Holds the weights of every network of ``space``.

    Args:
        space: The space; its precisions do not matter here.
        info: The images it is for.
        seed: Of the random weights.
    """

    space: MetaformerSpace

    def __init__(self, space: MetaformerSpace, info: ImageInfo, seed: int = 0):
        super().__init__(space, info)
        preset = space.preset
        widths = [preset.stage_out(stage, preset.widths[-1]) for stage in range(len(preset.stages))]
        side = space.feature_size(max(space.resolutions), space.num_blocks)
        self.stem = make_stem(info.channels, widths[0], preset)
        self.blocks, self.attention_blocks = nn.ModuleDict(), nn.ModuleDict()
        for name, stage, index in zip(space.block_names, space.stage_of, space.index_of, strict=True):
            width, hidden = widths[stage], widths[stage] * preset.expands[-1]
            modules = make_local_block(width, hidden, preset.mixers[-1], preset)
            if "pool" in preset.mixers[:-1]:
                modules["mix"].pool_scale = nn.Parameter(torch.full((width,), preset.layer_scale))
            if stage and index == 0:
                modules["embed"] = make_embedding(widths[stage - 1], width, preset.stages[stage].stride)
            self.blocks[name] = nn.ModuleDict(modules)
            if stage == len(preset.stages) - 1 and max(preset.attentions):
                self.attention_blocks[name] = nn.ModuleDict(make_attention_block(width, hidden, side, preset))
        self.head = nn.ModuleDict(make_head(widths[-1], side * side, self.classes, preset.dropout))
        set_batch_norms(self, preset)
        self._initialise(torch.Generator().manual_seed(seed))

    def _initialise(self, generator: torch.Generator) -> None:
        initialise(self, generator)
        for module in self.attention_blocks.modules():
            if isinstance(module, nn.Linear):
                nn.init.trunc_normal_(module.weight, std=LINEAR_STD, generator=generator)

    @staticmethod
    def plain(space: SearchSpace, candidate: Candidate, *, channels: int, classes: int) -> Subnet:
        assert isinstance(space, MetaformerSpace)
        space.check(candidate)
        preset = space.preset
        widths = [preset.stage_out(stage, multiplier) for stage, multiplier in enumerate(candidate.widths)]
        side = space.feature_size(candidate.resolution, space.num_blocks)
        blocks: dict[str, nn.Module] = {}
        flat = False
        positions = zip(space.block_names, space.stage_of, space.index_of, candidate.all_blocks(), strict=True)
        for name, stage, index, block in positions:
            if block is None:
                continue
            width, modules = widths[stage], OrderedDict[str, nn.Module]()
            if stage and index == 0:
                modules["embed"] = make_embedding(widths[stage - 1], width, preset.stages[stage].stride)
            if block.mixer == ATTENTION:
                if not flat:
                    modules["rows"] = Rows(width)
                flat = True
                modules |= make_attention_block(width, width * block.expand, side, preset)
            else:
                modules |= make_local_block(width, width * block.expand, block.mixer, preset)
            blocks[name] = nn.Sequential(modules)
        head = make_head(widths[-1], side * side, classes, preset.dropout)
        if not flat:
            head = OrderedDict(rows=Rows(widths[-1]), **head)
        stem = make_stem(channels, widths[0], preset)
        return Subnet(preset, candidate, stem=stem, blocks=blocks, head=nn.Sequential(head))

    def holders(self) -> Mapping[str, Tensor]:
        own = {**dict(self.named_parameters()), **dict(self.named_buffers())}
        return {name.replace("attention_blocks.", "blocks."): tensor for name, tensor in own.items()}

    @torch.no_grad()
    def resized(self, subnet: Subnet, resolution: int) -> Subnet:
        return self.cut(replace(subnet.candidate, resolution=resolution), subnet.state_dict())

    @torch.no_grad()
    def sort_channels(self, trained: SearchSpace) -> None:
        """Order the channels of every stage and MLP by importance.

        Departure: those inside the stem and the heads of attention are not sorted.
        """
        assert isinstance(trained, MetaformerSpace)
        own, preset = self.holders(), trained.preset
        for stage in range(len(preset.stages)):
            widths = sorted({preset.stage_out(stage, width) for width in preset.widths})
            hidden = sorted({width * expand for width in widths for expand in preset.expands})
            for mlp in mlps_of(own, stage):
                sort(own, mlp, hidden)
            sort(own, stream_of(own, stage, len(preset.stages)), widths)
