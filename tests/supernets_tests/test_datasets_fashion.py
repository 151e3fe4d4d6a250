"""Fashion-MNIST: the slice is whole and disjoint, and the training set is found, checked and never overlaps it."""

import gzip
import importlib.util
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from nas.errors import DataError, FileFormatError, UsageError
from supernets.datasets import fashion, inspect_data, load_splits
from supernets.datasets.idx import read_idx, write_idx

FULL = fashion.DEBIAN
needs_full = pytest.mark.skipif(not FULL.is_dir(), reason="Fashion-MNIST's Debian package is not installed")
IMAGES, LABELS = fashion.FILES


@pytest.fixture
def slice_copy(tmp_path, monkeypatch):
    folder = tmp_path / "fashion_mnist"
    shutil.copytree(fashion.SLICE, folder)
    monkeypatch.setattr(fashion, "SLICE", folder)
    return folder


@pytest.fixture
def nowhere(tmp_path, monkeypatch):
    """No full set anywhere, and no network."""
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("HWNAS_DATA", raising=False)
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path / "debian")

    def offline(*_args, **_kwargs):
        raise RuntimeError("Error downloading train-images-idx3-ubyte.gz:\nno network")

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", offline)
    return tmp_path


def pixels(images: torch.Tensor) -> set[bytes]:
    return {image.numpy().tobytes() for image in images}


def test_slice_has_the_promised_parts():
    splits = load_splits(size=28, channels=1)
    assert splits.train is None
    assert (len(splits.test), len(splits.validation), len(splits.calibration)) == (10_000, 5_000, 2_000)
    assert splits.test.images.shape == (10_000, 1, 28, 28)
    assert splits.classes == fashion.CLASSES and splits.channels == 1 and splits.name == "fashion-mnist"
    for part in (splits.test, splits.validation, splits.calibration):
        assert torch.bincount(part.labels).unique().numel() == 1  # every class equally often


def test_slice_parts_share_no_image():
    splits = load_splits(size=28, channels=1)
    parts = (splits.validation, splits.calibration, splits.test)
    validation, calibration, test = (pixels(part.images) for part in parts)
    assert len(validation) == 5_000 and len(calibration) == 2_000
    assert not validation & calibration and not validation & test and not calibration & test


def test_slice_is_small_and_carries_its_licence():
    files = list(fashion.SLICE.iterdir())
    assert sum(path.stat().st_size for path in files) <= 9_000_000
    assert "MIT License" in (fashion.SLICE / "LICENSE.txt").read_text()


@needs_full
def test_training_uses_the_other_images_of_the_training_set():
    splits = load_splits(FULL, size=28, channels=1, need_train=True)
    assert len(splits.train) == 53_000
    train = pixels(splits.train.images)
    assert not train & pixels(splits.validation.images) and not train & pixels(splits.calibration.images)
    values = splits.train.images.double() / 255
    assert splits.mean == pytest.approx((values.mean().item(),), abs=1e-5)
    assert splits.std == pytest.approx((values.std().item(),), abs=1e-5)


@needs_full
def test_slice_holds_the_training_set_s_images_at_its_indices():
    full = fashion.read_full_set(FULL)
    for part, indices in fashion.slice_indices().items():
        data = fashion.load_slice(part)
        assert np.array_equal(data.images, full.images[indices]) and np.array_equal(data.labels, full.labels[indices])
    assert len(fashion.training_indices()) == 53_000


@needs_full
@pytest.mark.slow
def test_slice_is_made_again_byte_for_byte(tmp_path):
    script = Path(__file__).parents[2] / "experiments" / "fashion_slice" / "make.py"
    spec = importlib.util.spec_from_file_location("make_fashion_slice", script)
    make = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(make)
    make.make(FULL, tmp_path)
    for made in tmp_path.iterdir():
        if made.suffix == ".gz":  # zlib may pack differently elsewhere: what is packed must be the same
            assert gzip.decompress(made.read_bytes()) == gzip.decompress((fashion.SLICE / made.name).read_bytes())
    assert (tmp_path / fashion.MANIFEST).read_bytes() == (fashion.SLICE / fashion.MANIFEST).read_bytes()


def test_other_size_and_channels():
    splits = load_splits(size=32, channels=3)
    assert splits.validation.images.shape == (5_000, 3, 32, 32)
    assert torch.equal(splits.validation.images[:, 0], splits.validation.images[:, 2])
    assert len(splits.mean) == len(splits.std) == 3
    native = load_splits(size=28, channels=1).validation.images.float().mean()
    assert splits.validation.images.float().mean() == pytest.approx(native.item(), abs=1)


