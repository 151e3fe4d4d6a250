"""A person's own images, one folder a class (torchvision's ``ImageFolder`` layout), in disjoint parts.

    birds/wren/1.jpg                      split here: 15 % test, 10 % validation, 5 % calibration, the rest train
    birds/train/wren/1.jpg, birds/val/…   kept as found; a missing part, and always calibration, comes out of train

Of a small folder calibration gets more, up to 20 %, until it has 200 images, a batch of batch-norm statistics.

The split orders the images of every class by a hash of their contents and cuts: it is the same on every machine and
under every file name. Each part is in the order of that hash, which mixes the classes: any run of images is a sample of
all. An image that occurs twice, byte for byte, is used once, in test before validation before train.
"""

import hashlib
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from nas.errors import DataError
from nas.files import read_bytes
from supernets.datasets.decode import Progress, check_memory, decode_images, in_threads, is_grey
from supernets.datasets.image_set import ImageSet, Splits

FRACTIONS = {"test": 0.15, "validation": 0.10, "calibration": 0.05}
CALIBRATION_IMAGES, CALIBRATION_MOST = 200, 0.20  # of a small folder: so many, if they are no larger a fraction
MIN_PER_CLASS = 8
SALT = b"hwnas split 1"
_NAMES = {"train": ("train",), "validation": ("val", "valid", "validation"), "test": ("test",)}
_STATISTICS = 2000
_LOOKED_AT = 32


@dataclass(frozen=True)
class Item:
    """One image file and the index of its class."""

    path: Path
    label: int


_Hashed = tuple[str, Item]
"""The hash of a file's contents, and the file."""


@dataclass(frozen=True)
class Layout:
    """What a folder holds: its classes, and the files of each part that it has; ``"train"`` is always there."""

    classes: tuple[str, ...]
    parts: dict[str, list[Item]]


