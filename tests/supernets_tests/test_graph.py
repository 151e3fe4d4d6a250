"""The graphs that are written compute what the networks do, and what torch's own exporter writes."""

import io
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn import functional

from nas.errors import UsageError
from search_spaces import get_space
from supernets import get_supernet
from supernets.graph import OPSET, to_onnx

RESOLUTION = 14
ACTIVATIONS: list[type[nn.Module]] = [nn.ReLU, nn.ReLU6, nn.Hardswish, nn.Hardsigmoid, nn.Identity]


class Squeeze(nn.Module):
    """Scales channels by what they hold on average, as squeeze-and-excitation does."""

    def __init__(self, width: int):
        super().__init__()
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.reduce = nn.Conv2d(width, 8, 1)
        self.restore = nn.Conv2d(8, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        return x * functional.hardsigmoid(self.restore(functional.relu(self.reduce(self.pool(x)))))


class Layer(nn.Module):
    def __init__(
        self, width: int, out: int, *, kernel: int, stride: int, groups: int, bias: bool, squeeze: bool, act: int
    ):
        super().__init__()
        self.conv = nn.Conv2d(width, out, kernel, stride, kernel // 2, groups=groups, bias=bias)
        self.bn = nn.BatchNorm2d(out)
        self.act = ACTIVATIONS[act]()
        self.squeeze = Squeeze(out) if squeeze else nn.Identity()
        self.residual = stride == 1 and width == out

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.squeeze(self.act(self.bn(self.conv(x))))
        return x + y if self.residual else y


class Net(nn.Module):
    def __init__(self, layers: list[Layer], width: int):
        super().__init__()
        self.layers = nn.Sequential(*layers)
        self.pool = nn.AdaptiveAvgPool2d(1)
        self.flatten = nn.Flatten()
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(width, 5)

    def forward(self, x: Tensor) -> Tensor:
        logits: Tensor = self.classifier(self.dropout(self.flatten(self.pool(self.layers(x)))))
        return logits


class Function(nn.Module):
    """A function after a convolution."""

    def __init__(self, function: Callable[[Tensor], Tensor]):
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3)
        self.function = function

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.conv(x))


def randomise(net: nn.Module, seed: int) -> nn.Module:
    """Give batch norms statistics of their own, so that folding them wrongly shows."""
    generator = torch.Generator().manual_seed(seed)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.5, generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            nn.init.uniform_(module.weight, 0.5, 1.5, generator=generator)
            nn.init.normal_(module.bias, 0, 0.3, generator=generator)
    return net.eval()


@st.composite
def nets(draw: st.DrawFn) -> nn.Module:
    width, layers = 3, []
    for _ in range(draw(st.integers(1, 4))):
        depthwise = draw(st.booleans())
        out = width if depthwise else draw(st.sampled_from([width, 8, 16]))
        layers.append(
            Layer(
                width,
                out,
                kernel=draw(st.sampled_from([1, 3, 5])),
                stride=draw(st.sampled_from([1, 2])),
                groups=width if depthwise else 1,
                bias=draw(st.booleans()),
                squeeze=draw(st.booleans()),
                act=draw(st.integers(0, len(ACTIVATIONS) - 1)),
            )
        )
        width = out
    torch.manual_seed(draw(st.integers(0, 99)))
    return randomise(Net(layers, width), draw(st.integers(0, 99)))


def session(model: onnx.ModelProto, optimized: Path | None = None) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if optimized is not None:
        options.optimized_model_filepath = str(optimized)
    return onnxruntime.InferenceSession(model.SerializeToString(), options)


def images(count: int = 1, channels: int = 3, resolution: int = RESOLUTION) -> Tensor:
    return torch.randn(count, channels, resolution, resolution, generator=torch.Generator().manual_seed(0))


def logits(model: onnx.ModelProto, x: Tensor) -> np.ndarray:
    result: np.ndarray = session(model).run(["logits"], {"input": x.numpy()})[0]
    return result


