"""One network that holds every choice: elastic layers, progressive shrinking, recalibration, extraction."""

from supernets.batch_norm import recalibrate_batch_norm
from supernets.evaluation import calibrated_subnet, evaluate_accuracy, prepare, recalibrated_subnet
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
    "list_supernets",
    "load_supernet",
    "prepare",
    "recalibrate_batch_norm",
    "recalibrated_subnet",
    "save_supernet",
    "supernet_folder",
]
