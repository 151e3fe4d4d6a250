"""Any classifier becomes a graph of one form with the same logits, and what has another form is refused in one line."""

from pathlib import Path

import numpy as np
import pytest
import torch
from onnx import ModelProto, TensorProto, helper
from small_classifier import CHANNELS, FLATTEN, SIDE, foreign, graph_of, small_classifier
from torch import nn

from nas.compression import HOST
from nas.compression.canonical import canonical, graph_reference, image_shape
from nas.compression.network_graph import network_graph
from nas.errors import UsageError


def logits(model: ModelProto, images: torch.Tensor) -> np.ndarray:
    return HOST.session(model.SerializeToString()).run(None, {"input": images.numpy()})[0]


def test_a_foreign_graph_has_the_same_logits_in_the_one_form(tmp_path: Path) -> None:
    small = small_classifier()
    model = foreign(small.network, tmp_path / "net.onnx")
    assert "HardSwish" in {node.op_type for node in model.graph.node}
    found = canonical(model, "net", CHANNELS, SIDE)
    assert not {"HardSwish", "HardSigmoid", "BatchNormalization"} & {node.op_type for node in found.graph.node}
    assert {one.domain for one in found.opset_import} == {""}
    expected = small.network(small.images).numpy()
    np.testing.assert_allclose(logits(found, small.images), expected, atol=1e-4)
    np.testing.assert_allclose(graph_reference(model)(small.images).numpy(), expected, atol=1e-4)


def test_a_network_that_our_writer_does_not_know_goes_through_torchs_exporter() -> None:
    class Odd(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.sigmoid(x.mean(1, keepdim=True)).amax((2, 3)) * torch.ones(3)

    model = network_graph(Odd(), small_classifier().images[:1], "odd")
    images = small_classifier().images[:4]
    np.testing.assert_allclose(logits(model, images), Odd()(images).numpy(), atol=1e-6)


def test_a_network_that_nothing_exports_is_one_line() -> None:
    class Broken(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            raise ValueError("only on Sundays\nand never twice")

    with pytest.raises(UsageError, match=r"broken does not export to ONNX from images \(1, 12, 12\): only on Sundays"):
        network_graph(Broken(), small_classifier().images[:1], "broken")


@pytest.mark.parametrize(
    ("model", "message"),
    [
        (graph_of(FLATTEN, inputs=2), r"net: 2 inputs and 1 outputs; allowed: one of each, images to logits"),
        (graph_of(FLATTEN, opset=11), r"net: operator set 11; allowed: 13 to 23; export it again in 21"),
        (
            graph_of(helper.make_node("QuantizeLinear", ["x0", "s"], ["y"])),
            r"net: it is quantized already \(QuantizeLinear\); allowed: a model in floats",
        ),
        (graph_of(helper.make_node("Nonsense", ["x0"], ["y"])), r"net: onnxruntime cannot load it: .*Nonsense"),
    ],
)
def test_another_form_is_refused(model: ModelProto, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        canonical(model, "net", 1, 4)


def test_the_shape_of_the_images_is_read() -> None:
    assert image_shape(graph_of(FLATTEN), "net") == (1, 4, 4)
    with pytest.raises(UsageError, match=r"net: its input 'x0' has 2 axes; allowed: float \(batch, channels, h, w\)"):
        image_shape(graph_of(FLATTEN, axes=2), "net")


def test_a_graph_for_one_batch_size_only_is_refused() -> None:
    model = graph_of(helper.make_node("Reshape", ["x0", "shape"], ["y"]))
    model.graph.initializer.append(helper.make_tensor("shape", TensorProto.INT64, [2], [1, 16]))
    with pytest.raises(UsageError, match=r"net: its batch cannot be opened; export it with an open batch axis"):
        canonical(model, "net", 1, 4)
    with pytest.raises(UsageError, match=r"net: it makes \(3, 1, 4, 4\) of 3 images; allowed: logits \(3, classes\)"):
        canonical(graph_of(helper.make_node("Relu", ["x0"], ["y"])), "net", 1, 4)
