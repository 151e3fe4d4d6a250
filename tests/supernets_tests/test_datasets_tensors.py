"""Image sets, preprocessing and augmentation: shapes, types, exactness, and randomness by the generator alone."""

import pytest
import torch

from nas.errors import DataError, UsageError
from supernets.datasets import Draws, ImageSet, augment, preprocess
from supernets.datasets.augment import random_crop, random_erase, random_flip, random_resized_crop

devices = ["cpu", pytest.param("cuda", marks=pytest.mark.gpu)]


def random_images(count=64, channels=1, side=28, device="cpu"):
    generator = torch.Generator().manual_seed(0)
    return torch.randint(256, (count, channels, side, side), generator=generator, dtype=torch.uint8).to(device)


def seeded(seed=0, device="cpu"):
    return Draws(torch.Generator(device).manual_seed(seed))


def test_subset_keeps_images_with_their_labels():
    images = random_images(10)
    data = ImageSet(images, torch.arange(10), tuple("abcdefghij"))
    part = data.subset(torch.tensor([7, 2]))
    assert len(part) == 2 and part.labels.tolist() == [7, 2] and torch.equal(part.images[1], images[2])


@pytest.mark.parametrize(("images", "labels", "message"), [
    (torch.zeros(2, 1, 4, 4), torch.zeros(2, dtype=torch.int64), r"torch.float32 \(2, 1, 4, 4\); allowed: uint8"),
    (torch.zeros(2, 4, 4, dtype=torch.uint8), torch.zeros(2, dtype=torch.int64), r"images are torch.uint8 \(2, 4, 4\)"),
    (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.zeros(3, dtype=torch.int64), r"allowed: int64 \(2,\)"),
    (torch.zeros(2, 1, 4, 4, dtype=torch.uint8), torch.tensor([0, 2]), "labels are 0 to 2; allowed: 0 to 1"),
])  # fmt: skip
def test_image_set_refuses_what_does_not_fit(images, labels, message):
    with pytest.raises(DataError, match=message):
        ImageSet(images, labels, ("a", "b"))


@pytest.mark.parametrize("device", devices)
@pytest.mark.parametrize(("channels", "resolution"), [(1, 28), (1, 20), (3, 24), (3, 40)])
def test_preprocess_gives_float_images_of_the_resolution(device, channels, resolution):
    images = random_images(5, channels, device=device)
    result = preprocess(images, resolution, [0.5] * channels, [0.25] * channels)
    assert result.shape == (5, channels, resolution, resolution)
    assert result.dtype == torch.float32 and result.device.type == device


def test_preprocess_normalises_exactly_without_resampling():
    images = random_images(3, 3)
    mean, std = (0.1, 0.5, 0.9), (0.2, 0.3, 0.4)
    before = images.clone()
    expected = (images / 255 - torch.tensor(mean).view(1, 3, 1, 1)) / torch.tensor(std).view(1, 3, 1, 1)
    assert torch.allclose(preprocess(images, 28, mean, std), expected, atol=1e-5)
    assert torch.equal(images, before)


def test_preprocess_antialiases():
    stripes = torch.zeros(1, 1, 28, 28, dtype=torch.uint8)
    stripes[..., ::2] = 255
    inner = preprocess(stripes, 14, [0.0], [1.0])[..., 2:-2]
    assert inner.sub(0.5).abs().max() < 0.01


def test_preprocess_does_not_depend_on_the_batch():
    images = random_images(7)
    whole = preprocess(images, 20, [0.3], [0.4])
    single = torch.cat([preprocess(image[None], 20, [0.3], [0.4]) for image in images])
    assert torch.allclose(whole, single, atol=1e-6)
    assert preprocess(images[:0], 20, [0.3], [0.4]).shape == (0, 1, 20, 20)


@pytest.mark.parametrize(("images", "resolution", "mean", "std", "message"), [
    (torch.zeros(1, 1, 4, 4), 4, [0.5], [0.5], "images are torch.float32"),
    (torch.zeros(1, 4, 4, dtype=torch.uint8), 4, [0.5], [0.5], "allowed: uint8"),
    (random_images(1, 3), 4, [0.5], [0.5], "images of 3 channels; allowed: one value a channel"),
    (random_images(1), 4, [0.5], [0.0], "std above 0"),
    (random_images(1), 0, [0.5], [0.5], "resolution 0; allowed: 1 and above"),
])  # fmt: skip
def test_preprocess_refuses_what_does_not_fit(images, resolution, mean, std, message):
    with pytest.raises(UsageError, match=message):
        preprocess(images, resolution, mean, std)


