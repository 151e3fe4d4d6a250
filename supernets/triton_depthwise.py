"""Depthwise convolution on a GPU that compiles nothing for a new channel count, batch or resolution.

The gradient of the weight is summed in two steps of fixed order, so it is the same in every run.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from triton import cdiv

from supernets import depthwise_kernels as kernels

PROGRAMS = 2048  # about how many the gradient of the weight is spread over: some waves of any GPU

_compiled: dict[tuple[Any, ...], Any] = {}  # kernels by what they are compiled for, see _launch


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve each channel of ``(n, c, h, w)`` by its own ``weight (c, 1, k, k)``, padded by ``k // 2``.

    Args:
        x: Images on a GPU, float32 or a half type, whose channels are a multiple of 8; best in channels_last order.
        weight: Taps, rounded to the dtype of ``x``; ``k`` is odd.
        stride: 1 or 2.

    Returns:
        ``(n, c, h / stride, w / stride)``, rounded up, in the dtype of ``x`` and channels_last order.
    """
    with torch.cuda.device_of(x):  # where Triton launches; in a backward pass autograd sees to it
        return _Depthwise.apply(x, weight, stride)


class _Depthwise(torch.autograd.Function):
    """Runs the kernels where autograd asks for them."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, stride: int) -> Tensor:
        x = x.contiguous(memory_format=torch.channels_last)
        count, channels, height, width = x.shape
        taps = x.new_empty(weight[0].numel(), channels).copy_(weight.reshape(channels, -1).t())
        rows, columns = -(-height // stride), -(-width // stride)
        y = torch.empty(
            (count, channels, rows, columns), dtype=x.dtype, device=x.device, memory_format=torch.channels_last
        )
        programs = _groups(count, rows, columns) * _blocks(channels)
        _launch(kernels.forward, programs, x, taps, y, *_sizes(x), weight.shape[-1], stride)
        ctx.save_for_backward(x, taps)
        ctx.kernel, ctx.stride, ctx.dtype = weight.shape[-1], stride, weight.dtype
        return y

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, dy: Tensor) -> tuple[Tensor | None, Tensor | None, None]:
        x, taps = ctx.saved_tensors
        dy = dy.contiguous(memory_format=torch.channels_last)
        dx = _run_input_gradient(x, taps, dy, ctx.kernel, ctx.stride) if ctx.needs_input_grad[0] else None
        dw = _run_weight_gradient(x, dy, ctx.kernel, ctx.stride).to(ctx.dtype) if ctx.needs_input_grad[1] else None
        return dx, dw, None


def _run_input_gradient(x: Tensor, taps: Tensor, dy: Tensor, kernel: int, stride: int) -> Tensor:
    """Return the gradient of ``x``."""
    dx = torch.empty_like(x)
    programs = _groups(x.shape[0], dy.shape[2], x.shape[3]) * _blocks(x.shape[1]) * stride
    _launch(kernels.input_gradient, programs, dy, taps, dx, *_sizes(x), kernel, stride)
    return dx


def _run_weight_gradient(x: Tensor, dy: Tensor, kernel: int, stride: int) -> Tensor:
    """Return the gradient of the weight, ``(c, 1, k, k)`` in float32."""
    channels = x.shape[1]
    slices = _blocks(channels) * kernel
    chunks = min(_groups(x.shape[0], *dy.shape[2:]), cdiv(PROGRAMS, slices))
    parts = torch.empty((chunks, kernel * kernel, channels), device=x.device)
    _launch(kernels.weight_gradient, chunks * slices, x, dy, parts, *_sizes(x), chunks, kernel, stride)
    return parts.sum(0).t().view(channels, 1, kernel, kernel)


def _launch(function: Any, programs: int, images: Tensor, *rest: Any) -> None:
    """Launch a kernel; the last two arguments are its side and stride.

    The first launch compiles. Later ones use what it returned: Triton's own look-up of it by all arguments takes longer
    than a small kernel. The tensors are aligned alike every time, as channels are a multiple of 8.
    """
    key = (function, images.dtype, images.device.index, *rest[-2:])
    compiled = _compiled.get(key)
    if compiled is not None:
        compiled[(programs, 1, 1)](images, *rest)
    elif (compiled := function[(programs,)](images, *rest)) is not None:  # Triton's interpreter compiles nothing
        _compiled[key] = compiled


def _sizes(x: Tensor) -> tuple[int, int, int, int]:
    """Return the kernels' SIZES."""
    count, channels, height, width = x.shape
    return count, channels // kernels.CHANNELS.value, height, width


def _groups(count: int, rows: int, columns: int) -> int:
    """Return how many groups of strips some images are."""
    return cdiv(count * rows * cdiv(columns, kernels.STRIP.value), kernels.GROUP.value)


def _blocks(channels: int) -> int:
    """Return how many blocks some channels are."""
    return cdiv(channels, kernels.BLOCK.value)
