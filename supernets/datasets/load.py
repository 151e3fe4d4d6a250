"""From a place to its splits: Fashion-MNIST, or a folder of a person's own images."""

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional

from nas.errors import DataError, UsageError
from nas.files import is_folder
from supernets.datasets import fashion
from supernets.datasets.decode import Progress, check_memory
from supernets.datasets.folder import load_folder, natural_channels, read_layout
from supernets.datasets.image_set import ImageSet, Splits

_CHUNK = 1000


@dataclass(frozen=True)
class DataInfo:
    """What a network for these data must have: classes, and channels (1: grey, 3: colour)."""

    name: str
    classes: tuple[str, ...]
    channels: int


def inspect_data(data: str | Path | None = None) -> DataInfo:
    """Tell the classes and the natural number of channels of ``data``, which is as in ``load_splits``.

    Raises:
        DataError: The folder is missing, or holds neither Fashion-MNIST's idx files nor class folders of images.
    """
    folder = _existing(data)
    if folder is None or fashion.has_idx_files(folder):
        return DataInfo(fashion.NAME, fashion.CLASSES, 1)
    layout = read_layout(folder)
    return DataInfo(folder.resolve().name, layout.classes, natural_channels(layout))


def load_splits(
    data: str | Path | None = None,
    *,
    size: int,
    channels: int,
    need_train: bool = False,
    progress: Progress | None = None,
) -> Splits:
    """Load training, validation, calibration and test images.

    Args:
        data: None for Fashion-MNIST, a folder of its idx files, or a folder of images with one subfolder a class.
        size: Side of the images in pixels.
        channels: 1 for grey, 3 for RGB.
        need_train: Whether ``Splits.train`` is wanted.
        progress: Called with (images decoded, images in all) while an image folder is read.

    Raises:
        UsageError: A size or number of channels that cannot be.
        DataError: The images are missing, unreadable or too few.
        FileFormatError: A damaged file.
    """
    if channels not in (1, 3):
        raise UsageError(f"channels {channels}; allowed: 1 (grey) or 3 (RGB)")
    if not 8 <= size <= 1024:
        raise UsageError(f"image size {size}; allowed: 8 to 1024 pixels")
    folder = _existing(data)
    if folder is None or fashion.has_idx_files(folder):
        check_memory(fashion.COUNT if need_train else fashion.SLICE_COUNT, size, channels, folder or fashion.SLICE)
        return _convert(fashion.load_fashion(folder, need_train), size, channels)
    return load_folder(folder, size, channels, need_train, progress)


def _existing(data: str | Path | None) -> Path | None:
    if data is None:
        return None
    if not is_folder(data):
        raise DataError(f"data folder {data} is not there; give a folder of images or of Fashion-MNIST's idx files")
    return Path(data)


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
        for chunk in torch.split(images, _CHUNK)
    ]
    return torch.cat(resized)
