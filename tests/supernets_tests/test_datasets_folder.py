"""A person's own image folder: any layout of ImageFolder's kind, grey or RGB, in disjoint and repeatable parts."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from nas.errors import DataError
from supernets.datasets import decode, inspect_data, load_splits
from supernets.datasets import folder as image_folder

PARTS = ("train", "validation", "calibration", "test")


def draw(folder, count, *, mode="RGB", seed=0, side=(20, 30), suffix=".png", level=None):
    """Write ``count`` different images into ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(seed)
    for number in range(count):
        shape = side if mode == "L" else (*side, 3)
        pixels = rng.integers(0, 256, shape, dtype=np.uint8)
        if level is not None:
            pixels[:] = level
            pixels[0, :2] = divmod(number, 256)
        Image.fromarray(pixels).save(folder / f"{number}{suffix}")


@pytest.fixture
def birds(tmp_path):
    """Three classes, RGB, 40 images each, no parts."""
    root = tmp_path / "birds"
    for seed, name in enumerate(("wren", "crow", "duck")):
        draw(root / name, 40, seed=seed)
    return root


@pytest.fixture
def parted(tmp_path):
    """Two classes in train/, valid/ and test/."""
    root = tmp_path / "parted"
    for seed, (part, count) in enumerate({"train": 20, "valid": 5, "test": 6}.items()):
        for offset, name in enumerate(("cat", "dog")):
            draw(root / part / name, count, seed=10 * seed + offset)
    return root


def pixels(data):
    return [image.numpy().tobytes() for image in data.images]


def test_every_class_is_split_alike_and_no_image_is_in_two_parts(birds):
    splits = load_splits(birds, size=16, channels=3, need_train=True)
    assert splits.classes == ("crow", "duck", "wren") and splits.name == "birds"
    for part, count in zip(PARTS, (22, 4, 8, 6), strict=True):
        assert torch.bincount(getattr(splits, part).labels).tolist() == [count] * 3
    seen = [image for part in PARTS for image in pixels(getattr(splits, part))]
    assert len(seen) == len(set(seen)) == 120


def test_calibration_is_a_twentieth_and_more_of_a_small_folder(tmp_path):
    for count, calibration in ((8, 2), (100, 20), (500, 67), (1400, 70)):
        items = [image_folder.Item(Path(f"{number}"), number % 3) for number in range(3 * count)]
        layout = image_folder.Layout(("a", "b", "c"), {"train": items})
        with pytest.MonkeyPatch.context() as patched:
            patched.setattr(image_folder, "_content_hash", lambda path: hashlib.sha256(str(path).encode()).hexdigest())
            parts = image_folder.split(tmp_path, layout)
        assert [item.label for item in sorted(parts["calibration"], key=lambda item: item.label)] == [
            label for label in range(3) for _ in range(calibration)
        ]
        assert set(items) == {item for part in parts.values() for item in part}


def test_every_batch_of_calibration_and_validation_images_holds_every_class(tmp_path):
    for level, name in enumerate(("black", "grey", "white")):
        draw(tmp_path / name, 402, mode="L", side=(8, 8), level=100 * level)
    splits = load_splits(tmp_path, size=8, channels=1)
    assert len(splits.calibration) == 201
    assert torch.bincount(splits.calibration.labels[:200]).min() > 60
    for labels in splits.validation.labels.split(40):
        assert torch.bincount(labels).min() > 5


def test_images_carry_their_own_label(tmp_path):
    for level, name in enumerate(("black", "grey", "white")):
        draw(tmp_path / name, 10, mode="L", level=100 * level)
    splits = load_splits(tmp_path, size=16, channels=1, need_train=True)
    for part in PARTS:
        data = getattr(splits, part)
        brightness = data.images.flatten(1).median(1).values.long()
        assert torch.equal(brightness, 100 * data.labels)


def test_split_follows_the_contents_not_the_names(birds, tmp_path):
    first = load_splits(birds, size=16, channels=3)
    for name in ("wren", "crow", "duck"):
        for path in (birds / name).iterdir():
            (tmp_path / "renamed" / name).mkdir(parents=True, exist_ok=True)
            shutil.copy(path, tmp_path / "renamed" / name / f"photo {99 - int(path.stem)}.PNG")
    again = load_splits(tmp_path / "renamed", size=16, channels=3)
    assert torch.equal(first.test.images, again.test.images) and torch.equal(first.test.labels, again.test.labels)


