"""Fashion-MNIST: the slice inside this package, and the full training set wherever it is found.

Xiao, Rasul, Vollgraf, "Fashion-MNIST: a Novel Image Dataset for Benchmarking Machine Learning Algorithms", 2017;
MIT licence, beside the slice. The slice holds the official test images and the validation and calibration images,
taken from the training set by ``experiments/fashion_slice``; training uses the other training images, read from a full
copy whose hash must be the one that the slice was taken from.
"""

import hashlib
import os
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nas.errors import DataError, FileFormatError
from nas.files import cache_dir, is_file, read_arrays, read_bytes, read_json
from supernets.datasets.idx import read_idx
from supernets.datasets.image_set import ImageSet, Splits

CLASSES = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat", "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
NAME = "fashion-mnist"
SIDE = 28
TRAIN_COUNT = 60_000
SLICE_COUNT = 17_000
COUNT = 70_000
SLICE = Path(__file__).parent / "fashion_mnist"
MANIFEST = "slice.json"
MANIFEST_SHA256 = "84385cf4b15afb0354ffa88a92e27942f4114dbb09de65b0fabac52e97cc3436"
SCHEMA = ("hwnas.fashion_slice", 1)
FILES: dict[str, tuple[int, ...]] = {
    "train-images-idx3-ubyte": (TRAIN_COUNT, SIDE, SIDE),
    "train-labels-idx1-ubyte": (TRAIN_COUNT,),
}
DEBIAN = Path("/usr/share/datasets/fashion-mnist")

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Labelled:
    """Images ``(n, 28, 28)`` and labels ``(n,)``, both uint8, as the idx files hold them."""

    images: Array
    labels: Array

    def image_set(self) -> ImageSet:
        """Return them as tensors, with a channel axis."""
        labels = torch.from_numpy(self.labels.astype(np.int64))
        return ImageSet(torch.from_numpy(self.images).unsqueeze(1), labels, CLASSES)


def load_fashion(folder: Path | None, need_train: bool) -> Splits:
    """Load Fashion-MNIST at its own size, 28 x 28 grey.

    Args:
        folder: The only place where the full training set is looked for, and checked even if not needed; None looks in
            ``$HWNAS_DATA`` alone if it is set, else in the Debian package's folder and the cache, and downloads it at
            last.
        need_train: Whether the 53,000 training images are wanted.

    Raises:
        DataError: No full training set was found, or it is not Fashion-MNIST's.
        FileFormatError: A file of the slice or of the training set is damaged.
    """
    manifest = _manifest()
    train = None
    if folder is not None or need_train:
        found = _search_full_set() if folder is None else _find_full_set(folder) or folder
        full = read_full_set(found)
        _check_full_set(found, full, manifest)
        indices = training_indices()
        train = Labelled(full.images[indices], full.labels[indices]).image_set() if need_train else None
    return Splits(
        train=train,
        validation=load_slice("validation").image_set(),
        calibration=load_slice("calibration").image_set(),
        test=load_slice("test").image_set(),
        name=NAME,
        mean=(float(manifest["mean"]),),
        std=(float(manifest["std"]),),
    )


def load_slice(part: str) -> Labelled:
    """Read ``"validation"``, ``"calibration"`` or ``"test"`` from the slice, every array checked against its hash."""
    record = _manifest()["parts"][part]
    count = int(record["count"])
    arrays = []
    for kind, shape in (("images", (count, SIDE, SIDE)), ("labels", (count,))):
        path = SLICE / record[kind]["file"]
        array = read_idx(path, shape)
        _check_hash(path, array, record[kind]["sha256"])
        arrays.append(array)
    return Labelled(*arrays)


def slice_indices() -> dict[str, NDArray[np.int64]]:
    """Return where in the official training set the validation and the calibration images stand, ascending."""
    record = _manifest()["indices"]
    path = SLICE / record["file"]
    indices = read_arrays(path, list(record["sha256"]))
    for part, digest in record["sha256"].items():
        _check_hash(path, indices[part], digest)
    return {part: values.astype(np.int64) for part, values in indices.items()}


