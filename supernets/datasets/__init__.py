"""Images: Fashion-MNIST or a folder of a person's own, in disjoint parts, resized and augmented in one place."""

from supernets.datasets.augment import augment
from supernets.datasets.image_set import ImageSet, Splits
from supernets.datasets.load import load_splits
from supernets.datasets.preprocess import preprocess

__all__ = ["ImageSet", "Splits", "augment", "load_splits", "preprocess"]
