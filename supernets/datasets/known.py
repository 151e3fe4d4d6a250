"""The data sets known by name. A new one: its module, and its line here."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from supernets.datasets import cifar, fashion
from supernets.datasets.image_set import Splits


@dataclass(frozen=True)
class DataSet:
    """A data set that has a name.

    Attributes:
        classes: The classes' names.
        channels: Of its images.
        count: Images in all.
        evaluation_count: Images of validation, calibration and test together.
        is_in: Tells whether a folder holds its files.
        load: Returns its splits at their own size, from a folder or (None) from where it is usually found; the truth
            value says whether training images are wanted.
    """

    classes: tuple[str, ...]
    channels: int
    count: int
    evaluation_count: int
    is_in: Callable[[Path], bool]
    load: Callable[[Path | None, bool], Splits]


DATA_SETS = {
    fashion.NAME: DataSet(
        fashion.CLASSES, 1, fashion.COUNT, fashion.SLICE_COUNT, fashion.has_idx_files, fashion.load_fashion
    ),
    cifar.NAME: DataSet(cifar.CLASSES, 3, cifar.COUNT, cifar.EVALUATION_COUNT, cifar.has_files, cifar.load_cifar),
}
