"""What every supernet offers: all subnets of a space in one module, run in place or cut out as plain torch.

There is no active subnet: the candidate is an argument. ``extract`` cuts it out with the same logits. Precisions do not
matter here: a supernet computes in floating point.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from torch import Tensor, nn

from search_spaces import Candidate, SearchSpace
from supernets.subnet import Subnet


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


class Supernet(nn.Module, ABC):
    """Holds the weights of every subnet of ``space``; ``make_supernet`` builds that of a space's family.

    Args:
        space: The space; its precisions do not matter here.
        info: The images it is for.
    """

    def __init__(self, space: SearchSpace, info: ImageInfo):
        super().__init__()
        self.space = space
        self.info = info

    @property
    def channels(self) -> int:
        """Channels of the images: 1 or 3."""
        return self.info.channels

    @property
    def classes(self) -> int:
        """Number of classes."""
        return len(self.info.classes)

    @staticmethod
    @abstractmethod
    def plain(space: SearchSpace, candidate: Candidate, *, channels: int, classes: int) -> Subnet:
        """Return a candidate's network as plain torch, its weights as torch initialises them.

        Raises:
            UsageError: The candidate has a choice that the space lacks.
        """

    @abstractmethod
    def forward(self, x: Tensor, candidate: Candidate) -> Tensor:
        """Return the candidate's logits ``(n, classes)`` for preprocessed images ``(n, channels, h, w)``.

        In evaluation mode the batch norms use the supernet's own statistics: for accuracy, ``extract`` and recalibrate.

        Raises:
            UsageError: The candidate has a choice that the space lacks.
        """

    @abstractmethod
    def extract(self, candidate: Candidate) -> Subnet:
        """Return the candidate as plain torch with copies of its weights, in evaluation mode, on the same device.

        Raises:
            UsageError: The candidate has a choice that the space lacks.
        """

    def resized(self, subnet: Subnet, resolution: int) -> Subnet:
        """Return a subnet, with its weights as they are, for images of a smaller side; by default it takes any side."""
        return subnet

    @abstractmethod
    def sort_channels(self, trained: SearchSpace) -> None:
        """Order channels by importance, the largest first, so that narrower subnets keep the important ones.

        Channels never cross a width that ``trained``, a restriction of the space, holds: its networks stay the same.
        """
