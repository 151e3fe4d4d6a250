"""A small quantized convolution that tells whether a runtime computes int8 in integers, and rightly."""

import numpy as np
from onnx import TensorProto, helper, numpy_helper

PROBE_TOLERANCE = 2.0  # of outputs that are about a million


def int8_probe() -> tuple[bytes, np.ndarray, np.ndarray]:
    """Return a 1x1 convolution of 64 channels with the largest weights and inputs, an input, and the true output.

    All activations are 255 and all weights 127 or -127 in halves: two products together overflow 16 bits.
    """
    channels, half = 64, 48
    weight = np.full((16, channels, 1, 1), 127, np.int8)
    weight[:, half:] = -127
    image = np.full((1, channels, 4, 4), 255.0, np.float32)
    scale_out = np.float32(127 * 255 * (2 * half - channels) / 200)
    expected = np.full((1, 16, 4, 4), 200 * scale_out, np.float32)
    constants = {
        "one": np.float32(1), "zero": np.uint8(0), "scale_out": scale_out, "weight": weight,
        "weight_scale": np.ones(16, np.float32), "weight_zero": np.zeros(16, np.int8),
    }  # fmt: skip
    nodes = [
        helper.make_node("QuantizeLinear", ["input", "one", "zero"], ["a"]),
        helper.make_node("DequantizeLinear", ["a", "one", "zero"], ["b"]),
        helper.make_node("DequantizeLinear", ["weight", "weight_scale", "weight_zero"], ["w"], axis=0),
        helper.make_node("Conv", ["b", "w"], ["c"], kernel_shape=[1, 1]),
        helper.make_node("QuantizeLinear", ["c", "scale_out", "zero"], ["d"]),
        helper.make_node("DequantizeLinear", ["d", "scale_out", "zero"], ["output"]),
    ]
    graph = helper.make_graph(
        nodes,
        "int8_probe",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, channels, 4, 4])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, 16, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    return model.SerializeToString(), image, expected
