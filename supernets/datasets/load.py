"""From what a person names to its splits: a data set known by name, or a folder of images."""

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
from supernets.datasets.known import DATA_SETS

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
        DataError: The folder is missing, or holds neither a known data set nor class folders of images.
    """
    name, folder = _resolve(data)
    if folder is None or name in DATA_SETS:
        return DataInfo(name, DATA_SETS[name].classes, DATA_SETS[name].channels)
    layout = read_layout(folder)
    return DataInfo(name, layout.classes, natural_channels(layout))


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
        data: The name of a known data set, a folder of its files, or a folder of images with one subfolder a class.
            None is Fashion-MNIST. A path, or a string that is no known name, is a folder.
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
    name, folder = _resolve(data)
    if folder is not None and name not in DATA_SETS:
        return load_folder(folder, name, size, channels, need_train, progress)
    known = DATA_SETS[name]
    if channels < known.channels:
        raise UsageError(f"channels {channels} of {name}, whose images are RGB; allowed: {known.channels}")
    check_memory(known.count if need_train else known.evaluation_count, size, channels, folder or name)
    return _convert(known.load(folder, need_train), size, channels)


def _resolve(data: str | Path | None) -> tuple[str, Path | None]:
    """Return the data's name and folder: a known data set's name, with the folder it is in if one was named.

    A folder of images is called as it is; one with a known data set's name is not that set, as it is split otherwise,
    and its name is written as a path.
    """
    if data is None:
        return fashion.NAME, None
    if isinstance(data, str) and data in DATA_SETS:
        return data, None
    if not is_folder(data):
        names = ", ".join(sorted(DATA_SETS))
        raise DataError(f"data folder {data} is not there; give a folder of images, or a data set's name: {names}")
    folder = Path(data)
    held = [name for name, known in DATA_SETS.items() if known.is_in(folder)]
    if len(held) > 1:
        raise DataError(f"{folder}: holds {' and '.join(held)}; name one, and the folder by $HWNAS_DATA")
    if held:
        return held[0], folder
    name = folder.resolve().name
    return f"./{name}" if name in DATA_SETS else name, folder


def _convert(splits: Splits, size: int, channels: int) -> Splits:
    """Bring images to the size that was asked for, and grey ones to the number of channels."""
    copies = channels // splits.channels

    def convert(part: ImageSet) -> ImageSet:
        images = _resize(part.images, size)
        return ImageSet(images.repeat(1, copies, 1, 1) if copies > 1 else images, part.labels, part.classes)

    return Splits(
        train=None if splits.train is None else convert(splits.train),
        validation=convert(splits.validation),
        calibration=convert(splits.calibration),
        test=convert(splits.test),
        name=splits.name,
        mean=splits.mean * copies,
        std=splits.std * copies,
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