def test_training_images_are_read_only_when_asked_for(birds):
    without = load_splits(birds, size=16, channels=3)
    with_train = load_splits(birds, size=16, channels=3, need_train=True)
    assert without.train is None
    assert without.mean == with_train.mean and without.std == with_train.std
    for part in PARTS[1:]:
        assert torch.equal(getattr(without, part).images, getattr(with_train, part).images)


def test_mean_and_std_are_the_training_part_s(birds):
    splits = load_splits(birds, size=16, channels=3, need_train=True)
    values = splits.train.images.double() / 255
    assert splits.mean == pytest.approx(values.mean((0, 2, 3)).tolist(), abs=1e-4)
    assert splits.std == pytest.approx(values.std((0, 2, 3)).tolist(), abs=1e-4)


def test_folders_of_parts_are_kept(parted):
    splits = load_splits(parted, size=16, channels=3, need_train=True)
    assert splits.classes == ("cat", "dog")
    assert [len(getattr(splits, part)) for part in PARTS] == [32, 10, 8, 12]  # calibration comes out of train


def test_missing_parts_come_out_of_train(parted):
    shutil.rmtree(parted / "test")
    splits = load_splits(parted, size=16, channels=3, need_train=True)
    assert [len(getattr(splits, part)) for part in PARTS] == [26, 10, 8, 6]


def test_an_image_in_two_parts_is_used_once(parted):
    for path in (parted / "test" / "cat").iterdir():
        shutil.copy(path, parted / "train" / "cat" / f"copy{path.name}")
        shutil.copy(path, parted / "valid" / "cat" / f"copy{path.name}")
    splits = load_splits(parted, size=16, channels=3, need_train=True)
    assert [len(getattr(splits, part)) for part in PARTS] == [32, 10, 8, 12]


def test_copies_of_an_image_are_used_once(birds):
    for path in list((birds / "wren").iterdir()):
        shutil.copy(path, birds / "wren" / f"copy{path.name}")
    splits = load_splits(birds, size=16, channels=3, need_train=True)
    assert sum(len(getattr(splits, part)) for part in PARTS) == 120


def test_what_is_no_image_is_passed_over(birds):
    (birds / "wren" / "notes.txt").write_text("wrens")
    (birds / "wren" / "._0.png").write_bytes(b"resource fork")
    (birds / ".cache").mkdir()
    (birds / "__MACOSX").mkdir()
    assert load_splits(birds, size=16, channels=3).classes == ("crow", "duck", "wren")


def test_a_class_may_be_called_train(tmp_path):
    for seed, name in enumerate(("train", "car")):
        draw(tmp_path / name, 10, seed=seed)
    assert load_splits(tmp_path, size=16, channels=3).classes == ("car", "train")


def test_progress_reaches_the_end(birds):
    seen = []
    load_splits(birds, size=16, channels=3, progress=lambda done, total: seen.append((done, total)), need_train=True)
    assert seen == [(number, 120) for number in range(1, 121)]


@pytest.mark.parametrize(("mode", "suffix", "channels"), [
    ("RGB", ".png", 3), ("RGB", ".jpg", 3), ("L", ".png", 1), ("L", ".jpg", 1), ("L", ".bmp", 1), ("RGB", ".webp", 3),
])  # fmt: skip
def test_natural_channels(tmp_path, mode, suffix, channels):
    for seed, name in enumerate(("a", "b")):
        draw(tmp_path / name, 8, mode=mode, suffix=suffix, seed=seed)
    info = inspect_data(tmp_path)
    assert (info.classes, info.channels, info.name) == (("a", "b"), channels, tmp_path.name)
    assert load_splits(tmp_path, size=16, channels=info.channels).test.images.shape[1:] == (channels, 16, 16)


def test_grey_stored_as_rgb_is_grey(tmp_path):
    for seed, name in enumerate(("a", "b")):
        draw(tmp_path / name, 8, mode="L", seed=seed)
        for path in (tmp_path / name).iterdir():
            Image.open(path).convert("RGB").save(path.with_suffix(".jpg"))
            path.unlink()
    assert inspect_data(tmp_path).channels == 1


def decode_one(image, path, size=8, channels=1):
    image.save(path)
    return decode.decode_images([path], size, channels, lambda: None)[0]


def test_shorter_side_is_resized_and_the_centre_kept(tmp_path):
    wide = np.zeros((10, 30), np.uint8)
    wide[:, 10:20] = 255
    assert (decode_one(Image.fromarray(wide), tmp_path / "wide.png") > 200).all()
    assert (decode_one(Image.fromarray(wide.T.copy()), tmp_path / "tall.png") > 200).all()


