"""From stored bytes to what a network sees: the one place where images are resized and normalised.

Training, evaluation, calibration and the exported bundle's own check all call ``preprocess``, so that an accuracy means
the same thing everywhere.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn import functional

from nas.errors import UsageError


def preprocess(images: Tensor, resolution: int, mean: Sequence[float], std: Sequence[float]) -> Tensor:
    """Resize to ``resolution`` (bilinear, antialiased) and normalise, on the device where the images are.

    Args:
        images: uint8 ``(n, c, h, w)``.
        resolution: Side of the result in pixels; images that have it already are not resampled.
        mean: One value a channel, for data in [0, 1].
        std: One value a channel, likewise, above 0.

    Returns:
        float32 ``(n, c, resolution, resolution)``.

    Raises:
        UsageError: The images are not uint8 ``(n, c, h, w)``, or mean and std are not one value a channel.
    """
    if images.dtype != torch.uint8 or images.ndim != 4:
        raise UsageError(f"preprocess: images are {images.dtype} {tuple(images.shape)}; allowed: uint8 (n, c, h, w)")
    channels = images.shape[1]
    if len(mean) != channels or len(std) != channels or min(std) <= 0:
        raise UsageError(
            f"preprocess: mean {tuple(mean)} and std {tuple(std)} for images of {channels} channels; "
            "allowed: one value a channel, std above 0"
        )
    if resolution < 1:
        raise UsageError(f"preprocess: resolution {resolution}; allowed: 1 and above")
    pixels = images.to(torch.float32)
    if images.shape[-2:] != (resolution, resolution) and len(images):
        size = (resolution, resolution)
        pixels = functional.interpolate(pixels, size, mode="bilinear", align_corners=False, antialias=True)
    elif not len(images):
        pixels = pixels.new_empty((0, channels, resolution, resolution))
    shift = torch.tensor(mean, dtype=torch.float32, device=images.device).mul_(255).view(1, -1, 1, 1)
    scale = torch.tensor(std, dtype=torch.float32, device=images.device).mul_(255).view(1, -1, 1, 1)
    return pixels.sub_(shift).div_(scale)
