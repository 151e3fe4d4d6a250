"""Layers are found in any graph, named after their modules, and know what flows between them."""

import pytest
import torch
from onnx import helper
from small_classifier import NAMES, foreign, graph_of, small_classifier
from torch import nn

from nas.compression import HOST, activation_ranges, expected_quantized_convs, quantize_graph
from nas.compression.canonical import canonical
from nas.compression.layers import layered
from nas.errors import UsageError
from supernets.graph import to_onnx


def test_every_product_is_a_layer_with_its_costs() -> None:
    layers = small_classifier().graph.layers
    assert [layer.name for layer in layers] == NAMES
    assert [layer.operator for layer in layers] == ["Conv"] * 5 + ["Gemm"]
    assert [layer.depthwise for layer in layers] == [False, False, True, False, False, False]
    assert [layer.macs for layer in layers] == [
        9 * 16 * 36,
        16 * 32 * 36,
        9 * 32 * 36,
        32 * 16 * 36,
        9 * 16 * 32 * 9,
        96,
    ]
    assert layers[2].weights == 9 * 32


def test_a_foreign_graph_has_the_same_layers(tmp_path) -> None:
    small = small_classifier()
    found = layered(canonical(foreign(small.network, tmp_path / "net.onnx"), "net", 1, 12))
    assert [layer.name for layer in found.layers] == NAMES
    assert {(flow.source, flow.targets) for flow in found.flows} == {
        (flow.source, flow.targets) for flow in small.graph.flows
    }


def test_the_skip_makes_neighbours_of_the_layers_around_it() -> None:
    far = small_classifier().graph.distances()
    assert far[0, 1] == 1 and far[0, 3] == 1 and far[0, 2] == 2  # the addition belongs to the projection
    assert far[0, 5] == 3 and far[2, 5] == 3 and (far == far.T).all() and not far.diagonal().any()


def test_any_choice_of_layers_is_what_is_quantized() -> None:
    small = small_classifier()
    images = small.images.numpy()
    ranges = activation_ranges(small.graph.model, images)
    for mask in [(True,) * 6, (False, True, False, True, False, True), (False,) * 6]:
        precisions = small.graph.precisions(mask)
        quantized = quantize_graph(small.graph.model, precisions, ranges)
        assert expected_quantized_convs(small.graph.model, precisions) == sum(mask[:5])
        assert HOST.integer_kernels(quantized.SerializeToString()) == {
            "Conv": sum(mask[:5]),
            "Gemm": mask[5],
            "MatMul": 0,
        }


def test_names_that_are_alike_or_missing_are_told_apart() -> None:
    class Twice(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.input = nn.Conv2d(1, 1, 1)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return torch.flatten(self.input(self.input(x)), 1)

    model = canonical(to_onnx(Twice().eval(), 1, 4, "N"), "twice", 1, 4)
    assert [layer.name for layer in layered(model).layers] == ["input_1", "input_2"]  # ``input`` is the images'
    for node in model.graph.node:
        node.name = ""
    assert [layer.name for layer in layered(model).layers] == ["layer_0", "layer_1"]


def test_a_model_without_layers_is_refused() -> None:
    model = canonical(
        graph_of(helper.make_node("Relu", ["x0"], ["z"]), helper.make_node("Flatten", ["z"], ["y"])), "n", 1, 4
    )
    with pytest.raises(UsageError, match="the model has no convolution or matrix product with constant weights"):
        layered(model)


def test_what_a_product_computes_is_rounded_after_an_activation_that_it_takes_in() -> None:
    small = small_classifier()
    written, products = small.graph.computed(), [node.output[0] for node in small.graph.products()]
    makers = {name: node.op_type for node in small.graph.model.graph.node for name in node.output}
    assert [makers[name] for name in written] == ["Relu", "Clip", "Conv", "Conv", "Relu", "Gemm"]
    ranges = activation_ranges(small.graph.model, small.images.numpy())
    quantized = quantize_graph(small.graph.model, small.graph.precisions((True,) * 6), ranges)
    scales = {tensor.name.removesuffix("_scale") for tensor in quantized.graph.initializer}
    assert set(written) <= scales and not (set(products) - set(written)) & scales
