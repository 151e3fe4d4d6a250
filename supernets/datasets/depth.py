"""Pictures and the depth of each of their pixels, in one npz file.

Six arrays: ``train_images`` uint8 ``(n, 3, r, r)`` and ``train_depths`` float32 ``(n, r, r)``, metres along the
camera's axis, 0 where nothing is known; and so for ``validation`` and ``test``.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from nas.errors import DataError
from nas.files import read_arrays
from nas.writing import atomic_path

PARTS = ("train", "validation", "test")


@dataclass(frozen=True, eq=False)
class DepthSet:
    """Images uint8 ``(n, c, r, r)`` and depths float32 ``(n, r, r)`` in metres."""

    images: Tensor
    depths: Tensor


@dataclass(frozen=True, eq=False)
class DepthSplits:
    """The parts of a depth set and what it is called."""

    name: str
    train: DepthSet
    validation: DepthSet
    test: DepthSet


def load_depth(path: Path) -> DepthSplits:
    """Read a depth set.

    Raises:
        FileFormatError: The file is missing, damaged, or lacks an array.
        DataError: An array is not what it should be; the message names it.
    """
    arrays = read_arrays(path, [f"{part}_{what}" for part in PARTS for what in ("images", "depths")])
    sets = {}
    for part in PARTS:
        images, depths = arrays[f"{part}_images"], arrays[f"{part}_depths"]
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[2] != images.shape[3] or not len(images):
            raise DataError(f"{path}: {part}_images is {images.dtype} {images.shape}; allowed: uint8 (n, c, r, r)")
        expected = (len(images), *images.shape[2:])
        if depths.dtype != np.float32 or depths.shape != expected:
            raise DataError(f"{path}: {part}_depths is {depths.dtype} {depths.shape}; allowed: float32 {expected}")
        if not np.isfinite(depths).all() or (depths < 0).any() or not (depths > 0).any():
            raise DataError(f"{path}: {part}_depths holds values that are no depths; allowed: metres, 0 for unknown")
        sets[part] = DepthSet(torch.from_numpy(images), torch.from_numpy(depths))
    if len({part.images.shape[1:] for part in sets.values()}) > 1:
        raise DataError(f"{path}: its parts differ in the shape of their images; allowed: one shape")
    return DepthSplits(path.stem, **sets)


def save_depth(path: Path, splits: DepthSplits) -> None:
    """Write a depth set, atomically."""
    arrays: dict[str, Any] = {}
    for name in PARTS:
        part: DepthSet = getattr(splits, name)
        arrays[f"{name}_images"], arrays[f"{name}_depths"] = part.images.numpy(), part.depths.numpy()
    with atomic_path(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)
