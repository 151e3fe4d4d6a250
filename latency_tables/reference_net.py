"""The frozen reference net: the yardstick that is timed beside every model, so that a slow machine is seen.

A small inverted-residual net like those that are searched, about 0.2 ms on a server core. It must never change: its
hash is recorded with every table, and ``REFERENCE_VERSION`` moves if it ever has to.
"""

from typing import Any

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

REFERENCE_VERSION = 1
RESOLUTION = 28
CHANNELS = 3
BLOCKS = (  # channels in, channels out, stride
    (16, 32, 1),
    (32, 32, 1),
    (32, 48, 2),
    (48, 48, 1),
    (48, 64, 1),
    (64, 96, 2),
    (96, 96, 1),
)
EXPAND = 4


def reference_model() -> ModelProto:
    """Return the reference net: input ``(1, 3, 28, 28)`` float, output ``(1, 10)``."""
    builder = _Builder()
    last = builder.conv("input", CHANNELS, 16, kernel=3, stride=2)
    for width_in, width_out, stride in BLOCKS:
        middle = width_in * EXPAND
        inner = builder.conv(last, width_in, middle, kernel=1)
        inner = builder.conv(inner, middle, middle, kernel=3, stride=stride, groups=middle)
        inner = builder.conv(inner, middle, width_out, kernel=1, activation=False)
        last = builder.node("Add", [last, inner]) if stride == 1 and width_in == width_out else inner
    pooled = builder.node("Flatten", [builder.node("GlobalAveragePool", [last])], axis=1)
    weight = builder.weight((BLOCKS[-1][1], 10))
    builder.nodes.append(helper.make_node("MatMul", [pooled, weight], ["logits"], name="logits"))
    graph = helper.make_graph(
        builder.nodes,
        "reference",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [1, CHANNELS, RESOLUTION, RESOLUTION])],
        [helper.make_tensor_value_info("logits", TensorProto.FLOAT, [1, 10])],
        builder.weights,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


class _Builder:
    def __init__(self) -> None:
        self.nodes: list[NodeProto] = []
        self.weights: list[TensorProto] = []

    def weight(self, shape: tuple[int, ...]) -> str:
        """Add a weight whose values are a fixed wave: no generator whose stream could change."""
        name, size = f"weight_{len(self.weights)}", int(np.prod(shape))
        values = np.sin(np.arange(1, size + 1, dtype=np.float64) * 0.7) * np.sqrt(2 * shape[0] / size)
        self.weights.append(numpy_helper.from_array(values.astype(np.float32).reshape(shape), name))
        return name

    def node(self, op: str, inputs: list[str], **attributes: Any) -> str:
        output = f"value_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [output], name=output, **attributes))
        return output

    def conv(
        self,
        source: str,
        width_in: int,
        width_out: int,
        *,
        kernel: int,
        stride: int = 1,
        groups: int = 1,
        activation: bool = True,
    ) -> str:
        weight = self.weight((width_out, width_in // groups, kernel, kernel))
        pad = kernel // 2
        output = self.node(
            "Conv",
            [source, weight],
            kernel_shape=[kernel, kernel],
            strides=[stride, stride],
            pads=[pad, pad, pad, pad],
            group=groups,
        )
        return self.node("Relu", [output]) if activation else output
