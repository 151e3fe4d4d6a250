"""CIFAR-10: found in every layout but pickles, checked, split without overlap, and known by its name."""

import hashlib
import tarfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import DataError, FileFormatError, UsageError
from nas.export.accuracy import matching_splits
from supernets import ImageInfo
from supernets.datasets import cifar, inspect_data, load_splits

Images, Labels = np.ndarray, np.ndarray


def fake(count: int, seed: int) -> tuple[Images, Labels]:
    rng = np.random.default_rng(seed)
    labels = rng.permutation(np.arange(count, dtype=np.uint8) % 10)
    return rng.integers(256, size=(count, 32, 32, 3), dtype=np.uint8), labels


PARTS = {"train": fake(100, 0), "test": fake(20, 1)}


@pytest.fixture(autouse=True)
def tiny(monkeypatch: pytest.MonkeyPatch) -> None:
    """Make CIFAR-10 a set of 100 and 20 invented images."""
    monkeypatch.setattr(cifar, "BATCH_COUNT", 20)
    monkeypatch.setattr(cifar, "SHEET_ROWS", 2)
    monkeypatch.setattr(cifar, "SHEET_COLUMNS", 5)
    monkeypatch.setattr(cifar, "SHEETS", {"train": 10, "test": 2})
    monkeypatch.setattr(cifar, "PER_CLASS", {"validation": 2, "calibration": 1})
    hashes = {part: tuple(hashlib.sha256(a.tobytes()).hexdigest() for a in arrays) for part, arrays in PARTS.items()}
    monkeypatch.setattr(cifar, "SHA256", hashes)


