"""CIFAR-10: found in its binary version or as lossless sheets, downloaded at last, and split here.

Krizhevsky, "Learning Multiple Layers of Features from Tiny Images", 2009; https://www.cs.toronto.edu/~kriz/cifar.html.

    cifar-10-batches-bin/data_batch_1.bin … data_batch_5.bin, test_batch.bin   records of a label and 3 x 32 x 32 pixels
    cifar-10-binary.tar.gz                                                     the same, packed
    train_00.webp … train_49.webp, test_00.webp … test_09.webp, labels.npz     sheets of 25 rows of 40 images

The python version is pickle, which is never read. Whatever the layout, pixels and labels are compared with the hashes
of the official ones. Test images are the official ones; validation and calibration images are taken out of the training
set, the same number of every class, by a generator whose numbers are fixed for good (NEP 19 freezes ``RandomState``).
"""

import hashlib
import io
import os
import tarfile
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from nas.errors import DataError, FileFormatError
from nas.files import cache_dir, is_file, read_arrays, read_bytes
from supernets.datasets.decode import in_threads, read_pixels
from supernets.datasets.image_set import ImageSet, Splits

NAME = "cifar10"
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
SIDE = 32
COUNT = 60_000
EVALUATION_COUNT = 17_000
MEAN = (0.49139968, 0.48215841, 0.44653091)  # of all 50,000 training images
STD = (0.24703223, 0.24348513, 0.26158784)
SEED = 20090408
PER_CLASS = {"validation": 500, "calibration": 200}

BATCHES = {"train": tuple(f"data_batch_{number}.bin" for number in range(1, 6)), "test": ("test_batch.bin",)}
BATCH_COUNT = 10_000
BATCH_FOLDER = "cifar-10-batches-bin"
ARCHIVE = "cifar-10-binary.tar.gz"
ARCHIVE_MD5 = "c32a1d4ab5d03f1284b67883e8d87530"
URL = f"https://www.cs.toronto.edu/~kriz/{ARCHIVE}"
PICKLED = "data_batch_1"
PICKLE_FOLDER = "cifar-10-batches-py"
SHEETS = {"train": 50, "test": 10}
SHEET_ROWS, SHEET_COLUMNS = 25, 40
LABELS = "labels.npz"
SHA256 = {
    "train": (
        "47af8b02cfcfb6cdf3dbbd1969ad7f1b70f4413f6f80f437b020ee4e5bc8304a",
        "2b7cd2f24487317614016b72ffd53071c3062f592f0eb300c18a770d41ae1253",
    ),
    "test": (
        "f9b1e2130bab680db56eb06d886f7f1ad0f1183907ceff4659d1735c890f5b04",
        "cec8a24a1e92aa2ecaa0bbd3dbfa86bf6cd8759fbd209a832824c8cf0afca9d5",
    ),
}
"""Of each part's images ``(n, 32, 32, 3)`` and labels ``(n,)``, uint8, in the official order."""

Array = NDArray[np.uint8]


@dataclass(frozen=True)
class Labelled:
    """Images ``(n, 32, 32, 3)`` and labels ``(n,)``, both uint8."""

    images: Array
    labels: Array

    def image_set(self, at: NDArray[np.int64] | slice = slice(None)) -> ImageSet:
        """Return those at ``at`` as tensors, channels first."""
        images = np.ascontiguousarray(self.images[at].transpose(0, 3, 1, 2))
        return ImageSet(torch.from_numpy(images), torch.from_numpy(self.labels[at].astype(np.int64)), CLASSES)


Parts = dict[str, Labelled]
"""``"train"`` and ``"test"``, in the official order."""


def load_cifar(folder: Path | None, need_train: bool) -> Splits:
    """Load CIFAR-10 at its own size, 32 x 32 RGB: 43,000 training images, 5,000, 2,000 and 10,000.

    Args:
        folder: The only place where it is looked for; None looks in ``$HWNAS_DATA`` alone if it is set, else in the
            cache, and downloads it at last.
        need_train: Whether the training images are wanted.

    Raises:
        DataError: The set was not found, or what was found is not CIFAR-10.
        FileFormatError: A file is missing or damaged.
    """
    place = _search() if folder is None else _find(folder) or folder
    parts = _read(place)
    for part, data in parts.items():
        if (_hash(data.images), _hash(data.labels)) != SHA256[part]:
            raise DataError(f"{place}: its {part} images or labels are not CIFAR-10's; fetch the set again")
    train = parts["train"]
    indices = split_indices(train.labels)
    return Splits(
        train=train.image_set(indices["train"]) if need_train else None,
        validation=train.image_set(indices["validation"]),
        calibration=train.image_set(indices["calibration"]),
        test=parts["test"].image_set(),
        name=NAME,
        mean=MEAN,
        std=STD,
    )


def has_files(folder: Path) -> bool:
    """Tell whether ``folder`` holds files of CIFAR-10, in a layout that is read or as pickles."""
    return _find(folder) is not None


def split_indices(labels: Array) -> dict[str, NDArray[np.int64]]:
    """Return where in the official training set the images of train, validation and calibration stand, ascending."""
    rng = np.random.RandomState(SEED)
    chosen: dict[str, list[NDArray[np.int64]]] = {"validation": [], "calibration": [], "train": []}
    cuts = np.cumsum(list(PER_CLASS.values()))
    for label in range(len(CLASSES)):
        order = rng.permutation(np.flatnonzero(labels == label))
        for part, indices in zip(chosen, np.split(order, cuts), strict=True):
            chosen[part].append(indices)
    return {part: np.sort(np.concatenate(indices)) for part, indices in chosen.items()}


