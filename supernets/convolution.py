"""Convolutions whose channel count changes from step to step.

On a GPU, cuDNN builds a plan for every new shape, which for depthwise convolutions takes about a second. So there a 1x1
convolution is a matrix product over pixels, and a depthwise convolution of a small feature map is one batched product
with its band matrices. Elsewhere both are ``conv2d``.
"""

import functools

import torch
import torch.nn.functional as F
from torch import Tensor

LARGEST_MAP = 256  # input pixels up to which a channel's band matrix (pixels in x pixels out) stays cheap


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve ``(n, c, h, w)`` by ``weight (out, c, 1, 1)``."""
    if not x.is_cuda:
        return F.conv2d(x, weight)
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve each channel of ``(n, c, h, w)`` by its own ``weight (c, 1, k, k)``, padded by ``k // 2``."""
    if not x.is_cuda or x.shape[2] * x.shape[3] > LARGEST_MAP:
        return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=x.shape[1])
    return banded_depthwise(x, weight, stride)


def banded_depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Compute ``depthwise`` as one matrix product a channel: pixels in times band matrix."""
    count, channels, height, width = x.shape
    taps = _taps(weight.shape[-1], height, width, stride, x.device)
    bands = (weight.view(channels, -1) @ taps.flatten(1)).view(channels, height * width, -1)
    y = torch.bmm(x.permute(1, 0, 2, 3).reshape(channels, count, height * width), bands)
    out_height, out_width = -(-height // stride), -(-width // stride)
    return (
        y.view(channels, count, out_height, out_width).permute(1, 0, 2, 3).contiguous(memory_format=torch.channels_last)
    )


@functools.lru_cache(maxsize=256)
def _taps(kernel: int, height: int, width: int, stride: int, device: torch.device) -> Tensor:
    """Return the input pixel each tap reads for each output pixel: one-hot ``(k * k, h * w, outputs)``."""
    # Kept for later calls, so not in the mode of this one: a tensor of inference mode cannot be trained through.
    with torch.inference_mode(False), torch.no_grad(), torch.autocast(device.type, enabled=False):
        impulses = torch.eye(kernel * kernel, device=device).view(kernel * kernel, 1, kernel, kernel)
        pixels = torch.eye(height * width, device=device).view(height * width, 1, height, width)
        responses = F.conv2d(pixels, impulses, stride=stride, padding=kernel // 2)
        return responses.flatten(2).transpose(0, 1).contiguous()
