"""Augmentation of a whole batch at once, each image by its own draw, on the device where the batch is.

torchvision's transforms draw once a batch, timm's ``RandomErasing`` loops over the images in Python; on small images
that loop costs more than the training step. Here every draw is one tensor operation over the batch.

Random resized crop: Szegedy et al., "Going Deeper with Convolutions", CVPR 2015, to the size that the image had.
Random erasing: Zhong et al., "Random Erasing Data Augmentation", AAAI 2020. Departures: the rectangle is cut to the
image where the drawn sides exceed it, instead of drawn again, and is filled with one value: black if nothing else is
said, as what a shift brings in, where the paper takes random values.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from nas.errors import UsageError

_CROPPED_ASPECT = (3 / 4, 4 / 3)
_ERASED_AREA = (0.02, 0.25)
_ERASED_ASPECT = (1 / 3, 3.0)


@dataclass(frozen=True)
class Draws:
    """Where the random numbers of a batch come from, a number an image.

    Attributes:
        generator: Their source, on the images' device.
        rows: int64 ``(n,)``, the places of the ``n`` images in a batch of ``whole``; each has the numbers that it would
            have with all of them there. None where they are the batch.
        whole: Images of that batch.
    """

    generator: torch.Generator
    rows: Tensor | None = None
    whole: int = 0

    def uniform(self, images: Tensor) -> Tensor:
        """Return one draw an image from [0, 1): float32 ``(n,)``."""
        return self._own(torch.rand(self._count(images), generator=self.generator, device=images.device))

    def integers(self, images: Tensor, below: int) -> Tensor:
        """Return one draw an image from 0 to ``below`` - 1: int64 ``(n,)``."""
        return self._own(torch.randint(below, (self._count(images),), generator=self.generator, device=images.device))

    def _count(self, images: Tensor) -> int:
        return len(images) if self.rows is None else self.whole

    def _own(self, drawn: Tensor) -> Tensor:
        return drawn if self.rows is None else drawn[self.rows]


def augment(
    images: Tensor,
    draws: Draws,
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
        draws: Source of every draw.
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
    device = draws.generator.device
    if device.type != images.device.type:
        raise UsageError(f"augment: generator on {device}, images on {images.device}; allowed: one device")
    if crop < 1:
        images = random_resized_crop(images, draws, crop)
    if flip:
        images = random_flip(images, draws, flip)
    if shift:
        images = random_crop(images, draws, shift, fill)
    if erase:
        images = random_erase(images, draws, erase, fill)
    return images


def random_resized_crop(images: Tensor, draws: Draws, least_area: float) -> Tensor:
    """Replace each image by a random part of it, of ``least_area`` of its area or more, resized bilinearly."""
    area = least_area + (1 - least_area) * draws.uniform(images)
    aspect = torch.exp(math.log(_CROPPED_ASPECT[0]) * (2 * draws.uniform(images) - 1))
    tall, wide = (area / aspect).sqrt().clamp(max=1), (area * aspect).sqrt().clamp(max=1)
    down, right = ((1 - side) * (2 * draws.uniform(images) - 1) for side in (tall, wide))
    none = torch.zeros_like(wide)
    parts = torch.stack([wide, none, right, none, tall, down], dim=1).view(-1, 2, 3)
    grid = functional.affine_grid(parts, list(images.shape), align_corners=False)
    resized = functional.grid_sample(images.float(), grid, padding_mode="border", align_corners=False)
    return (resized if images.is_floating_point() else resized.round()).to(images.dtype)


def random_flip(images: Tensor, draws: Draws, probability: float) -> Tensor:
    """Mirror each image left to right with ``probability``."""
    flipped = draws.uniform(images) < probability
    return torch.where(flipped.view(-1, 1, 1, 1), images.flip(-1), images)


def random_crop(images: Tensor, draws: Draws, fraction: float, fill: float = 0.0) -> Tensor:
    """Pad each side by ``fraction`` of it with ``fill`` and crop the old size at a random place, each image its own."""
    count, channels, height, width = images.shape
    pad_y, pad_x = round(fraction * height), round(fraction * width)
    padded = functional.pad(images, (pad_x, pad_x, pad_y, pad_y), value=fill)
    rows = draws.integers(images, 2 * pad_y + 1)[:, None] + torch.arange(height, device=images.device)
    columns = draws.integers(images, 2 * pad_x + 1)[:, None] + torch.arange(width, device=images.device)
    numbers = torch.arange(count, device=images.device).view(-1, 1, 1, 1)
    planes = torch.arange(channels, device=images.device).view(1, -1, 1, 1)
    return padded[numbers, planes, rows.view(count, 1, height, 1), columns.view(count, 1, 1, width)]


def random_erase(images: Tensor, draws: Draws, probability: float, fill: float = 0.0) -> Tensor:
    """Erase, with ``probability``, one rectangle of each image, of random area, aspect and place."""
    height, width = images.shape[-2:]
    low, high = _ERASED_AREA
    area = (low + (high - low) * draws.uniform(images)) * height * width
    log_low, log_high = map(math.log, _ERASED_ASPECT)
    aspect = torch.exp(log_low + (log_high - log_low) * draws.uniform(images))
    tall = (area * aspect).sqrt().round().clamp(1, height)
    wide = (area / aspect).sqrt().round().clamp(1, width)
    top = (draws.uniform(images) * (height - tall + 1)).floor()
    left = (draws.uniform(images) * (width - wide + 1)).floor()
    inside_rows = _inside(top, tall, height)
    inside_columns = _inside(left, wide, width)
    erased = inside_rows[:, None, :, None] & inside_columns[:, None, None, :]
    erased &= (draws.uniform(images) < probability).view(-1, 1, 1, 1)
    return images.masked_fill(erased, fill)


def _inside(start: Tensor, length: Tensor, size: int) -> Tensor:
    """Which of ``size`` places lie in ``[start, start + length)``: bool ``(n, size)``."""
    places = torch.arange(size, device=start.device)
    return (places >= start[:, None]) & (places < (start + length)[:, None])
