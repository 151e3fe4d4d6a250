"""The graph that is timed is that which ships, as far as a runtime's kernels depend on it."""

import numpy as np
import pytest
from onnx import load_from_string, numpy_helper
from tiny_families import TINY

from latency_tables.builder import timing_model
from latency_tables.costs import Images


@pytest.mark.parametrize("family", TINY)
@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_every_convolution_adds_a_bias_and_relus_have_zero_point_0(family: str, precision: str) -> None:
    space = TINY[family]()
    graph = load_from_string(timing_model(space, space.largest(precision), Images(1, 3))).graph
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    biases = [node.input[2].removesuffix("_DequantizeLinear") for node in graph.node if node.op_type == "Conv"]
    for name in biases:
        values = tensors.get(name, tensors.get(f"{name}_quantized"))
        assert values is not None and (values != 0).mean() > 0.9
    quantized = {node.input[0]: node.input[2] for node in graph.node if node.op_type == "QuantizeLinear"}
    relus = [node.output[0] for node in graph.node if node.op_type == "Relu"]
    points = [tensors[quantized[name]] for name in relus if name in quantized]
    assert len(points) == (len(relus) if precision == "int8" else 0) and not np.any(points)
