"""Image files to bytes: decoded by Pillow in parallel threads, each brought to one square size.

Pillow lets go of the interpreter while it decodes, so threads are enough. The shorter side is resized to the size asked
for and the centre is kept, as ImageNet is evaluated; a photo's EXIF orientation is honoured.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image, ImageOps
from torch import Tensor

from nas.errors import DataError

MEMORY_LIMIT = 8 * 10**9
Progress = Callable[[int, int], None]
_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_UNREADABLE = (OSError, SyntaxError, ValueError, EOFError, RuntimeError, Image.DecompressionBombError)
_MODES = {1: "L", 3: "RGB"}


def check_memory(count: int, size: int, channels: int, source: Path | str) -> None:
    """Refuse a data set that would not reasonably fit in memory.

    Raises:
        DataError: ``count`` images of ``size`` and ``channels`` take more than ``MEMORY_LIMIT`` bytes.
    """
    needed = count * channels * size * size
    if needed > MEMORY_LIMIT:
        raise DataError(
            f"{source}: {count} images of {channels} x {size} x {size} take {needed / 1e9:.1f} GB of memory; "
            f"allowed: {MEMORY_LIMIT / 1e9:g} GB; use fewer images or a smaller resolution"
        )


def decode_images(paths: Sequence[Path], size: int, channels: int, advance: Callable[[], None]) -> Tensor:
    """Decode the files into uint8 ``(n, channels, size, size)``, in their order.

    Args:
        paths: The image files.
        size: Side of the result in pixels.
        channels: 1 for grey, 3 for RGB.
        advance: Called after each image.

    Raises:
        DataError: A file is not a readable image; the message names it.
    """
    images = torch.empty((len(paths), channels, size, size), dtype=torch.uint8)

    def decode(path: Path) -> Tensor:
        return _decode(path, size, channels)

    for index, image in enumerate(in_threads(decode, paths)):
        images[index] = image
        advance()
    return images


def in_threads(work: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Yield ``work(item)`` for every item in order; the first error ends the rest."""
    with ThreadPoolExecutor(max_workers=min(16, os.cpu_count() or 1)) as pool:
        yield from pool.map(work, items)


def is_grey(path: Path) -> bool:
    """Tell whether an image holds no colour, in whatever way it is stored."""
    try:
        with Image.open(path) as image:
            image.draft("RGB", (64, 64))
            if image.mode in ("1", "L", "LA") or image.mode.startswith("I"):
                return True
            pixels = np.asarray(image.convert("RGB"), dtype=np.int16)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return bool(np.ptp(pixels, axis=-1).mean() < 1)


def read_pixels(path: Path) -> NDArray[np.uint8]:
    """Return an image's pixels as they are stored, as RGB: uint8 ``(h, w, 3)``.

    Raises:
        DataError: The file is not a readable image; the message names it.
    """
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert("RGB"))
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error


def _decode(path: Path, size: int, channels: int) -> Tensor:
    mode = _MODES[channels]
    try:
        with Image.open(path) as opened:
            opened.draft(mode, (2 * size, 2 * size))  # JPEG only: decode at a smaller scale, twice the size at least
            image = ImageOps.exif_transpose(opened)
            if image.mode in ("I", "F"):
                raise DataError(f"image {path} has 32 bits a pixel; allowed: 8 or 16 bits a channel; convert it")
            if image.mode.startswith("I;16"):
                image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8))
            square = ImageOps.fit(image.convert(mode), (size, size), Image.Resampling.BILINEAR)
    except _UNREADABLE as error:
        raise _unreadable(path, error) from error
    return torch.from_numpy(np.array(square)).view(size, size, channels).permute(2, 0, 1)


def _unreadable(path: Path, error: BaseException) -> DataError:
    return DataError(f"image {path} cannot be read ({' '.join(str(error).split())}); remove it or replace it")