def exported_by_torch(net: nn.Module, x: Tensor) -> onnx.ModelProto:
    buffer = io.BytesIO()
    torch.onnx.export(net, (x,), buffer, dynamo=False, input_names=["input"], output_names=["logits"])
    return onnx.load_from_string(buffer.getvalue())


@settings(max_examples=40)
@given(nets())
def test_the_graph_computes_what_the_network_does(net: nn.Module) -> None:
    x = images()
    model = to_onnx(net, 3, RESOLUTION)
    onnx.checker.check_model(model, full_check=True)
    assert not any(node.op_type == "BatchNormalization" for node in model.graph.node)
    np.testing.assert_allclose(logits(model, x), net(x).detach().numpy(), rtol=0, atol=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("seed", range(4))
def test_the_graph_runs_as_the_one_that_torch_exports(seed: int, tmp_path: Path) -> None:
    space = get_space("fashion-mbv3")
    torch.manual_seed(seed)
    candidate = space.candidate(space.sample(1, np.random.default_rng(seed))[0])
    net = randomise(get_supernet("fashion-mbv3", pretrained=False).extract(candidate), seed)
    x = images(channels=1, resolution=candidate.resolution)
    ours, theirs = to_onnx(net, 1, candidate.resolution), exported_by_torch(net, x)
    np.testing.assert_allclose(logits(ours, x), logits(theirs, x), rtol=0, atol=1e-4)
    executed = []
    for name, model in (("ours", ours), ("theirs", theirs)):
        session(model, tmp_path / name)
        executed.append(Counter(node.op_type for node in onnx.load(tmp_path / name).graph.node))
    assert executed[0] == executed[1]


@pytest.mark.slow
def test_the_graph_computes_what_torchs_default_exporter_writes(tmp_path: Path) -> None:
    space = get_space("fashion-mbv3")
    net = randomise(get_supernet("fashion-mbv3", pretrained=False).extract(space.candidate(space.largest())), 0)
    x = images(channels=1, resolution=28)
    path = tmp_path / "torch.onnx"
    torch.onnx.export(net, (x,), path, dynamo=True, input_names=["input"], output_names=["logits"])
    theirs = onnxruntime.InferenceSession(str(path)).run(None, {"input": x.numpy()})[0]
    np.testing.assert_allclose(logits(to_onnx(net, 1, 28), x), theirs, rtol=0, atol=1e-4)


def test_nodes_are_named_after_their_modules() -> None:
    net = randomise(Net([Layer(3, 3, kernel=3, stride=1, groups=3, bias=False, squeeze=True, act=2)], 3), 0)
    names = [node.name for node in to_onnx(net, 3, RESOLUTION).graph.node]
    assert names[0] == "layers.0.conv/Conv"
    assert "layers.0.act/Clip" in names
    assert "layers.0.squeeze/Mul" in names  # x * scale
    assert "layers.0/Add" in names  # the residual
    assert names[-1] == "classifier/Gemm"
    assert len(set(names)) == len(names)


def test_the_batch_may_be_fixed_or_open() -> None:
    net = randomise(Net([Layer(3, 8, kernel=3, stride=2, groups=1, bias=False, squeeze=False, act=0)], 8), 0)
    x = images(6)
    expected = net(x).detach().numpy()
    for batch in (6, "N"):
        np.testing.assert_allclose(logits(to_onnx(net, 3, RESOLUTION, batch), x), expected, rtol=0, atol=1e-4)
    assert session(to_onnx(net, 3, RESOLUTION)).get_inputs()[0].shape == [1, 3, RESOLUTION, RESOLUTION]


def test_a_module_used_twice_keeps_its_place_and_its_weights() -> None:
    torch.manual_seed(0)
    shared = nn.Conv2d(3, 3, 1)
    net = randomise(nn.Sequential(shared, nn.BatchNorm2d(3), nn.ReLU(), shared, nn.BatchNorm2d(3)), 0)
    model, x = to_onnx(net, 3, RESOLUTION), images()
    np.testing.assert_allclose(logits(model, x), net(x).detach().numpy(), rtol=0, atol=1e-4)
    assert [node.name for node in model.graph.node] == ["0/Conv", "2/Relu", "0/Conv_1"]


@pytest.mark.parametrize(
    "function",
    [
        lambda x: functional.hardswish(x) + functional.relu6(x),
        lambda x: x.add(torch.relu(x)).mul(x),
        lambda x: functional.relu(x) - x,
        lambda x: torch.flatten(functional.adaptive_avg_pool2d(x, (1, 1)), start_dim=1),
        lambda x: x.flatten(1),
    ],
)
def test_functional_forms_are_written_too(function: Callable[[Tensor], Tensor]) -> None:
    torch.manual_seed(0)
    net, x = Function(function).eval(), images()
    np.testing.assert_allclose(logits(to_onnx(net, 3, RESOLUTION), x), net(x).detach().numpy(), rtol=0, atol=1e-4)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, stride=2, padding=1),
        nn.MaxPool2d((2, 3), dilation=2),
        nn.MaxPool2d(2, stride=2, padding=1, ceil_mode=True),
        nn.AvgPool2d(3, stride=1, padding=1),
        nn.AvgPool2d(5, stride=3, padding=1, ceil_mode=True),
        nn.AvgPool2d((3, 5), stride=(2, 1), padding=(1, 2), count_include_pad=False),
    ],
)
def test_poolings_are_written_as_torch_computes_them(pool: nn.Module) -> None:
    torch.manual_seed(0)
    net, x = nn.Sequential(nn.Conv2d(3, 4, 3), pool).eval(), images()
    np.testing.assert_allclose(logits(to_onnx(net, 3, RESOLUTION), x), net(x).detach().numpy(), rtol=0, atol=1e-4)


