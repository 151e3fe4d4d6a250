"""Images: known data sets or a folder of a person's own, in disjoint parts, resized and augmented in one place."""

from supernets.datasets.augment import Draws, augment
from supernets.datasets.image_set import ImageSet, Splits
from supernets.datasets.known import DATA_SETS
from supernets.datasets.load import DataInfo, inspect_data, load_splits
from supernets.datasets.preprocess import preprocess

__all__ = [
    "DATA_SETS",
    "DataInfo",
    "Draws",
    "ImageSet",
    "Splits",
    "augment",
    "inspect_data",
    "load_splits",
    "preprocess",
]