def load_folder(
    folder: Path, name: str, size: int, channels: int, need_train: bool, progress: Progress | None
) -> Splits:
    """Load an image folder under a name; see ``load_splits``.

    Mean and std are over at most 2,000 training images, spread evenly.
    """
    layout = read_layout(folder)
    parts = split(folder, layout)
    train = parts["train"]
    sampled = min(len(train), _STATISTICS)
    spread = [index * len(train) // sampled for index in range(sampled)]
    wanted = parts if need_train else {**parts, "train": [train[index] for index in spread]}
    total = sum(map(len, wanted.values()))
    check_memory(total, size, channels, folder)
    count = 0

    def advance() -> None:
        nonlocal count
        count += 1
        if progress is not None:
            progress(count, total)

    sets = {}
    for part, items in wanted.items():
        images = decode_images([item.path for item in items], size, channels, advance)
        sets[part] = ImageSet(images, torch.tensor([item.label for item in items]), layout.classes)
    mean, std = _statistics(sets["train"].images[spread] if need_train else sets["train"].images)
    return Splits(
        train=sets["train"] if need_train else None,
        validation=sets["validation"],
        calibration=sets["calibration"],
        test=sets["test"],
        name=name,
        mean=mean,
        std=std,
    )


def natural_channels(layout: Layout) -> int:
    """Return 1 if a spread of the training images is grey, 3 if any of it holds colour."""
    items = layout.parts["train"]
    step = max(1, len(items) // _LOOKED_AT)
    return 1 if all(in_threads(is_grey, [item.path for item in items[::step]])) else 3


def read_layout(folder: Path) -> Layout:
    """List the classes and image files of a folder.

    Raises:
        DataError: No class folders, one class only, or a part without its training images; the message says where.
    """
    places = {part: place for part, names in _NAMES.items() if (place := _part_folder(folder, names)) is not None}
    if places and "train" not in places:
        raise DataError(f"{folder}: has {min(places.values()).name}/ but no train/ with a folder of images a class")
    places.setdefault("train", folder)
    classes = tuple(path.name for path in _subfolders(places["train"]))
    if len(classes) < 2:
        raise DataError(
            f"{places['train']}: {len(classes)} class folders ({', '.join(classes) or 'none'}); "
            "allowed: two or more, each holding the images of its class"
        )
    parts = {part: _items(place, classes) for part, place in places.items()}
    for part, items in parts.items():
        if not items:
            raise DataError(f"{places[part]}: no images; allowed: files ending in {', '.join(_extensions())}")
    return Layout(classes, parts)


def split(folder: Path, layout: Layout) -> dict[str, list[Item]]:
    """Return the files of train, validation, calibration and test, disjoint in content.

    Raises:
        DataError: A class has fewer than ``MIN_PER_CLASS`` different images to train on and to split.
    """
    parts = _distinct(layout)
    pool: dict[int, list[_Hashed]] = defaultdict(list)
    for pair in parts["train"]:
        pool[pair[1].label].append(pair)
    fractions = {part: fraction for part, fraction in FRACTIONS.items() if part not in layout.parts}
    fractions["calibration"] = max(
        FRACTIONS["calibration"], min(CALIBRATION_IMAGES / max(1, len(parts["train"])), CALIBRATION_MOST)
    )
    parts |= {part: [] for part in ("train", *fractions)}
    for label, name in enumerate(layout.classes):
        ordered = sorted(pool[label], key=_by_hash)
        if len(ordered) < MIN_PER_CLASS:
            found = f"{len(ordered)} distinct training images"
            raise DataError(f"{folder}: class {name!r} has {found}; allowed: {MIN_PER_CLASS} or more")
        start = 0
        for part, fraction in fractions.items():
            stop = start + max(1, round(fraction * len(ordered)))
            parts[part] += ordered[start:stop]
            start = stop
        parts["train"] += ordered[start:]
    for part, pairs in parts.items():
        if not pairs:
            raise DataError(f"{folder}: every image of {part} occurs elsewhere too; give it images of its own")
    return {part: [item for _, item in sorted(pairs, key=_by_hash)] for part, pairs in parts.items()}


def _by_hash(pair: _Hashed) -> str:
    return pair[0]


def _distinct(layout: Layout) -> dict[str, list[_Hashed]]:
    """Return (hash of contents, file) for each part, every content once, test before validation before train."""
    seen: set[str] = set()
    distinct: dict[str, list[_Hashed]] = {}
    for part in ("test", "validation", "train"):
        if part not in layout.parts:
            continue
        items = layout.parts[part]
        distinct[part] = []
        for digest, item in zip(in_threads(_content_hash, [item.path for item in items]), items, strict=True):
            if digest not in seen:
                seen.add(digest)
                distinct[part].append((digest, item))
    return distinct


def _content_hash(path: Path) -> str:
    return hashlib.sha256(SALT + read_bytes(path)).hexdigest()


def _statistics(images: Tensor) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and std of each channel, of uint8 images scaled to [0, 1]."""
    counts = [torch.bincount(images[:, channel].flatten(), minlength=256) for channel in range(images.shape[1])]
    values = torch.arange(256, dtype=torch.float64) / 255
    means, stds = [], []
    for count in counts:
        weight = count / count.sum(dtype=torch.float64)
        mean = (weight * values).sum()
        means.append(round(float(mean), 6))
        stds.append(max(round(float((weight * (values - mean) ** 2).sum().sqrt()), 6), 1e-3))
    return tuple(means), tuple(stds)


def _part_folder(folder: Path, names: tuple[str, ...]) -> Path | None:
    """Return the subfolder of one of these names that has subfolders of its own."""
    found = [folder / name for name in names if (folder / name).is_dir() and any(_subfolders(folder / name))]
    if len(found) > 1:
        raise DataError(f"{folder}: {' and '.join(place.name for place in found)} mean the same part; keep one")
    return found[0] if found else None


def _subfolders(folder: Path) -> list[Path]:
    hidden = (".", "__")
    try:
        return sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(hidden))
    except OSError as error:
        raise DataError(f"folder {folder} cannot be read ({error.strerror})") from error


def _items(folder: Path, classes: tuple[str, ...]) -> list[Item]:
    items = []
    for place in _subfolders(folder):
        files = sorted(_image_files(place))
        if files and place.name not in classes:
            raise DataError(f"{place}: class {place.name!r} is not among the training classes: {', '.join(classes)}")
        items += [Item(path, classes.index(place.name)) for path in files]
    return items


def _image_files(folder: Path) -> Iterator[Path]:
    for path in folder.rglob("*"):
        if path.suffix.lower() in _extensions() and not path.name.startswith(".") and path.is_file():
            yield path


def _extensions() -> tuple[str, ...]:
    from torchvision.datasets.folder import IMG_EXTENSIONS

    return tuple(IMG_EXTENSIONS)