def write_batches(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, names in cifar.BATCHES.items():
        images, labels = PARTS[part]
        records = np.hstack([labels[:, None], images.transpose(0, 3, 1, 2).reshape(len(labels), -1)])
        for number, name in enumerate(names):
            (folder / name).write_bytes(records[20 * number : 20 * (number + 1)].tobytes())


def write_archive(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(folder / "made" / cifar.BATCH_FOLDER)
    (folder / "made" / cifar.BATCH_FOLDER / "readme.html").write_text("<html>")
    with tarfile.open(folder / cifar.ARCHIVE, "w:gz") as archive:
        archive.add(folder / "made" / cifar.BATCH_FOLDER, cifar.BATCH_FOLDER)
    digest = hashlib.md5((folder / cifar.ARCHIVE).read_bytes()).hexdigest()
    monkeypatch.setattr(cifar, "ARCHIVE_MD5", digest)


def write_sheets(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for part, (images, _) in PARTS.items():
        for number in range(len(images) // 10):
            grid = images[10 * number : 10 * (number + 1)].reshape(2, 5, 32, 32, 3).transpose(0, 2, 1, 3, 4)
            sheet = Image.fromarray(grid.reshape(64, 160, 3))
            sheet.save(folder / f"{part}_{number:02}.webp", lossless=True)
    np.savez(folder / cifar.LABELS, **{f"{part}_labels": labels for part, (_, labels) in PARTS.items()})


def write(layout: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if layout == "archive":
        write_archive(folder, monkeypatch)
    else:
        {"batches": write_batches, "sheets": write_sheets}[layout](folder)


def pixels(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


@pytest.mark.parametrize("layout", ["batches", "archive", "sheets"])
def test_every_layout_gives_the_official_images_in_disjoint_parts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str
) -> None:
    write(layout, tmp_path, monkeypatch)
    splits = load_splits(tmp_path, size=32, channels=3, need_train=True)
    images, labels = PARTS["test"]
    assert splits.name == "cifar10" and splits.classes == cifar.CLASSES and splits.mean == cifar.MEAN
    assert np.array_equal(splits.test.images.numpy().transpose(0, 2, 3, 1), images)
    assert np.array_equal(splits.test.labels.numpy(), labels)
    assert splits.train is not None
    parts = {"train": splits.train, "validation": splits.validation, "calibration": splits.calibration}
    assert [len(part) for part in parts.values()] == [70, 20, 10]
    assert len(set.union(*(pixels(part.images) for part in parts.values()))) == 100
    for name, indices in cifar.split_indices(PARTS["train"][1]).items():
        assert np.array_equal(parts[name].images.numpy().transpose(0, 2, 3, 1), PARTS["train"][0][indices])
        assert torch.bincount(parts[name].labels).unique().numel() == 1  # every class equally often


def test_the_split_is_the_same_for_good() -> None:
    chosen = cifar.split_indices(np.arange(100, dtype=np.uint8) % 10)
    assert chosen["calibration"].tolist() == [9, 15, 18, 23, 32, 37, 40, 66, 81, 84]
    assert chosen["validation"].tolist()[:6] == [1, 3, 4, 8, 14, 17]


@pytest.mark.parametrize("place", [".", cifar.BATCH_FOLDER, "cifar10"])
def test_a_folder_is_known_by_its_files_and_a_set_by_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    write_batches(tmp_path / place)
    monkeypatch.setenv("HWNAS_DATA", str(tmp_path))
    for data in (tmp_path, "cifar10"):
        assert inspect_data(data).name == "cifar10" and inspect_data(data).channels == 3
        splits = load_splits(data, size=24, channels=3)
        assert splits.train is None and splits.test.images.shape == (20, 3, 24, 24)


def test_a_folder_of_two_known_sets_is_refused(tmp_path: Path) -> None:
    write_batches(tmp_path)
    (tmp_path / "train-labels-idx1-ubyte.gz").touch()
    with pytest.raises(DataError, match=r"holds fashion-mnist and cifar10; name one, and the folder by \$HWNAS_DATA"):
        inspect_data(tmp_path)


def test_a_network_trained_on_a_known_set_finds_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_sheets(tmp_path)
    monkeypatch.setenv("HWNAS_DATA", str(tmp_path))
    info = ImageInfo("cifar10", cifar.CLASSES, cifar.MEAN, cifar.STD)
    assert matching_splits(None, info, 32).name == "cifar10"


def test_a_folder_of_class_folders_with_its_name_is_another_set(tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    for name in cifar.CLASSES[:2]:
        (tmp_path / "cifar10" / name).mkdir(parents=True)
        for number in range(8):
            image = Image.fromarray(rng.integers(256, size=(8, 8, 3), dtype=np.uint8))
            image.save(tmp_path / "cifar10" / name / f"{number}.png")
    assert inspect_data(tmp_path / "cifar10").name == "./cifar10"
    assert load_splits(tmp_path / "cifar10", size=8, channels=3).name == "./cifar10"


def test_the_download_goes_to_the_cache_and_is_found_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_archive(tmp_path, monkeypatch)
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    calls = []

    def download(url: str, root: str, filename: str, md5: str) -> None:
        calls.append((url, md5))
        (tmp_path / cifar.ARCHIVE).rename(Path(root) / filename)

    monkeypatch.setattr("torchvision.datasets.utils.download_url", download)
    for _ in range(2):
        assert len(load_splits("cifar10", size=32, channels=3).test) == 20
    assert calls == [("https://www.cs.toronto.edu/~kriz/cifar-10-binary.tar.gz", cifar.ARCHIVE_MD5)]
    assert [path.name for path in (tmp_path / "cache" / "datasets").iterdir()] == [cifar.ARCHIVE]


def test_no_set_and_no_network_says_where_it_was_sought(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path))

    def offline(*_arguments: object) -> None:
        raise RuntimeError("no\nnetwork:")

    monkeypatch.setattr("torchvision.datasets.utils.download_url", offline)
    message = r"CIFAR-10 is not in .*datasets, and downloading https\S+ failed \(no network\); \$HWNAS_DATA is not set"
    with pytest.raises(DataError, match=message):
        load_splits("cifar10", size=32, channels=3)
    monkeypatch.setenv("HWNAS_DATA", str(tmp_path))
    with pytest.raises(DataError, match=r"HWNAS_DATA is .*, which does not hold CIFAR-10 .*; mend it, or unset it"):
        load_splits("cifar10", size=32, channels=3)


def test_pickles_are_refused_and_not_read(tmp_path: Path) -> None:
    (tmp_path / "cifar-10-batches-py").mkdir()
    (tmp_path / "cifar-10-batches-py" / "data_batch_1").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(DataError, match=r"python version, whose pickles are not read; fetch the binary version"):
        load_splits(tmp_path, size=32, channels=3)


@pytest.mark.parametrize("layout", ["batches", "sheets"])
def test_another_set_in_its_layout_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, layout: str) -> None:
    monkeypatch.setitem(PARTS, "test", fake(20, 2))
    write(layout, tmp_path, monkeypatch)
    with pytest.raises(DataError, match=r"its test images or labels are not CIFAR-10's; fetch the set again"):
        load_splits(tmp_path, size=32, channels=3)


def test_damaged_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_batches(tmp_path / "a")
    (tmp_path / "a" / "test_batch.bin").write_bytes(b"0" * 5)
    with pytest.raises(FileFormatError, match=r"test_batch.bin: 5 bytes; allowed: 61460; fetch it again"):
        load_splits(tmp_path / "a", size=32, channels=3)
    (tmp_path / "a" / "test_batch.bin").unlink()
    with pytest.raises(FileFormatError, match=r"test_batch.bin: cannot be read \(No such file"):
        load_splits(tmp_path / "a", size=32, channels=3)
    write_archive(tmp_path, monkeypatch)
    (tmp_path / cifar.ARCHIVE).write_bytes(b"\x1f\x8b")
    with pytest.raises(FileFormatError, match=r"tar.gz: its MD5 is \w{32}, not \w{32}; fetch it again"):
        load_splits(tmp_path, size=32, channels=3)


def test_damaged_sheets_are_refused(tmp_path: Path) -> None:
    write_sheets(tmp_path)
    Image.new("RGB", (32, 32)).save(tmp_path / "test_01.webp", lossless=True)
    with pytest.raises(FileFormatError, match=r"test_01.webp: a sheet of \(32, 32, 3\); allowed: \(64, 160, 3\)"):
        load_splits(tmp_path, size=32, channels=3)
    (tmp_path / "test_01.webp").write_bytes(b"RIFF")
    with pytest.raises(DataError, match=r"test_01.webp cannot be read \(.*\); remove it or replace it"):
        load_splits(tmp_path, size=32, channels=3)
    (tmp_path / cifar.LABELS).write_bytes(b"PK")
    with pytest.raises(FileFormatError, match=r"labels.npz: not a readable npz file \(.*\); fetch it or install"):
        load_splits(tmp_path, size=32, channels=3)


def test_grey_is_not_made_of_colour(tmp_path: Path) -> None:
    write_batches(tmp_path)
    with pytest.raises(UsageError, match=r"channels 1 of cifar10, whose images are RGB; allowed: 3"):
        load_splits(tmp_path, size=32, channels=1)
