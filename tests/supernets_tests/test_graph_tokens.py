"""What attention is made of, and what scales channels, is written as torch computes it."""

from collections.abc import Callable

import numpy as np
import onnx
import pytest
import torch
from test_graph import Function, exported_by_torch, images, logits
from torch import Tensor, nn
from torch.nn import functional

from nas.errors import UsageError
from supernets.graph import to_onnx

SIDE = 4


class Tokens(nn.Module):
    """A convolution, its pixels as rows, self-attention with biases, a GELU, the mean over the pixels."""

    def __init__(self, heads: int = 2, key: int = 8):
        super().__init__()
        self.heads, self.key = heads, key
        self.conv = nn.Conv2d(3, 16, 3, padding=1)
        self.norm = nn.LayerNorm(16, eps=1e-3)
        self.qkv = nn.Linear(16, 3 * heads * key)
        self.biases = nn.Parameter(torch.randn(heads, SIDE * SIDE))
        self.register_buffer("index", torch.arange(SIDE**4).view(SIDE**2, SIDE**2) % SIDE**2)
        self.project = nn.Linear(heads * key, 16)
        self.scale = nn.Parameter(torch.rand(16))
        self.act = nn.GELU()
        self.classifier = nn.Linear(16, 5)

    def forward(self, x: Tensor) -> Tensor:
        x = self.conv(x).flatten(2).permute(0, 2, 1).reshape(-1, 16)
        parts = self.qkv(self.norm(x)).view(-1, SIDE * SIDE, self.heads, 3 * self.key)
        q, k, v = parts.split([self.key, self.key, self.key], dim=3)
        scores = (q * self.key**-0.5).permute(0, 2, 1, 3) @ k.permute(0, 2, 3, 1)
        attention = (scores + self.biases[:, self.index]).softmax(dim=-1)
        y = (attention @ v.permute(0, 2, 1, 3)).permute(0, 2, 1, 3).reshape(-1, self.heads * self.key)
        x = self.act(x + self.project(y) * self.scale)
        logits: Tensor = self.classifier(x.reshape(-1, SIDE * SIDE, 16).mean(1))
        return logits


class Scaled(nn.Module):
    """A convolution, batch normalisation where there is one, and a product with a constant."""

    def __init__(self, bias: bool, norm: bool, twice: bool = False):
        super().__init__()
        conv = nn.Conv2d(3, 4, 3, bias=bias)
        self.layers = nn.Sequential(conv, nn.BatchNorm2d(4)) if norm else nn.Sequential(conv)
        self.scale = nn.Parameter(torch.rand(4))
        self.twice = twice

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.layers(x)
        z = self.scale.view(4, 1, 1) * y
        return z + y if self.twice else z


@pytest.fixture
def net() -> nn.Module:
    torch.manual_seed(0)
    return Tokens().eval()


def test_attention_is_written_as_torch_computes_it(net: nn.Module) -> None:
    x = images(count=3, resolution=SIDE)
    expected = net(x).detach().numpy()
    for batch in (3, "N"):
        model = to_onnx(net, 3, SIDE, batch)
        onnx.checker.check_model(model, full_check=True)
        np.testing.assert_allclose(logits(model, x), expected, rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_attention_runs_as_the_graph_that_torch_exports(net: nn.Module) -> None:
    x = images(resolution=SIDE)
    expected = logits(exported_by_torch(net, x), x)
    np.testing.assert_allclose(logits(to_onnx(net, 3, SIDE), x), expected, rtol=0, atol=1e-4)


def test_what_parameters_alone_decide_is_one_tensor(net: nn.Module) -> None:
    model = to_onnx(net, 3, SIDE)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    assert shapes["biases"] == (2, SIDE**2, SIDE**2)
    assert "scale" not in shapes and "Gather" not in {node.op_type for node in model.graph.node}


@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("norm", [False, True])
def test_a_scale_after_a_convolution_is_folded_into_it(bias: bool, norm: bool) -> None:
    torch.manual_seed(0)
    net, x = Scaled(bias, norm).eval(), images()
    model = to_onnx(net, 3, 14)
    assert [node.op_type for node in model.graph.node] == ["Conv"]
    np.testing.assert_allclose(logits(model, x), net(x).detach().numpy(), rtol=0, atol=1e-5)


def test_a_scale_stays_where_the_convolution_has_another_reader() -> None:
    torch.manual_seed(0)
    net, x = Scaled(bias=True, norm=True, twice=True).eval(), images()
    model = to_onnx(net, 3, 14)
    assert [node.op_type for node in model.graph.node] == ["Conv", "Mul", "Add"]
    np.testing.assert_allclose(logits(model, x), net(x).detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.gelu(x, approximate="tanh"),
        lambda x: 2 - functional.gelu(x) * 0.1234567 + 0.1234568,
        lambda x: functional.softmax(x, dim=1),
        lambda x: torch.softmax(x, -1),
        lambda x: x.mean((2, 3)),
        lambda x: torch.mean(x, dim=-1, keepdim=True),
        lambda x: x.permute((0, 2, 3, 1)),
        lambda x: x + torch.ones(3),
        lambda x: x + x.split([1, 3], dim=1)[0],
    ],
)
def test_functional_forms_are_written_as_torch_computes_them(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    net, x = Function(function).eval(), images(resolution=5)
    np.testing.assert_allclose(logits(to_onnx(net, 3, 5), x), net(x).detach().numpy(), rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.LayerNorm(4, elementwise_affine=False)), "cannot write LayerNorm without weights in 0"),
        (Function(lambda x: x.mean()), "cannot write the mean over all axes"),
        (Function(lambda x: x.split(2)[0]), "cannot write split into parts of 2"),
        (Function(lambda x: x[:, 0]), r"cannot write conv\[\(slice\(None, None, None\), 0\)\]"),
        (Function(lambda x: x.reshape(x.shape[0], -1)), "cannot write getattr"),
        (Function(lambda x: x.reshape(shape=(1, -1))), r"cannot write reshape to \[\]"),
        (Function(lambda x: torch.ones(3).add(1)), "it must return one tensor, computed last"),
        (nn.Sequential(nn.Softmax()), "cannot write softmax over the axis None"),
    ],
)
def test_what_cannot_be_written_is_named(net: nn.Module, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        to_onnx(net.eval(), 3, 4)
