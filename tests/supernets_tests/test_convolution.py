"""The convolutions of a supernet are plain convolutions, however they are computed.

Triton runs its kernels on a processor where TRITON_INTERPRET is set before it is imported: this file, run as a program.
"""

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from supernets.convolution import depthwise, pointwise

TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 1e-2}  # of the largest value
CASES = [
    (3, 1, (2, 40, 5, 7), torch.float32),
    (3, 2, (1, 8, 28, 32), torch.float32),
    (3, 2, (3, 8, 7, 5), torch.bfloat16),
    (5, 1, (3, 8, 8, 14), torch.bfloat16),
    (5, 2, (2, 72, 7, 8), torch.float32),
    (7, 1, (1, 40, 7, 7), torch.float32),
    (7, 2, (1, 8, 16, 14), torch.bfloat16),
    (9, 1, (1, 8, 5, 3), torch.float32),
    (9, 2, (1, 8, 9, 8), torch.float32),
]


def check_depthwise(
    convolve: Callable[[Tensor, Tensor, int], Tensor],
    kernel: int,
    stride: int,
    shape: tuple[int, int, int, int],
    dtype: torch.dtype,
    device: str,
) -> None:
    """Compare a depthwise convolution and both its gradients with those of ``conv2d`` on a processor in float64."""
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(shape, generator=generator).to(dtype).requires_grad_()
    weight = torch.randn(shape[1], 1, kernel, kernel, generator=generator).to(dtype).requires_grad_()
    expected = F.conv2d(x.double(), weight.double(), stride=stride, padding=kernel // 2, groups=shape[1])
    slopes = torch.randn(expected.shape, generator=generator).to(dtype)
    y = convolve(x.to(device), weight.to(device), stride)
    assert y.dtype is dtype
    assert y.is_contiguous(memory_format=torch.channels_last)
    gradients = torch.autograd.grad(y, (x, weight), slopes.to(device))
    others = torch.autograd.grad(expected, (x, weight), slopes.double())
    for one, other in zip((y, *gradients), (expected, *others), strict=True):
        assert one.shape == other.shape
        error = (one.cpu().double() - other.double()).abs().max() / other.abs().max()
        assert error < TOLERANCES[dtype], (kernel, stride, shape, dtype, error)


def check_modes(convolve: Callable[[Tensor, Tensor, int], Tensor], device: str) -> None:
    """In any order of memory, without autograd, under autocast and with one gradient it is the same convolution."""
    x, weight = torch.randn(2, 16, 6, 6, device=device), torch.randn(8, 1, 3, 3, device=device, requires_grad=True)
    y = convolve(x[:, ::2], weight, 1)
    x = x[:, ::2].contiguous(memory_format=torch.channels_last)
    assert torch.equal(convolve(x, weight, 1), y)
    with torch.inference_mode():
        assert torch.equal(convolve(x, weight, 1), y)
    with torch.autocast(device, torch.bfloat16):
        half = convolve(x.bfloat16(), weight, 1)
    assert torch.equal(half, convolve(x.bfloat16(), weight.bfloat16(), 1))
    half.sum().backward()
    assert weight.grad is not None
    assert weight.grad.dtype is torch.float32
    convolve(x.requires_grad_(), weight.detach(), 2).sum().backward()
    assert x.grad is not None


@pytest.mark.skipif(importlib.util.find_spec("triton") is None, reason="Triton is not installed")
def test_the_depthwise_kernels_are_a_convolution() -> None:
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    subprocess.run([sys.executable, __file__], env=environment, check=True)


def test_a_depthwise_convolution_on_a_processor_is_a_convolution() -> None:
    x, weight = torch.randn(2, 12, 7, 7), torch.randn(12, 1, 5, 5)
    torch.testing.assert_close(depthwise(x, weight, 2), F.conv2d(x, weight, stride=2, padding=2, groups=12))


@pytest.mark.gpu
@pytest.mark.parametrize("case", [*CASES, (7, 1, (64, 192, 14, 14), torch.bfloat16)])
def test_a_depthwise_convolution_on_a_gpu_is_that_of_a_processor(case) -> None:  # type: ignore[no-untyped-def]
    check_depthwise(depthwise, *case, device="cuda")


@pytest.mark.gpu
def test_convolutions_on_a_gpu_run_in_every_mode() -> None:
    x, weight, taps = torch.randn(2, 12, 7, 7), torch.randn(5, 12, 1, 1), torch.randn(12, 1, 3, 3)
    torch.testing.assert_close(pointwise(x.cuda(), weight.cuda()).cpu(), pointwise(x, weight), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(depthwise(x.cuda(), taps.cuda(), 2).cpu(), depthwise(x, taps, 2), rtol=1e-2, atol=1e-2)
    check_modes(depthwise, "cuda")


if __name__ == "__main__":
    assert "supernets.depthwise_kernels" not in sys.modules, "to import supernets is to import no Triton"
    from supernets.triton_depthwise import depthwise as interpreted

    for case in CASES:
        check_depthwise(interpreted, *case, device="cpu")
    check_modes(interpreted, "cpu")
