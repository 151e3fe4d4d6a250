"""A small quantized convolution that tells whether a runtime computes int8 in integers, and rightly."""

from collections.abc import Mapping

import numpy as np
from onnx import NodeProto, TensorProto, helper, numpy_helper

from nas.compression.qdq import FORM, FORMS

PROBE_TOLERANCE = 2.0  # of outputs that are about a million
INPUT, OUTPUT = "input", "output"
CHANNELS, OUT, SIDE = 64, 16, 4  # wide enough for every vector kernel


def int8_probe(form: str = FORM) -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return a 1x1 convolution of 64 channels with the largest weights and inputs, an input, and the true output.

    All activations are at the top of their range, and all weights too, three quarters of them positive: in ``u8s8`` two
    products together overflow 16 bits.

    Args:
        form: Of ``nas.compression.FORMS``.
    """
    signed, top, half = form == "s8s8", FORMS[form].top, 3 * CHANNELS // 4
    kind, most, reached = (np.int8, 127, 100) if signed else (np.uint8, 255, 200)  # type, input, steps of the output
    weight = np.full((OUT, CHANNELS, 1, 1), top, np.int8)
    weight[:, half:] = -top
    image = np.full((1, CHANNELS, SIDE, SIDE), most, np.float32)
    step = np.float32(top * most * (2 * half - CHANNELS) / reached)
    constants = {
        "one": np.float32(1), "zero": kind(0), "step": step, "weight": weight,
        "weight_scale": np.ones(OUT, np.float32), "weight_zero": np.zeros(OUT, np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", [INPUT, "one", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "one", "zero"], ["b"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w"], axis=0),
        helper.make_node("Conv", ["b", "w"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("QuantizeLinear", ["c", "step", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "step", "zero"], [OUTPUT]),
    ]
    return probe_model(nodes, constants), image, np.full((1, OUT, SIDE, SIDE), reached * step, np.float32)


def probe_model(nodes: list[NodeProto], constants: Mapping[str, np.ndarray | np.generic]) -> bytes:
    """Return a graph from ``INPUT``, ``CHANNELS`` wide, to ``OUTPUT``, ``OUT`` wide, of ``SIDE`` pixels."""
    graph = helper.make_graph(
        nodes,
        "probe",
        [helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, [1, CHANNELS, SIDE, SIDE])],
        [helper.make_tensor_value_info(OUTPUT, TensorProto.FLOAT, [1, OUT, SIDE, SIDE])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return bytes(model.SerializeToString())
