"""The gradients of a depthwise convolution on a processor.

oneDNN has a fast kernel of a depthwise convolution's weight gradient for at most three columns and no rows of padding;
without it, 5 x 5 and 7 x 7 take most of a supernet's step. So the gradient of a wider kernel is put together from
groups of three columns, each of the input moved sideways. The input's gradient is at stride 1 a depthwise convolution
itself, by the kernel turned half around.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.grad import conv2d_input, conv2d_weight

COLUMNS = 3  # the widest kernel whose weight gradient is fast
CHUNK = 2**19  # values of the images that are moved at a time, few enough to stay in the cache


def differentiable_depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve each channel of ``(n, c, h, w)`` by its own ``weight (c, 1, k, k)``, padded by ``k // 2``."""
    in_fp32 = x.dtype == weight.dtype == torch.float32 and not torch.is_autocast_enabled(x.device.type)
    if in_fp32 and weight.requires_grad and weight.shape[-1] > COLUMNS:
        result: Tensor = _WideDepthwise.apply(x, weight, stride)
        return result
    return _depthwise(x, weight, stride)


def _depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=x.shape[1])


class _WideDepthwise(torch.autograd.Function):
    """A depthwise convolution by a kernel of more columns than ``COLUMNS``."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        ctx.save_for_backward(x, weight)
        ctx.stride = stride
        return _depthwise(x, weight, stride)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, weight = ctx.saved_tensors
        grad = grad.contiguous(memory_format=torch.channels_last)
        to_x = _input_gradient(grad, x, weight, ctx.stride) if ctx.needs_input_grad[0] else None
        to_weight = _weight_gradient(grad, x, weight, ctx.stride) if ctx.needs_input_grad[1] else None
        return to_x, to_weight, None


def _input_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    if stride == 1:
        return _depthwise(grad, weight.flip(2, 3), 1)
    return conv2d_input(x.shape, weight, grad, stride, weight.shape[-1] // 2, groups=x.shape[1])


def _weight_gradient(grad: Tensor, x: Tensor, weight: Tensor, stride: int) -> Tensor:
    images = max(1, CHUNK // x[0].numel())
    parts = zip(grad.split(images), x.split(images), strict=True)
    return torch.stack([_gradient_of_columns(*part, weight.shape, stride) for part in parts]).sum(0)


def _gradient_of_columns(grad: Tensor, x: Tensor, shape: torch.Size, stride: int) -> Tensor:
    """Return the weight's gradient over some images, three columns at a time."""
    channels, _, kernel, _ = shape
    border = kernel // 2
    columns: dict[int, Tensor] = {}
    for start in range(0, kernel, COLUMNS):
        first = min(start, kernel - COLUMNS)
        after = first + COLUMNS - 1
        moved = F.pad(x, (border - first, after - border, border, border))
        part = conv2d_weight(moved, (channels, 1, kernel, COLUMNS), grad, stride, groups=channels)
        columns |= {first + number: part[..., number] for number in range(COLUMNS)}
    return torch.stack([columns[number] for number in range(kernel)], dim=-1)
