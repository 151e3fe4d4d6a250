"""A graph that was written is read back as a torch network with the same logits, and torch's own activations."""

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from tiny_families import TINY
from torch import fx, nn

from latency_tables.builder import timing_model
from latency_tables.costs import Images
from nas.compression import HOST
from nas.errors import UsageError
from supernets.graph import to_onnx
from supernets.graph.reader import from_onnx


def agreeing(graph: ModelProto, channels: int, side: int) -> fx.GraphModule:
    """Return the network of a graph, after comparing their logits."""
    network, rng = from_onnx(graph), np.random.default_rng(0)
    images = rng.standard_normal((3, channels, side, side), dtype=np.float32)
    with torch.inference_mode():
        found = network(torch.from_numpy(images)).numpy()
    expected = HOST.session(graph.SerializeToString()).run(None, {"input": images})[0]
    np.testing.assert_allclose(found, expected, atol=1e-5 * max(1.0, float(np.abs(expected).max())))
    return network


@pytest.mark.parametrize("family", TINY)
def test_a_network_of_every_family_is_read_as_it_was_written(family: str) -> None:
    space = TINY[family]()
    for row in (space.largest(), space.smallest(), *space.sample(3, np.random.default_rng(0))):
        row = space.with_precision(row[None], "fp32")[0]
        graph = onnx.load_from_string(timing_model(space, row, Images(1, 3)))
        agreeing(graph, 1, space.candidate(row).resolution)


def test_what_was_spelt_out_is_one_activation_again() -> None:
    net = nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.Hardswish(), nn.MaxPool2d(3, 2, 1), nn.Conv2d(8, 8, 1), nn.Hardsigmoid(), nn.GELU(),
        nn.AvgPool2d(2, ceil_mode=True), nn.ReLU6(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, 5),
    ).eval()  # fmt: skip
    network = agreeing(to_onnx(net, 1, 13, "N"), 1, 13)
    called = [getattr(node.target, "__name__", "") for node in network.graph.nodes if node.op == "call_function"]
    assert called == ["hardswish", "hardsigmoid", "gelu", "relu6", "flatten"]


def one_node(*arguments: object, **attributes: object) -> ModelProto:
    """Return a graph of one node from ``input`` (1, 4, 4, 4)."""
    node = helper.make_node(*arguments, name="it", **attributes)
    given = helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, 4, 4, 4])
    weight = helper.make_tensor("weight", TensorProto.FLOAT, [4, 4], np.eye(4, dtype=np.float32).ravel())
    output = helper.make_tensor_value_info("output", TensorProto.FLOAT, None)
    return helper.make_model(helper.make_graph([node], "one", [given], [output], [weight]))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (one_node("Sin", ["input"], ["output"]), r"cannot read Sin \(it\) as torch; supported: Add, AveragePool, Clip"),
        (one_node("QuantizeLinear", ["input", "s"], ["output"]), r"cannot read QuantizeLinear \(it\) as torch"),
        (
            one_node("Gemm", ["input", "weight"], ["output"], alpha=2.0),
            r"cannot read Gemm \(it\) as torch with {'alpha': 2.0}; supported: transB alone",
        ),
        (
            one_node("MaxPool", ["input"], ["output"], kernel_shape=[2, 2], pads=[0, 0, 1, 1]),
            r"cannot read MaxPool \(it\) as torch with pads \[0, 0, 1, 1\]; supported: equal",
        ),
    ],
)
def test_what_the_writer_does_not_write_is_named(model: ModelProto, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        from_onnx(model)
