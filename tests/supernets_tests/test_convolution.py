"""The convolutions of a supernet are plain convolutions, however they are computed."""

import pytest
import torch

from supernets.convolution import banded_depthwise, depthwise, pointwise


@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7])
@pytest.mark.parametrize("side", [3, 6, 7])
def test_a_banded_depthwise_convolution_is_a_convolution(kernel: int, stride: int, side: int) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 4, side, side, generator=generator, requires_grad=True)
    weight = torch.randn(4, 1, kernel, kernel, generator=generator, requires_grad=True)
    expected, banded = depthwise(x, weight, stride), banded_depthwise(x, weight, stride)
    torch.testing.assert_close(banded, expected, rtol=1e-4, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad(banded.square().sum(), (x, weight)),
        torch.autograd.grad(expected.square().sum(), (x, weight)),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("mode", [torch.inference_mode(), torch.autocast("cpu", torch.bfloat16)])
def test_a_banded_convolution_that_ran_without_training_can_be_trained_through(mode) -> None:  # type: ignore[no-untyped-def]
    side = 11 if isinstance(mode, torch.inference_mode) else 12  # of no other test: what a shape needs is kept
    x, weight = torch.randn(1, 2, side, side), torch.randn(2, 1, 3, 3, requires_grad=True)
    with mode:
        banded_depthwise(x, weight, 1)
    banded = banded_depthwise(x, weight, 1)
    torch.testing.assert_close(banded, depthwise(x, weight, 1), rtol=1e-4, atol=1e-4)
    banded.sum().backward()
    assert weight.grad is not None


@pytest.mark.gpu
def test_convolutions_on_a_gpu_are_those_of_the_cpu() -> None:
    x, weight, taps = torch.randn(2, 8, 7, 7), torch.randn(5, 8, 1, 1), torch.randn(8, 1, 5, 5)
    torch.testing.assert_close(pointwise(x.cuda(), weight.cuda()).cpu(), pointwise(x, weight), rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(depthwise(x.cuda(), taps.cuda(), 2).cpu(), depthwise(x, taps, 2), rtol=1e-2, atol=1e-2)
