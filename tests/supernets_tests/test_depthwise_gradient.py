"""On a processor too, a depthwise convolution has the gradients of ``conv2d``."""

import pytest
import torch
from torch.nn import functional

from supernets.depthwise_gradient import differentiable_depthwise


@pytest.mark.parametrize("layout", [torch.channels_last, torch.contiguous_format])
@pytest.mark.parametrize("stride", [1, 2])
@pytest.mark.parametrize("kernel", [3, 5, 7, 9])
@pytest.mark.parametrize("sides", [(4, 4), (7, 5), (16, 16), (9, 12)])
def test_the_gradients_of_a_depthwise_convolution_are_its_gradients(
    kernel: int, stride: int, sides: tuple[int, int], layout: torch.memory_format
) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(2, 8, *sides, generator=generator).contiguous(memory_format=layout).requires_grad_()
    weight = torch.randn(8, 1, kernel, kernel, generator=generator, requires_grad=True)
    expected = functional.conv2d(x.double(), weight.double(), stride=stride, padding=kernel // 2, groups=8)
    towards = torch.randn(expected.shape, generator=generator)
    found = differentiable_depthwise(x, weight, stride)
    torch.testing.assert_close(found, expected.float(), rtol=1e-4, atol=1e-4)
    for one, other in zip(
        torch.autograd.grad(found, (x, weight), towards),
        torch.autograd.grad(expected, (x, weight), towards.double()),
        strict=True,
    ):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-4)


def test_a_depthwise_convolution_in_bfloat16_has_gradients_too() -> None:
    x, weight = torch.randn(1, 8, 6, 6, requires_grad=True), torch.randn(8, 1, 5, 5, requires_grad=True)
    with torch.autocast("cpu", torch.bfloat16):
        differentiable_depthwise(x, weight, 1).float().sum().backward()
    assert x.grad is not None and weight.grad is not None and weight.grad.isfinite().all()
