"""What the processes of a collection share: weights and images, written once, mapped into the memory of each.

A task then is a candidate and the place of these files; no image and no weight is sent with it.
"""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nas.errors import OutputError
from nas.writing import writing
from predictors.measures import GraphAccuracy, TorchAccuracy
from predictors.resized import ResizedImages, map_array, resolutions_within
from supernets import Supernet, get_supernet, save_supernet
from supernets.datasets import ImageSet, Splits
from supernets.evaluation import RECALIBRATION_IMAGES
from supernets.weights import FILE_NAME

RESIZED_LIMIT = 2**30  # bytes of resized images that are kept
PARTS = ("calibration", "validation")


@dataclass(frozen=True)
class SharedAccuracy:
    """A ``GraphAccuracy`` over shared files; on an accelerator a ``TorchAccuracy``.

    Attributes:
        folder: Where they are.
        content: What is in them: two of different content are never equal.
        kept: Resolutions at which images are kept.
        device: A torch device.
    """

    folder: Path
    content: str
    kept: frozenset[int]
    device: str

    def __call__(self) -> GraphAccuracy | TorchAccuracy:
        """Open the files.

        Raises:
            OutputError: This process does not see them.
        """
        if not self.folder.is_dir():
            raise OutputError(
                f"{self.folder} is not seen by a worker; name an --out that every machine of the cluster shares"
            )
        supernet = get_supernet(self.folder / FILE_NAME)
        parts = calibration, validation = [self._images(name, supernet.info.classes) for name in PARTS]
        device = torch.device(self.device)
        if device.type != "cpu":
            return TorchAccuracy(supernet, calibration, validation, device)
        named = zip(PARTS, parts, strict=True)
        return GraphAccuracy(
            supernet, *(ResizedImages(part, supernet.info, self.folder, name, self.kept) for name, part in named)
        )

    def _images(self, name: str, classes: tuple[str, ...]) -> ImageSet:
        images, labels = (map_array(self.folder / f"{name}.{what}.npy") for what in ("images", "labels"))
        return ImageSet(images, labels, classes)


@contextlib.contextmanager
def shared_accuracy(
    folder: Path, content: str, supernet: Supernet, splits: Splits, resolutions: set[int], device: str
) -> Iterator[SharedAccuracy]:
    """Write what measuring needs into ``folder``, which is there during the block only.

    Args:
        folder: What a killed run left in it is removed; one process at a time uses it.
        content: Tells one supernet and its images from another.
        supernet: The supernet.
        splits: Its images; of the calibration images, those that recalibration takes.
        resolutions: At which images will be asked for.
        device: A torch device, on which they will.

    Raises:
        OutputError: The system refuses to write there.
    """
    calibration = splits.calibration.subset(torch.arange(min(len(splits.calibration), RECALIBRATION_IMAGES)))
    count = len(calibration) + len(splits.validation)
    kept = resolutions_within(resolutions, count, splits.channels, RESIZED_LIMIT)
    _remove(folder)
    try:
        with writing(folder):
            folder.mkdir(parents=True)
            save_supernet(supernet, folder / FILE_NAME, {})
            for name, part in zip(PARTS, (calibration, splits.validation), strict=True):
                np.save(folder / f"{name}.images.npy", part.images.numpy())
                np.save(folder / f"{name}.labels.npy", part.labels.numpy())
        yield SharedAccuracy(folder.resolve(), content, kept, device)
    finally:
        _remove(folder)


def _remove(folder: Path) -> None:
    shutil.rmtree(folder, ignore_errors=True)
