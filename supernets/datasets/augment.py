"""Augmentation of a whole batch at once, each image by its own draw, on the device where the batch is.

torchvision's transforms draw once a batch, timm's ``RandomErasing`` loops over the images in Python; on small images
that loop costs more than the training step. Here every draw is one tensor operation over the batch.

Random resized crop: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, to the size that the image had.
Random erasing: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020. Departures: the rectangle is cut to the
image where the drawn sides exceed it, instead of drawn again, and is filled with one value.
"""

import math

import torch
from torch import Tensor
from torch.nn import functional

from nas.errors import UsageError

_CROPPED_ASPECT = (3 / 4, 4 / 3)
_ERASED_AREA = (0.02, 0.25)
_ERASED_ASPECT = (1 / 3, 3.0)


def augment(
    images: Tensor,
    generator: torch.Generator,
    *,
    crop: float = 1.0,
    flip: float = 0.5,
    shift: float = 0.1,
    erase: float = 0.0,
    fill: float = 0.0,
) -> Tensor:
    """Return the batch with each image cropped, flipped, shifted and erased at random; the argument is left as it is.

    Args:
        images: ``(n, c, h, w)``, of any dtype, on any device.
        generator: Source of every draw, on the same device.
        crop: Least share of the area that a random crop, of 3:4 to 4:3, resized to the whole, is of; 1 crops nothing.
        flip: Probability of a horizontal flip.
        shift: How far a random crop may move, as a fraction of each side: pad by that much, crop the old size.
        erase: Probability that a rectangle of 2 to 25 % of the area is erased.
        fill: Value of the padding and of erased rectangles, in the units of ``images``.

    Raises:
        UsageError: A probability or fraction outside [0, 1], or a generator on another device.
    """
    for name, value in {"crop": crop, "flip": flip, "shift": shift, "erase": erase}.items():
        if not 0 <= value <= 1:
            raise UsageError(f"augment: {name} {value}; allowed: 0 to 1")
    if generator.device.type != images.device.type:
        raise UsageError(f"augment: generator on {generator.device}, images on {images.device}; allowed: one device")
    if crop < 1:
        images = random_resized_crop(images, generator, crop)
    if flip:
        images = random_flip(images, generator, flip)
    if shift:
        images = random_crop(images, generator, shift, fill)
    if erase:
        images = random_erase(images, generator, erase, fill)
    return images


def random_resized_crop(images: Tensor, generator: torch.Generator, least_area: float) -> Tensor:
    """Replace each image by a random part of it, of ``least_area`` of its area or more, resized bilinearly."""
    area = least_area + (1 - least_area) * _uniform(images, generator)
    aspect = torch.exp(math.log(_CROPPED_ASPECT[0]) * (2 * _uniform(images, generator) - 1))
    tall, wide = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)
    down, right = ((1 - side) * (2 * _uniform(images, generator) - 1) for side in (tall, wide))
    none = torch.zeros_like(wide)
    parts = torch.stack([wide, none, right, none, tall, down], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(parts, list(images.shape), align_corners=False)
    resized = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return (resized if images.is_floating_point() else resized.round()).to(images.dtype)


def random_flip(images: Tensor, generator: torch.Generator, probability: float) -> Tensor:
    """Mirror each image left to right with ``probability``."""
    flipped = _uniform(images, generator) < probability
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)


def random_crop(images: Tensor, generator: torch.Generator, fraction: float, fill: float = 0.0) -> Tensor:
    """Pad each side by ``fraction`` of it with ``fill`` and crop the old size at a random place, each image its own."""
    count, channels, height, width = images.shape
    pad_y, pad_x = round(fraction * height), round(fraction * width)
    padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y), value=fill)
    rows = _integers(images, generator, 2 * pad_y + 1) + torch.arange(height, device=images.device)
    columns = _integers(images, generator, 2 * pad_x + 1) + torch.arange(width, device=images.device)
    numbers = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
    planes = torch.arange(channels, device=images.device).view(1, -1, 1, 1)
    return padded[numbers, planes, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width)]


def random_erase(images: Tensor, generator: torch.Generator, probability: float, fill: float = 0.0) -> Tensor:
    """Erase, with ``probability``, one rectangle of each image, of random area, aspect and place."""
    height, width = images.shape[-2:]
    low, high = _ERASED_AREA
    area = (low + (high - low) * _uniform(images, generator)) * height * width
    log_low, log_high = map(math.log, _ERASED_ASPECT)
    aspect = torch.exp(log_low + (log_high - log_low) * _uniform(images, generator))
    tall = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    top = (_uniform(images, generator) * (height - tall + 1)).floor()
    left = (_uniform(images, generator) * (width - wide + 1)).floor()
    inside_rows = _inside(top, tall, height)
    inside_columns = _inside(left, wide, width)
    erased = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    erased &= (_uniform(images, generator) < probability).view(-1, 1, 1, 1)
    return images.masked_fill(erased, fill)


def _uniform(images: Tensor, generator: torch.Generator) -> Tensor:
    """One draw an image from [0, 1): float32 ``(n,)``."""
    return torch.rand(len(images), generator=generator, device=images.device)


def _integers(images: Tensor, generator: torch.Generator, below: int) -> Tensor:
    """One draw an image from 0 to ``below`` - 1: int64 ``(n, 1)``."""
    return torch.randint(below, (len(images), 1), generator=generator, device=images.device)


def _inside(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Which of ``size`` places lie in ``[start, start + length)``: bool ``(n, size)``."""
    places = torch.arange(size, device=start.device)
    return (places >= start[:, None]) & (places < (start + length)[:, None])
