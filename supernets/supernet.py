"""The supernet of an inverted-residual space: every subnet's weights in one module (Once-for-all, Cai et al., 2020).

There is no active subnet: the candidate is an argument. ``extract`` cuts it out as plain torch with the same logits.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from search_spaces import Block, BlockPosition, Candidate, MBConvSpace
from supernets.elastic import ElasticBlock
from supernets.subnet import Subnet, initialise, make_head, make_stem, set_batch_norms


@dataclass(frozen=True)
class ImageInfo:
    """What a supernet was trained on: class names, and the mean and deviation of each channel of images in [0, 1]."""

    dataset: str
    classes: tuple[str, ...]
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def channels(self) -> int:
        """Channels of the images: 1 (grey) or 3 (RGB)."""
        return len(self.mean)


class Supernet(nn.Module):
    """Holds the weights of every subnet of ``space``.

    Args:
        space: The space; its precisions do not matter here.
        info: The images it is for.
        seed: Of the random weights.
    """

    def __init__(self, space: MBConvSpace, info: ImageInfo, seed: int = 0):
        super().__init__()
        preset = space.preset
        self.space = space
        self.info = info
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

    @property
    def channels(self) -> int:
        """Channels of the images: 1 or 3."""
        return self.info.channels

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.info.classes)

    def forward(self, x: Tensor, candidate: Candidate) -> Tensor:
        """Return the candidate's logits ``(n, classes)`` for preprocessed images ``(n, channels, h, w)``.

        In evaluation mode the batch norms use the supernet's own statistics: for accuracy, ``extract`` and recalibrate.

        Raises:
            UsageError: The candidate has a choice that the space lacks.
        """
        x = self.stem(x)
        for name, position, block in self._chosen(candidate):
            elastic: ElasticBlock = self.blocks[name]  # type: ignore[assignment]
            x = elastic.forward_choice(x, block.kernel, self.middle(position, block))
        logits: Tensor = self.head(x)
        return logits

    @torch.no_grad()
    def extract(self, candidate: Candidate) -> Subnet:
        """Return the candidate as plain torch with copies of its weights, in evaluation mode, on the same device.

        Raises:
            UsageError: The candidate has a choice that the space lacks.
        """
        with torch.random.fork_rng(devices=[]):  # its random weights are all replaced: nobody's draws change by them
            subnet = Subnet(self.space, candidate, channels=self.channels, classes=self.classes)
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

    def sort_channels(self, trained: MBConvSpace) -> None:
        """Sort every block's middle channels by importance within the bounds of the widths that ``trained`` holds."""
        for number, name in enumerate(self.blocks):
            elastic: ElasticBlock = self.blocks[name]  # type: ignore[assignment]
            elastic.sort_channels(sorted({choice.middle for choice in trained.block_choices(number)}))

    def _chosen(self, candidate: Candidate) -> Iterable[tuple[str, BlockPosition, Block]]:
        self.space.check(candidate)
        for name, position, block in zip(self.blocks, self.space.block_positions, candidate.all_blocks(), strict=True):
            if block is not None:
                yield name, position, block