def test_files_carry_the_versions_that_onnxruntime_fuses() -> None:
    model = to_onnx(nn.Sequential(nn.Conv2d(3, 4, 1)).eval(), 3, RESOLUTION)
    assert (model.opset_import[0].version, model.ir_version) == (OPSET, 10)


class Branching(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        return x if x.sum() > 0 else -x


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.Softplus()), r"cannot write Softplus in 1 as ONNX; supported: .*Conv2d"),
        (nn.Sequential(nn.ReLU(), nn.BatchNorm2d(3)), r"cannot write BatchNorm2d in 1 as ONNX"),
        (nn.Sequential(nn.Conv2d(3, 4, 3, padding="same")), r"cannot write Conv2d with padding='same'"),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.AdaptiveAvgPool2d(2)), r"adaptive average pooling to 2 in 1"),
        (
            nn.Sequential(nn.Conv2d(3, 4, 1), nn.MaxPool2d(2, return_indices=True)),
            r"MaxPool2d with return_indices in 1",
        ),
        (nn.Sequential(nn.AvgPool2d(2, divisor_override=3)), r"cannot write AvgPool2d with divisor_override in 0"),
        (Function(lambda x: x.flatten()), r"cannot write flatten of the axes 0 to -1 in the network itself"),
        (Function(lambda x: torch.sigmoid(x)), r"cannot write sigmoid in the network itself"),
        (Function(lambda x: x.add((1, 2))), r"cannot write add with the argument \(1, 2\)"),
        (Function(lambda x: torch.add(x, x, alpha=2)), r"cannot write add with alpha"),
        (Function(lambda x: (x, x)), r"must return one tensor, computed last"),
        (Branching(), r"cannot write Branching as ONNX, its path depends on the data"),
    ],
)
def test_what_cannot_be_written_is_named(net: nn.Module, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        to_onnx(net.eval(), 3, RESOLUTION)


def test_training_mode_is_refused() -> None:
    net = Net([Layer(3, 8, kernel=3, stride=2, groups=1, bias=False, squeeze=False, act=0)], 8)
    with pytest.raises(UsageError, match=r"cannot write layers\.0\.bn as ONNX in training mode; call eval\(\)"):
        to_onnx(net, 3, RESOLUTION)
