"""Images at every resolution that networks ask for, each resized once, in files that all processes map.

What is mapped lies in memory once, however many processes read it, and the system may drop it when memory is short.
"""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.lib.format import open_memmap
from torch import Tensor

from nas.writing import atomic_path
from supernets import ImageInfo, prepare
from supernets.datasets import ImageSet

CHUNK = 512  # images at a time


class ResizedImages:
    """Images as networks take them.

    Args:
        images: The images.
        info: How they are normalised.
        folder: Where resized images are kept.
        name: Of them there.
        kept: The resolutions that are kept; others are resized each time, some images at a time.
    """

    def __init__(self, images: ImageSet, info: ImageInfo, folder: Path, name: str, kept: frozenset[int]):
        self.images, self.info, self.folder, self.name, self.kept = images, info, folder, name, kept
        self._mapped: dict[int, Tensor] = {}

    def at(self, resolution: int) -> Iterator[Tensor]:
        """Yield the images at a resolution, float32 ``(n, channels, resolution, resolution)`` at a time."""
        if resolution not in self.kept:
            yield from (prepare(chunk, resolution, self.info) for chunk in self.images.images.split(CHUNK))
            return
        if resolution not in self._mapped:
            self._mapped[resolution] = self._map(resolution)
        yield from self._mapped[resolution].split(CHUNK)

    def _map(self, resolution: int) -> Tensor:
        """Map the file of a resolution, made if no process has made it yet."""
        path = self.folder / f"{self.name}-{resolution}.npy"
        if not path.exists():
            shape = (len(self.images), self.info.channels, resolution, resolution)
            with atomic_path(path) as temporary:
                file = open_memmap(temporary, mode="w+", dtype=np.float32, shape=shape)
                for start in range(0, len(self.images), CHUNK):
                    part = self.images.images[start : start + CHUNK]
                    file[start : start + CHUNK] = prepare(part, resolution, self.info).numpy()
                file.flush()
        return map_array(path)


def map_array(path: Path) -> Tensor:
    """Map an array that numpy wrote; its pages are shared, and what a process writes to them is its own."""
    return torch.from_numpy(np.load(path, mmap_mode="c", allow_pickle=False))


def resolutions_within(resolutions: set[int], count: int, channels: int, limit: int) -> frozenset[int]:
    """Return those of the ``resolutions``, the smallest first, at which ``count`` images fit into ``limit`` bytes."""
    kept, size = set(), 0
    for resolution in sorted(resolutions):
        size += 4 * count * channels * resolution**2
        if size <= limit:
            kept.add(resolution)
    return frozenset(kept)