@pytest.mark.parametrize(("size", "channels", "message"), [
    (28, 2, r"channels 2; allowed: 1 \(grey\) or 3 \(RGB\)"),
    (4, 1, "image size 4; allowed: 8 to 1024 pixels"),
    (5000, 1, "image size 5000; allowed: 8 to 1024 pixels"),
])  # fmt: skip
def test_wrong_size_or_channels(size, channels, message):
    with pytest.raises(UsageError, match=message):
        load_splits(size=size, channels=channels)


def test_too_much_for_memory():
    with pytest.raises(DataError, match=r"17000 images of 3 x 1024 x 1024 take 53.5 GB of memory; allowed: 8 GB"):
        load_splits(size=1024, channels=3)


@pytest.mark.parametrize("data", [None, "fashion-mnist"])
def test_inspect_without_a_folder(data):
    info = inspect_data(data)
    assert (info.name, info.classes, info.channels) == ("fashion-mnist", fashion.CLASSES, 1)


@needs_full
@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw", "raw"])
def test_environment_variable_comes_before_the_debian_package(nowhere, monkeypatch, layout):
    folder = nowhere / "mine" / layout
    folder.mkdir(parents=True)
    shutil.copy(FULL / f"{LABELS}.gz", folder)
    (folder / IMAGES).write_bytes(gzip.decompress((FULL / f"{IMAGES}.gz").read_bytes()))  # plain is read as well
    monkeypatch.setenv("HWNAS_DATA", str(nowhere / "mine"))
    assert len(load_splits(size=28, channels=1, need_train=True).train) == 53_000


@needs_full
def test_downloaded_set_is_found_again(nowhere):
    folder = nowhere / "cache" / "datasets" / "FashionMNIST" / "raw"
    folder.mkdir(parents=True)
    for name in fashion.FILES:
        shutil.copy(FULL / f"{name}.gz", folder)
    assert len(load_splits(size=28, channels=1, need_train=True).train) == 53_000


def test_slice_alone_needs_no_full_set(nowhere):
    assert len(load_splits(size=28, channels=1).validation) == 5_000


def test_no_full_set_and_no_network_says_where_it_was_sought(nowhere, monkeypatch):
    message = r"training set is not in .*debian, .*cache/datasets, and downloading it failed \(Error downloading.*"
    with pytest.raises(DataError, match=message + r"\$HWNAS_DATA is not set; give its folder by --data") as caught:
        load_splits(size=28, channels=1, need_train=True)
    assert "\n" not in str(caught.value)


def test_an_environment_variable_that_names_no_full_set_is_refused(nowhere, monkeypatch):
    monkeypatch.setenv("HWNAS_DATA", str(nowhere / "empty"))
    with pytest.raises(DataError, match=r"HWNAS_DATA is .*empty, which does not hold .*; mend it, or unset it"):
        load_splits(size=28, channels=1, need_train=True)
    (nowhere / "empty").mkdir()
    (nowhere / "empty" / f"{LABELS}.gz").touch()
    with pytest.raises(DataError, match=r"empty: neither train-images-idx3-ubyte.gz nor train-images-idx3-ubyte is"):
        load_splits(size=28, channels=1, need_train=True)


@needs_full
@pytest.mark.parametrize("left", [[], [IMAGES], [LABELS]])
def test_a_killed_download_is_begun_again(nowhere, monkeypatch, left):
    """What a kill leaves is a part of the files, or a temporary folder; neither counts as the set."""
    raw = nowhere / "cache" / "datasets" / "FashionMNIST" / "raw"

    class Online:
        def __init__(self, root, train, download):
            assert train and download
            assert Path(root).parent == raw.parent.parent and Path(root) != raw.parent  # beside what is whole
            self.raw_folder = str(Path(root) / "FashionMNIST" / "raw")
            Path(self.raw_folder).mkdir(parents=True)
            for name in fashion.FILES:
                shutil.copy(FULL / f"{name}.gz", self.raw_folder)

    monkeypatch.setattr("torchvision.datasets.FashionMNIST", Online)
    litter = raw.parent.parent / ".download-killed" / "FashionMNIST" / "raw"
    litter.mkdir(parents=True)
    (litter / IMAGES).write_bytes(b"cut short")
    raw.mkdir(parents=True)
    for name in left:
        shutil.copy(FULL / f"{name}.gz", raw)
    assert fashion.read_full_set(fashion._search_full_set()).labels.shape == (60_000,)
    assert sorted(path.name for path in raw.iterdir()) == sorted(f"{name}.gz" for name in fashion.FILES)


