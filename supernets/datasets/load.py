"""From a place to its splits: Fashion-MNIST, or a folder of a person's own images."""

from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from nas.errors import DataError, UsageError
from supernets.datasets.fashion import find_full_set, load_fashion
from supernets.datasets.image_set import ImageSet, Splits

_CHUNK = 1000


def load_splits(
    data: str | Path | None = None, *, size: int, channels: int, need_train: bool = False
) -> Splits:
    """Load training, validation, calibration and test images.

    Args:
        data: None for Fashion-MNIST; a folder of Fashion-MNIST's idx files; or a folder of images, one subfolder a class.
        size: Side of the images in pixels.
        channels: 1 for grey, 3 for RGB.
        need_train: Whether ``Splits.train`` is wanted.

    Raises:
        UsageError: A size or number of channels that cannot be.
        DataError: The images are missing, unreadable or too few.
        FileFormatError: A damaged file.
    """
    if channels not in (1, 3):
        raise UsageError(f"channels {channels}; allowed: 1 (grey) or 3 (RGB)")
    if not 8 <= size <= 1024:
        raise UsageError(f"image size {size}; allowed: 8 to 1024 pixels")
    folder = None if data is None else _existing(Path(data))
    if folder is None or find_full_set(folder) is not None:
        return _convert(load_fashion(folder, need_train), size, channels)
    raise DataError(f"{folder}: no images there")


def _existing(folder: Path) -> Path:
    if not folder.is_dir():
        raise DataError(f"data folder {folder} is not there; give a folder of images or of Fashion-MNIST's idx files")
    return folder


def _convert(splits: Splits, size: int, channels: int) -> Splits:
    """Bring grey images to the size and number of channels that were asked for."""

    def convert(part: ImageSet) -> ImageSet:
        images = _resize(part.images, size)
        return ImageSet(images.repeat(1, channels, 1, 1) if channels > 1 else images, part.labels, part.classes)

    return Splits(
        train=None if splits.train is None else convert(splits.train),
        validation=convert(splits.validation),
        calibration=convert(splits.calibration),
        test=convert(splits.test),
        name=splits.name,
        mean=splits.mean * channels,
        std=splits.std * channels,
    )


def _resize(images: Tensor, size: int) -> Tensor:
    if images.shape[-1] == size:
        return images
    resized = [
        functional.interpolate(chunk.float(), (size, size), mode="bilinear", align_corners=False, antialias=True)
        .round_()
        .clamp_(0, 255)
        .to(torch.uint8)
        for chunk in images.split(_CHUNK)
    ]
    return torch.cat(resized)
