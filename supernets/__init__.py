"""One network that holds every choice: elastic layers, progressive shrinking, recalibration, extraction."""

from supernets.batch_norm import recalibrate_batch_norm
from supernets.bottleneck import BottleneckNet, BottleneckSupernet
from supernets.evaluation import calibrated_subnet, evaluate_accuracy, prepare, recalibrated_subnet
from supernets.ofa import import_ofa, import_ofa_resnet
from supernets.subnet import Subnet
from supernets.supernet import ImageInfo, Supernet
from supernets.weights import get_supernet, list_supernets, load_supernet, save_supernet, supernet_folder

__all__ = [
    "BottleneckNet",
    "BottleneckSupernet",
    "ImageInfo",
    "Subnet",
    "Supernet",
    "calibrated_subnet",
    "evaluate_accuracy",
    "get_supernet",
    "import_ofa",
    "import_ofa_resnet",
    "list_supernets",
    "load_supernet",
    "prepare",
    "recalibrate_batch_norm",
    "recalibrated_subnet",
    "save_supernet",
    "supernet_folder",
]
