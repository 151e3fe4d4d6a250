"""The supernet of an inverted-residual space: every subnet's weights in one module (Once-for-all, Cai et al., 2020).

There is no active subnet: the candidate is an argument. ``extract`` cuts it out as plain torch with the same logits.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from search_spaces import Block, BlockPosition, Candidate, MBConvSpace, SearchSpace
from supernets.elastic import ElasticBlock
from supernets.mbconv_layers import InvertedResidual, make_head, make_stem
from supernets.subnet import Subnet, initialise, set_batch_norms
from supernets.supernet import ImageInfo, Supernet


class MBConvSupernet(Supernet):
    """Holds the weights of every subnet of ``space``.

    Args:
        space: The space; its precisions do not matter here.
        info: The images it is for.
        seed: Of the random weights.
    """

    space: MBConvSpace

    def __init__(self, space: MBConvSpace, info: ImageInfo, seed: int = 0):
        super().__init__(space, info)
        preset = space.preset
        self.stem = make_stem(preset, info.channels)
        self.blocks = nn.ModuleDict(
            {
                position.name: ElasticBlock(
                    position, preset, max(choice.middle for choice in space.block_choices(number))
                )
                for number, position in enumerate(space.block_positions)
            }
        )
        self.head = make_head(preset, self.classes)
        set_batch_norms(self, preset)
        initialise(self, torch.Generator().manual_seed(seed))

    def forward(self, x: Tensor, candidate: Candidate) -> Tensor:
        x = self.stem(x)
        for name, position, block in self._chosen(candidate):
            elastic: ElasticBlock = self.blocks[name]  # type: ignore[assignment]
            x = elastic.forward_choice(x, block.kernel, self.middle(position, block))
        logits: Tensor = self.head(x)
        return logits

    @staticmethod
    def plain(space: SearchSpace, candidate: Candidate, *, channels: int, classes: int) -> Subnet:
        assert isinstance(space, MBConvSpace)
        space.check(candidate)
        preset = space.preset
        blocks = {}
        for position, block in zip(space.block_positions, candidate.all_blocks(), strict=True):
            if block is not None:
                middle = preset.middle(position.in_width, block.expand, block.keep)
                squeezed = preset.squeezed(middle) if position.se else None
                blocks[position.name] = InvertedResidual(
                    position, kernel=block.kernel, middle=middle, squeezed=squeezed
                )
        stem, head = make_stem(preset, channels), make_head(preset, classes)
        return Subnet(preset, candidate, stem=stem, blocks=blocks, head=head)

    @torch.no_grad()
    def extract(self, candidate: Candidate) -> Subnet:
        with torch.random.fork_rng(devices=[]):  # its random weights are all replaced: nobody's draws change by them
            subnet = self.plain(self.space, candidate, channels=self.channels, classes=self.classes)
        subnet.to(next(self.parameters()).device)
        subnet.stem.load_state_dict(self.stem.state_dict())
        subnet.head.load_state_dict(self.head.state_dict())
        for name, position, block in self._chosen(candidate):
            elastic: ElasticBlock = self.blocks[name]  # type: ignore[assignment]
            elastic.fill(subnet.blocks.get_submodule(name), block.kernel, self.middle(position, block))  # type: ignore[arg-type]
        return subnet.eval()

    def middle(self, position: BlockPosition, block: Block) -> int:
        """Return the middle channels of ``block`` at ``position``."""
        return self.space.preset.middle(position.in_width, block.expand, block.keep)

    def sort_channels(self, trained: SearchSpace) -> None:
        assert isinstance(trained, MBConvSpace)
        for number, name in enumerate(self.blocks):
            elastic: ElasticBlock = self.blocks[name]  # type: ignore[assignment]
            elastic.sort_channels(sorted({choice.middle for choice in trained.block_choices(number)}))

    def _chosen(self, candidate: Candidate) -> Iterable[tuple[str, BlockPosition, Block]]:
        self.space.check(candidate)
        for name, position, block in zip(self.blocks, self.space.block_positions, candidate.all_blocks(), strict=True):
            if block is not None:
                yield name, position, block