def _find(folder: Path) -> Path | None:
    places = (folder, folder / BATCH_FOLDER, folder / NAME, folder / PICKLE_FOLDER)
    return next((place for place in places if _reader(place) is not None), None)


def _reader(place: Path) -> Callable[[Path], Parts] | None:
    """Return what reads the set as it lies in ``place``, or None."""
    if any(is_file(place / name) for names in BATCHES.values() for name in names):
        return _read_batches
    if is_file(place / ARCHIVE):
        return _read_archive
    if is_file(place / LABELS) and is_file(place / _sheet("train", 0)):
        return _read_sheets
    return _refuse_pickles if is_file(place / PICKLED) else None


def _read(place: Path) -> Parts:
    reader = _reader(place)
    if reader is None:
        raise DataError(f"{place}: CIFAR-10 is not there; allowed: {BATCH_FOLDER}, {ARCHIVE}, or sheets and {LABELS}")
    return reader(place)


def _refuse_pickles(place: Path) -> Parts:
    raise DataError(
        f"{place}: CIFAR-10's python version, whose pickles are not read; fetch the binary version ({URL}), or name "
        f"no folder (--data {NAME}) to have it downloaded"
    )


def _read_batches(place: Path) -> Parts:
    return {
        part: _labelled([_records(place / name, read_bytes(place / name)) for name in names])
        for part, names in BATCHES.items()
    }


def _read_archive(place: Path) -> Parts:
    """Read the archive without unpacking it onto the disk; its MD5 says that it holds what it should."""
    path = place / ARCHIVE
    data = read_bytes(path)
    found = hashlib.md5(data, usedforsecurity=False).hexdigest()
    if found != ARCHIVE_MD5:
        raise FileFormatError(f"{path}: its MD5 is {found}, not {ARCHIVE_MD5}; fetch it again")
    batches = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:gz") as archive:
        for member in archive:
            file = archive.extractfile(member)
            if file is not None and member.name.endswith(".bin"):
                batches[Path(member.name).name] = _records(path / member.name, file.read())
    return {part: _labelled([batches[name] for name in names]) for part, names in BATCHES.items()}


def _records(path: Path, data: bytes) -> Array:
    """Return the records of a batch file: ``(n, 3073)``, the label, then the planes of red, green and blue."""
    width = 1 + 3 * SIDE * SIDE
    if len(data) != BATCH_COUNT * width:
        raise FileFormatError(f"{path}: {len(data)} bytes; allowed: {BATCH_COUNT * width}; fetch it again")
    return np.frombuffer(data, np.uint8).reshape(BATCH_COUNT, width)


def _labelled(batches: list[Array]) -> Labelled:
    records = np.concatenate(batches)
    planes = records[:, 1:].reshape(-1, 3, SIDE, SIDE)
    return Labelled(np.ascontiguousarray(planes.transpose(0, 2, 3, 1)), records[:, 0].copy())


def _read_sheets(place: Path) -> Parts:
    labels = read_arrays(place / LABELS, [f"{part}_labels" for part in SHEETS])
    parts = {}
    for part, count in SHEETS.items():
        sheets = in_threads(_read_sheet, [place / _sheet(part, number) for number in range(count)])
        parts[part] = Labelled(np.concatenate(list(sheets)), labels[f"{part}_labels"])
    return parts


def _read_sheet(path: Path) -> Array:
    pixels = read_pixels(path)
    expected = (SHEET_ROWS * SIDE, SHEET_COLUMNS * SIDE, 3)
    if pixels.shape != expected:
        raise FileFormatError(f"{path}: a sheet of {pixels.shape}; allowed: {expected}; fetch it again")
    grid = pixels.reshape(SHEET_ROWS, SIDE, SHEET_COLUMNS, SIDE, 3)
    return grid.transpose(0, 2, 1, 3, 4).reshape(-1, SIDE, SIDE, 3)


def _sheet(part: str, number: int) -> str:
    return f"{part}_{number:02}.webp"


def _hash(array: Array) -> str:
    return hashlib.sha256(array.tobytes()).hexdigest()


def _search() -> Path:
    """Return the folder of the set where none was named: as ``$HWNAS_DATA`` says, or wherever there is one."""
    if named := os.environ.get("HWNAS_DATA"):
        found = _find(Path(named))
        if found is None:
            raise DataError(
                f"$HWNAS_DATA is {named}, which does not hold CIFAR-10 ({BATCH_FOLDER}, {ARCHIVE}, or sheets and "
                f"{LABELS}); mend it, or unset it to look elsewhere"
            )
        return found
    cache = cache_dir() / "datasets"
    return _find(cache) or _download(cache)


def _download(root: Path) -> Path:
    """Let torchvision download the archive and return the folder to which it is moved when it is whole."""
    from torchvision.datasets.utils import download_url

    try:
        root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=root, prefix=".download-") as temporary:
            download_url(URL, temporary, ARCHIVE, ARCHIVE_MD5)
            os.replace(Path(temporary) / ARCHIVE, root / ARCHIVE)
    except (OSError, RuntimeError, ValueError) as error:
        reason = " ".join(str(error).split()).rstrip(":")
        raise DataError(
            f"CIFAR-10 is not in {root}, and downloading {URL} failed ({reason}); $HWNAS_DATA is not set; give its "
            "folder by --data or $HWNAS_DATA"
        ) from error
    return root
