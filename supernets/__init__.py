"""One network that holds every choice: elastic layers, progressive shrinking, recalibration, extraction."""

from supernets.batch_norm import recalibrate_batch_norm
from supernets.evaluation import (
    calibrated_subnet,
    evaluate_accuracy,
    prepare,
    prepare_batches,
    recalibrated_subnet,
)
from supernets.families import make_subnet, make_supernet
from supernets.ofa import import_ofa
from supernets.subnet import Subnet
from supernets.supernet import ImageInfo, Supernet
from supernets.weights import get_supernet, list_supernets, load_supernet, save_supernet, supernet_folder

__all__ = [
    "ImageInfo",
    "Subnet",
    "Supernet",
    "calibrated_subnet",
    "evaluate_accuracy",
    "get_supernet",
    "import_ofa",
    "list_supernets",
    "load_supernet",
    "make_subnet",
    "make_supernet",
    "prepare",
    "prepare_batches",
    "recalibrate_batch_norm",
    "recalibrated_subnet",
    "save_supernet",
    "supernet_folder",
]