def test_named_folder_is_the_only_place_looked_at(tmp_path):
    with pytest.raises(DataError, match=r"data folder .*absent is not there; give a folder of images"):
        load_splits(tmp_path / "absent", size=28, channels=1)
    (tmp_path / f"{LABELS}.gz").write_bytes(b"")
    with pytest.raises(DataError, match=r"neither train-images-idx3-ubyte.gz nor train-images-idx3-ubyte is there"):
        load_splits(tmp_path, size=28, channels=1)


def write_full(folder, images, labels):
    write_idx(folder / f"{IMAGES}.gz", images)
    write_idx(folder / f"{LABELS}.gz", labels)


@pytest.mark.parametrize("need_train", [False, True])
def test_another_data_set_in_idx_files_is_refused(tmp_path, need_train):
    write_full(tmp_path, np.zeros((60_000, 28, 28), np.uint8), np.zeros(60_000, np.uint8))
    with pytest.raises(DataError, match=r"its training images are not Fashion-MNIST's"):
        load_splits(tmp_path, size=28, channels=1, need_train=need_train)


@needs_full
def test_other_labels_are_refused(tmp_path):
    shutil.copy(FULL / f"{IMAGES}.gz", tmp_path)
    write_idx(tmp_path / f"{LABELS}.gz", np.zeros(60_000, np.uint8))
    with pytest.raises(DataError, match=r"its training labels are not Fashion-MNIST's"):
        load_splits(tmp_path, size=28, channels=1)


def test_smaller_idx_files_are_refused(tmp_path):
    write_full(tmp_path, np.zeros((6, 28, 28), np.uint8), np.zeros(6, np.uint8))
    with pytest.raises(FileFormatError, match=r"shape \(6, 28, 28\); allowed: \(60000, 28, 28\)"):
        load_splits(tmp_path, size=28, channels=1)


@pytest.mark.parametrize("name", ["validation-images-idx3-ubyte.gz", "test-labels-idx1-ubyte.gz"])
def test_truncated_slice_is_refused(slice_copy, name):
    path = slice_copy / name
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(FileFormatError, match=rf"{name}: cannot be unpacked \(.*\); fetch it again"):
        load_splits(size=28, channels=1)


def test_changed_slice_is_refused(slice_copy):
    path = slice_copy / "validation-images-idx3-ubyte.gz"
    images = read_idx(path, (5_000, 28, 28))
    images[7, 14, 14] ^= 1
    write_idx(path, images)
    with pytest.raises(FileFormatError, match=rf"{path.name}: sha256 of its values is not the recorded one"):
        load_splits(size=28, channels=1)


def test_missing_slice_file_is_named(slice_copy):
    (slice_copy / "calibration-images-idx3-ubyte.gz").unlink()
    with pytest.raises(FileFormatError, match=r"calibration-images-idx3-ubyte.gz: cannot be read"):
        load_splits(size=28, channels=1)


def test_changed_or_broken_indices_are_refused(slice_copy):
    path = slice_copy / "indices.npz"
    indices = fashion.slice_indices()
    np.savez(path, validation=indices["validation"][::-1], calibration=indices["calibration"])
    with pytest.raises(FileFormatError, match=r"indices.npz: sha256 of its values is not the recorded one"):
        fashion.training_indices()
    for damage in (b"PK\x03\x04", b"", b"\x80\x04."):
        path.write_bytes(damage)
        with pytest.raises(FileFormatError, match=r"indices.npz: not a readable npz file"):
            fashion.training_indices()


@pytest.mark.parametrize(("data", "message"), [
    (b"", r"starts with , not with idx's 00000801"),
    (b"\0\0\x08\x03", "starts with 00000803, not with idx's 00000801"),
    (b"\0\0\x08\x01\0", "cut short after 5 bytes, within its header"),
    (b"\0\0\x08\x01\0\0\0\x05abcde", r"shape \(5,\); allowed: \(4,\)"),
    (b"\0\0\x08\x01\0\0\0\x04abc", r"3 values for shape \(4,\), not 4"),
    (b"\0\0\x08\x01\0\0\0\x04abcde", r"5 values for shape \(4,\), not 4"),
    (b"\x1f\x8b\x08junk", r"cannot be unpacked \(.*\); fetch it again"),
])  # fmt: skip
def test_damaged_idx_files(tmp_path, data, message):
    path = tmp_path / "labels"
    path.write_bytes(data)
    with pytest.raises(FileFormatError, match=rf"{path}: {message}"):
        read_idx(path, (4,))


def test_idx_round_trip(tmp_path):
    array = np.arange(24, dtype=np.uint8).reshape(2, 3, 4)
    write_idx(tmp_path / "a.gz", array)
    assert np.array_equal(read_idx(tmp_path / "a.gz", (2, 3, 4)), array)