@pytest.mark.parametrize("device", devices)
@pytest.mark.parametrize("dtype", [torch.uint8, torch.float32])
def test_augment_keeps_shape_type_and_its_argument(device, dtype):
    images = random_images(16, 3, device=device).to(dtype)
    before = images.clone()
    result = augment(images, seeded(device=device), erase=0.5)
    assert result.shape == images.shape and result.dtype == dtype and result.device == images.device
    assert torch.equal(images, before) and not torch.equal(result, images)


def test_augment_depends_on_the_generator_alone():
    images = random_images()
    first, again, other = (augment(images, seeded(seed), erase=0.5) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert torch.equal(augment(images, seeded(), flip=0, shift=0, erase=0), images)


@pytest.mark.parametrize("rows", [[0, 1, 2, 3], [3], [5, 6, 7, 0]])
def test_augment_of_some_of_a_batch_is_that_of_the_batch(rows):
    images, rows = random_images(8), torch.tensor(rows)
    options = {"crop": 0.3, "flip": 0.5, "shift": 0.1, "erase": 0.5}
    whole = augment(images, seeded(), **options)
    assert torch.equal(augment(images[rows], Draws(seeded().generator, rows, 8), **options), whole[rows])


def test_flip_mirrors_about_half_of_the_images():
    images = random_images(1000, side=8)
    flipped = random_flip(images, seeded(), 0.5)
    mirrored = (flipped == images.flip(-1)).flatten(1).all(1)
    kept = (flipped == images).flatten(1).all(1)
    assert (mirrored ^ kept).all() and 400 < mirrored.sum() < 600


def test_crop_shifts_each_image_by_its_own_draw():
    images = torch.zeros(2000, 2, 10, 12, dtype=torch.uint8)
    images[..., 5, 6] = 200
    cropped = random_crop(images, seeded(), 0.25, fill=7)
    assert torch.equal(cropped[:, 0], cropped[:, 1])
    places = (cropped[:, 0] == 200).nonzero()
    assert len(places) == 2000
    assert places[:, 1].unique().tolist() == [3, 4, 5, 6, 7]  # up to round(2.5) = 2 rows
    assert places[:, 2].unique().tolist() == [3, 4, 5, 6, 7, 8, 9]  # up to 3 columns
    row = cropped[(cropped[:, 0, 3, :] == 200).any(1)][0, 0]  # moved up by 2: two rows of padding came in below
    assert (row[-2:] == 7).all()


def test_a_resized_crop_shows_a_part_of_the_image_at_full_size():
    """On a ramp of columns, and one of rows, a crop is a ramp again: as long as its side, inside the whole."""
    ramp = torch.arange(32.0).expand(1, 32, 32)
    images = torch.stack([ramp, ramp.transpose(1, 2)]).repeat(200, 1, 1, 1)
    parts = random_resized_crop(images, seeded(), 0.25)
    assert parts.shape == images.shape and parts.min() >= 0 and parts.max() <= 31
    wide = (parts[::2, 0, 16, 30] - parts[::2, 0, 16, 1]) / 29  # columns of the image for one of the crop
    tall = (parts[1::2, 0, 30, 16] - parts[1::2, 0, 1, 16]) / 29
    assert 0.4 < wide.min() < 0.6 and 0.4 < tall.min() < 0.6 and wide.max() <= 1.001 and wide.std() > 0.1
    assert torch.equal(parts, random_resized_crop(images, seeded(), 0.25))


def test_erase_fills_one_rectangle_of_some_images():
    images = torch.full((2000, 3, 28, 28), 9, dtype=torch.uint8)
    erased = random_erase(images, seeded(), 0.5, fill=0) == 0
    touched = erased.flatten(1).any(1)
    assert 900 < touched.sum() < 1100
    assert torch.equal(erased[:, 0], erased[:, 2])
    masks = erased[touched, 0]
    rows, columns = masks.any(2).sum(1), masks.any(1).sum(1)
    assert torch.equal(masks.flatten(1).sum(1), rows * columns)  # a full rectangle
    fraction = masks.float().mean((1, 2))
    assert fraction.min() > 0.01 and fraction.max() < 0.3
    assert masks.any(0).all()  # every place can be erased


@pytest.mark.parametrize("name", ["crop", "flip", "shift", "erase"])
def test_augment_refuses_what_is_no_fraction(name):
    with pytest.raises(UsageError, match=rf"augment: {name} 1.5; allowed: 0 to 1"):
        augment(random_images(2), seeded(), **{name: 1.5})


def test_augment_refuses_a_generator_elsewhere():
    with pytest.raises(UsageError, match="augment: generator on cpu, images on meta; allowed: one device"):
        augment(random_images(2).to("meta"), seeded())
