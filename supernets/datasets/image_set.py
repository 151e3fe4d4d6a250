"""Images in memory: a labelled set of them, and the four disjoint parts that a search needs.

Training images move weights, calibration images set batch-norm statistics and quantization ranges, validation images
choose among networks, test images are touched once, for the report.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from nas.errors import DataError


@dataclass(frozen=True, eq=False)
class ImageSet:
    """Labelled images, held as bytes.

    Attributes:
        images: uint8 ``(n, channels, height, width)``.
        labels: int64 ``(n,)``, each an index into ``classes``.
        classes: The classes' names.
    """

    images: Tensor
    labels: Tensor
    classes: tuple[str, ...]

    def __post_init__(self) -> None:
        if self.images.dtype != torch.uint8 or self.images.ndim != 4:
            raise DataError(f"images are {self.images.dtype} {tuple(self.images.shape)}; allowed: uint8 (n, c, h, w)")
        if self.labels.dtype != torch.int64 or self.labels.shape != self.images.shape[:1]:
            raise DataError(
                f"labels are {self.labels.dtype} {tuple(self.labels.shape)}; allowed: int64 ({len(self.images)},)"
            )
        if len(self.labels):
            low, high = int(self.labels.min()), int(self.labels.max())
            if low < 0 or high >= len(self.classes):
                raise DataError(f"labels are {low} to {high}; allowed: 0 to {len(self.classes) - 1}")

    def __len__(self) -> int:
        return len(self.images)

    def subset(self, indices: Tensor) -> "ImageSet":
        """Return the images at ``indices`` (int64 or bool tensor), in that order."""
        return ImageSet(self.images[indices], self.labels[indices], self.classes)

    def to(self, device: torch.device) -> "ImageSet":
        """Return the images on a device."""
        return ImageSet(self.images.to(device), self.labels.to(device), self.classes)


@dataclass(frozen=True, eq=False)
class Splits:
    """The parts of a data set, disjoint, of one size and one number of channels.

    Attributes:
        train: Images that training may use; None where they were not asked for.
        validation: Images that choose among networks.
        calibration: Images, taken from the training part, for batch-norm statistics and quantization ranges.
        test: Images for the report.
        name: What the data are called in logs and reports.
        mean: Per channel, over training images scaled to [0, 1].
        std: Per channel, likewise.
    """

    train: ImageSet | None
    validation: ImageSet
    calibration: ImageSet
    test: ImageSet
    name: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def classes(self) -> tuple[str, ...]:
        """The classes' names."""
        return self.test.classes

    @property
    def channels(self) -> int:
        """1 for grey images, 3 for RGB."""
        return int(self.test.images.shape[1])