def training_indices() -> NDArray[np.int64]:
    """Return where in the official training set the images stand that training may use, ascending."""
    free = np.ones(TRAIN_COUNT, dtype=bool)
    for indices in slice_indices().values():
        free[indices] = False
    return np.flatnonzero(free)


def has_idx_files(folder: Path) -> bool:
    """Tell whether ``folder``, or its subfolder in torchvision's layout, holds idx files of a training set."""
    return _find_full_set(folder) is not None


def read_full_set(folder: Path) -> Labelled:
    """Read the official training set of 60,000 images from its two idx files, gzipped or plain."""
    arrays = []
    for name, shape in FILES.items():
        path = _idx_file(folder, name)
        if path is None:
            raise DataError(f"{folder}: neither {name}.gz nor {name} is there; training needs images and labels")
        arrays.append(read_idx(path, shape))
    return Labelled(*arrays)


def array_hash(array: NDArray[Any]) -> str:
    """Return the SHA-256 of an array's type, shape and values."""
    digest = hashlib.sha256(f"{array.dtype.str} {array.shape}".encode())
    digest.update(np.ascontiguousarray(array).tobytes())
    return digest.hexdigest()


def _manifest() -> dict[str, Any]:
    """Return the manifest; whatever it says may be believed."""
    path = SLICE / MANIFEST
    found = hashlib.sha256(read_bytes(path)).hexdigest()
    if found != MANIFEST_SHA256:
        raise FileFormatError(f"{path}: its SHA-256 is {found}, not {MANIFEST_SHA256}; install the package again")
    return read_json(path, *SCHEMA)


def _find_full_set(folder: Path) -> Path | None:
    for place in (folder, folder / "FashionMNIST" / "raw", folder / "raw"):
        if any(_idx_file(place, name) is not None for name in FILES):
            return place
    return None


def _idx_file(folder: Path, name: str) -> Path | None:
    for path in (folder / f"{name}.gz", folder / name):
        if is_file(path):
            return path
    return None


def _search_full_set() -> Path:
    """Return the folder of a full set where none was named: as ``$HWNAS_DATA`` says, or wherever there is one."""
    if named := os.environ.get("HWNAS_DATA"):
        found = _find_full_set(Path(named))
        if found is None:
            raise DataError(
                f"$HWNAS_DATA is {named}, which does not hold Fashion-MNIST's training set ({' and '.join(FILES)}, "
                "plain or .gz); mend it, or unset it to look elsewhere"
            )
        return found
    download = cache_dir() / "datasets"
    for place in (DEBIAN, download):
        found = _find_full_set(place)
        if found is not None and all(_idx_file(found, name) is not None for name in FILES):
            return found
    return _download(download)


def _download(root: Path) -> Path:
    """Let torchvision download the set and return the folder under ``root`` to which its whole files are moved."""
    from torchvision.datasets import FashionMNIST

    target = root / "FashionMNIST" / "raw"
    try:
        target.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
            downloaded = Path(FashionMNIST(temporary, train=True, download=True).raw_folder)
            for name in FILES:
                os.replace(downloaded / f"{name}.gz", target / f"{name}.gz")
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(":")
        raise DataError(
            f"Fashion-MNIST's training set is not in {DEBIAN}, {root}, and downloading it failed ({reason}); "
            "$HWNAS_DATA is not set; give its folder by --data or $HWNAS_DATA, or install the Debian package "
            "dataset-fashion-mnist"
        ) from error
    return target


def _check_full_set(folder: Path, full: Labelled, manifest: dict[str, Any]) -> None:
    for kind, array in (("images", full.images), ("labels", full.labels)):
        if array_hash(array) != manifest["training_set"][kind]:
            raise DataError(
                f"{folder}: its training {kind} are not Fashion-MNIST's, from which the validation images were taken; "
                "fetch the set again, or lay other data out as one folder of images a class"
            )


def _check_hash(path: Path, array: NDArray[Any], expected: str) -> None:
    if array_hash(array) != expected:
        raise FileFormatError(f"{path}: sha256 of its values is not the recorded one; install the package again")
