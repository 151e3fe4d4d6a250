"""What each layer of a network takes at fewer channels: a look-up of what was measured on the device.

As NetAdapt's: each convolution and linear layer alone, at a grid of widths from its own down to the least that pruning
leaves, multiples of what the device rounds to, and interpolated between them. What a graph of next to nothing takes
is subtracted, since a network pays it once. The sum over layers lacks what else is in the network, so the caller
takes differences of it.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor, nn

from nas.compression.widths import CONVOLUTIONS, Width, Widths, is_depthwise
from supernets.graph.translation import IR_VERSION, OPSET

POINTS = 4  # of a grid along each axis
EMPTY = "empty"
Measure = Callable[[Mapping[str, bytes]], Mapping[str, float]]
"""Serialised graphs by name to milliseconds."""


@dataclass(frozen=True)
class LayerShape:
    """All that a layer's latency depends on besides its width; ``size`` is the height and width of its input."""

    operator: str
    size: tuple[int, ...]
    kernel: tuple[int, ...] = ()
    stride: tuple[int, ...] = ()
    padding: tuple[int, ...] = ()
    dilation: tuple[int, ...] = ()
    groups: int = 1
    depthwise: bool = False

    def key(self, width: Width) -> str:
        """Return the layer at a width in words."""
        if self.operator == "Gemm":
            return f"Gemm {width.inputs}>{width.outputs}"
        kind, groups = (f"depthwise {self.operator}", "all") if self.depthwise else (self.operator, self.groups)
        return (
            f"{kind} {_by(self.kernel)} stride {_by(self.stride)} pad {_by(self.padding)} "
            f"dilation {_by(self.dilation)} groups {groups} {width.inputs}>{width.outputs} at {_by(self.size)}"
        )

    def graph(self, width: Width) -> bytes:
        """Return the layer at a width as a graph of its own, weights random."""
        groups = width.inputs if self.depthwise else self.groups
        rng = np.random.default_rng(0)
        shape: tuple[int, ...]
        attributes: dict[str, Any] = {}
        if self.operator == "Gemm":
            shape, given, attributes = (width.outputs, width.inputs), [1, width.inputs], {"transB": 1}
        else:
            given = [1, width.inputs, *self.size]
            shape = (width.outputs, width.inputs // groups, *self.kernel)
            if self.operator == "ConvTranspose":
                shape = (width.inputs, width.outputs // groups, *self.kernel)
            attributes = {"kernel_shape": self.kernel, "strides": self.stride, "dilations": self.dilation}
            attributes |= {"pads": [*self.padding, *self.padding], "group": groups}
        weights = [rng.standard_normal(shape, np.float32), rng.standard_normal(width.outputs).astype(np.float32)]
        names = ["weight", "bias"]
        node = helper.make_node(self.operator, ["input", *names], ["output"], **attributes)
        return _model(node, given, dict(zip(names, weights, strict=True)))


@dataclass(frozen=True)
class LayerTable:
    """The look-up.

    Attributes:
        layers: The network's layers by their paths.
        milliseconds: Of each point of each layer's grid, by ``LayerShape.key``, and of ``EMPTY``.
        grids: Each layer's points, of its inputs and of its outputs, ascending.
    """

    layers: Mapping[str, LayerShape]
    milliseconds: Mapping[str, float]
    grids: Mapping[str, tuple[Sequence[int], Sequence[int]]]

    def ms(self, widths: Widths) -> float:
        """Return the sum over the layers at these widths, read between the grid's points."""
        return sum(self._layer_ms(path, layer, widths[path]) for path, layer in self.layers.items())

    def _layer_ms(self, path: str, layer: LayerShape, width: Width) -> float:
        inputs, outputs = self.grids[path]

        def at(first: int, second: int) -> float:
            return max(self.milliseconds[layer.key(Width(first, second))] - self.milliseconds[EMPTY], 0.0)

        if layer.depthwise:
            return float(np.interp(width.inputs, inputs, [at(one, one) for one in inputs]))
        columns = [float(np.interp(width.inputs, inputs, [at(one, other) for one in inputs])) for other in outputs]
        return float(np.interp(width.outputs, outputs, columns))


@torch.no_grad()
def layer_shapes(network: nn.Module, image: Tensor) -> dict[str, LayerShape]:
    """Return the convolutions and linear layers that an image, ``(1, c, h, w)``, meets, by their paths."""
    found: dict[str, LayerShape] = {}

    def look(path: str) -> Callable[[nn.Module, tuple[Tensor, ...]], None]:
        def hook(layer: nn.Module, given: tuple[Tensor, ...]) -> None:
            found[path] = _shape(layer, given[0])

        return hook

    layers = [(path, layer) for path, layer in network.named_modules() if isinstance(layer, (*CONVOLUTIONS, nn.Linear))]
    hooks = [layer.register_forward_pre_hook(look(path)) for path, layer in layers]
    try:
        network(image)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _shape(layer: nn.Module, given: Tensor) -> LayerShape:
    if not isinstance(layer, CONVOLUTIONS):
        return LayerShape("Gemm", ())
    sizes = list(zip(layer.kernel_size, layer.dilation, strict=True))
    padding = layer.padding
    if isinstance(padding, str):  # "same" is of odd kernels
        padding = tuple(step * (kernel - 1) // 2 if padding == "same" else 0 for kernel, step in sizes)
    operator = "ConvTranspose" if isinstance(layer, nn.ConvTranspose2d) else "Conv"
    return LayerShape(
        operator, tuple(given.shape[2:]), tuple(layer.kernel_size), tuple(layer.stride), tuple(padding),
        tuple(layer.dilation), 1 if is_depthwise(layer) else layer.groups, is_depthwise(layer),
    )  # fmt: skip


def table_models(
    layers: Mapping[str, LayerShape], widths: Widths, floors: Widths, round_to: int
) -> tuple[dict[str, tuple[list[int], list[int]]], dict[str, bytes]]:
    """Return each layer's grid, and the graphs to measure by their keys.

    Args:
        layers: The network's.
        widths: Of the whole network: the upper ends of the grids.
        floors: Of the network with the fewest channels: the lower ends.
        round_to: What the points are multiples of, their ends excepted.
    """
    grids, graphs = {}, {EMPTY: _model(helper.make_node("Relu", ["input"], ["output"]), [1, 1, 1, 1], {})}
    for path, layer in layers.items():
        axes = [(floors[path].inputs, widths[path].inputs), (floors[path].outputs, widths[path].outputs)]
        inputs, outputs = (_points(low, high, round_to) for low, high in axes)
        grids[path] = (inputs, outputs)
        pairs = [(one, one) for one in inputs] if layer.depthwise else [(i, o) for i in inputs for o in outputs]
        for width in (Width(*pair) for pair in pairs):
            graphs.setdefault(layer.key(width), layer.graph(width))
    return grids, graphs


def measure_layers(
    layers: Mapping[str, LayerShape], widths: Widths, floors: Widths, round_to: int, measure: Measure
) -> LayerTable:
    """Measure the look-up; arguments as of ``table_models``."""
    grids, graphs = table_models(layers, widths, floors, round_to)
    return LayerTable(layers, measure(graphs), grids)


def _points(low: int, high: int, round_to: int) -> list[int]:
    """Return a grid from ``low`` to ``high``."""
    between = np.linspace(low, high, POINTS)[1:-1]
    rounded = {int(round(value / round_to) * round_to) for value in between}
    return sorted({low, high} | {value for value in rounded if low < value < high})


def _model(node: Any, given: Sequence[int], weights: Mapping[str, np.ndarray]) -> bytes:
    graph = helper.make_graph(
        [node],
        "layer",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, given)],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    return bytes(helper.make_model(graph, opset_imports=opsets, ir_version=IR_VERSION).SerializeToString())


def _by(sizes: Sequence[int]) -> str:
    return "x".join(map(str, sizes))