def test_sixteen_bits_palette_alpha_and_orientation(tmp_path):
    sixteen = decode_one(Image.fromarray(np.full((8, 8), 0x80FF, np.uint16)), tmp_path / "16.png")
    assert (sixteen == 0x80).all()
    red = Image.new("RGB", (8, 8), (255, 0, 0))
    for name, image in (("palette.png", red.convert("P")), ("alpha.png", red.convert("RGBA"))):
        assert decode_one(image, tmp_path / name, channels=3).flatten(1).tolist() == [[255] * 64, [0] * 64, [0] * 64]
    turned = Image.fromarray(np.repeat([[0], [255]], 4, axis=0).astype(np.uint8).repeat(8, axis=1))  # dark above
    exif = Image.Exif()
    exif[0x0112] = 3  # stored upside down
    turned.save(tmp_path / "turned.png", exif=exif)
    upright = decode.decode_images([tmp_path / "turned.png"], 8, 1, lambda: None)[0, 0]
    assert (upright[:4] == 255).all() and (upright[4:] == 0).all()


def test_32_bit_images_are_refused(tmp_path):
    with pytest.raises(DataError, match=r"image .*float.tiff has 32 bits a pixel; allowed: 8 or 16 bits a channel"):
        decode_one(Image.fromarray(np.zeros((8, 8), np.float32)), tmp_path / "float.tiff")


@pytest.mark.parametrize("damage", [b"", b"not an image", None])
def test_unreadable_image_is_named(birds, damage):
    path = birds / "duck" / "7.png"
    path.write_bytes(path.read_bytes()[:200] if damage is None else damage)
    with pytest.raises(DataError, match=r"image .*duck/7.png cannot be read \(.*\); remove it or replace it"):
        load_splits(birds, size=16, channels=3, need_train=True)
    with pytest.raises(DataError, match=r"7.png cannot be read"):
        decode.is_grey(path)


def test_too_few_images_of_a_class(birds):
    for number in range(7, 40):
        (birds / "wren" / f"{number}.png").unlink()
    with pytest.raises(DataError, match=r"birds: class 'wren' has 7 distinct training images; allowed: 8 or more"):
        load_splits(birds, size=16, channels=3)


def test_one_class_or_none(tmp_path):
    with pytest.raises(DataError, match=r"0 class folders \(none\); allowed: two or more"):
        load_splits(tmp_path, size=16, channels=3)
    draw(tmp_path / "only", 10)
    with pytest.raises(DataError, match=r"1 class folders \(only\); allowed: two or more"):
        inspect_data(tmp_path)


def test_no_images(tmp_path):
    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    with pytest.raises(DataError, match=r"no images; allowed: files ending in .jpg, .jpeg, .png"):
        load_splits(tmp_path, size=16, channels=3)


def test_parts_without_train(parted):
    shutil.rmtree(parted / "train")
    with pytest.raises(DataError, match=r"parted: has test/ but no train/ with a folder of images a class"):
        load_splits(parted, size=16, channels=3)


def test_two_folders_of_one_part(parted):
    shutil.copytree(parted / "valid", parted / "val")
    with pytest.raises(DataError, match=r"parted: val and valid mean the same part; keep one"):
        load_splits(parted, size=16, channels=3)


def test_class_that_training_lacks(parted):
    draw(parted / "test" / "fox", 2)
    with pytest.raises(DataError, match=r"test/fox: class 'fox' is not among the training classes: cat, dog"):
        load_splits(parted, size=16, channels=3)


def test_part_that_repeats_another(parted):
    shutil.rmtree(parted / "valid")
    shutil.copytree(parted / "test", parted / "val")
    with pytest.raises(DataError, match=r"parted: every image of validation occurs elsewhere too"):
        load_splits(parted, size=16, channels=3)


def test_unreadable_folder_is_named(birds, monkeypatch):
    def denied(_self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.iterdir", denied)
    with pytest.raises(DataError, match=r"folder .*birds cannot be read \(Permission denied\)"):
        load_splits(birds, size=16, channels=3)


def test_too_much_for_memory_is_refused_before_decoding(birds, monkeypatch):
    monkeypatch.setattr(decode, "MEMORY_LIMIT", 10**5)
    monkeypatch.setattr(decode, "_decode", lambda *_: pytest.fail("decoded"))
    with pytest.raises(DataError, match=r"birds: 120 images of 3 x 32 x 32 take 0.0 GB of memory; allowed: 0.0001 GB"):
        load_splits(birds, size=32, channels=3, need_train=True)
