"""Convolutions whose channel count changes from step to step.

On a GPU, cuDNN builds a plan for every new shape, which for depthwise convolutions takes about a second. So there a 1x1
convolution is a matrix product over pixels, and a depthwise convolution runs kernels that are compiled once for all
shapes, ``supernets/triton_depthwise.py``, where Triton can run. Elsewhere both are ``conv2d``, on a processor with
gradients of its own for wide depthwise kernels.
"""

import functools
import os
import shutil
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.depthwise_gradient import differentiable_depthwise


def pointwise(x: Tensor, weight: Tensor) -> Tensor:
    """Convolve ``(n, c, h, w)`` by ``weight (out, c, 1, 1)``."""
    if not x.is_cuda:
        return F.conv2d(x, weight)
    return F.linear(x.permute(0, 2, 3, 1), weight.flatten(1)).permute(0, 3, 1, 2)


def depthwise(x: Tensor, weight: Tensor, stride: int) -> Tensor:
    """Convolve each channel of ``(n, c, h, w)`` by its own ``weight (c, 1, k, k)``, padded by ``k // 2``."""
    if x.is_cuda and x.shape[1] % 8 == 0 and x.dtype != torch.float64:
        kernels = _depthwise_kernels()
        if kernels is not None:
            return kernels(x, weight, stride)
    if x.device.type == "cpu":
        return differentiable_depthwise(x, weight, stride)
    return F.conv2d(x, weight, stride=stride, padding=weight.shape[-1] // 2, groups=x.shape[1])


@functools.cache
def _depthwise_kernels() -> Callable[[Tensor, Tensor, int], Tensor] | None:
    """Return the depthwise convolution for GPUs; None without Triton, a C compiler for it or a GPU it supports."""
    compiler = os.environ.get("CC") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None or torch.cuda.get_device_capability() < (7, 0):
        return None
    try:
        from supernets.triton_depthwise import depthwise
    except ImportError:
        return None
    return depthwise
