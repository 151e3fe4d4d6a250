"""An ONNX graph as a torch network again: the reverse of the writer, and what other exporters write of classifiers.

So that torch is timed on the file that ships, with batch norms folded as they are there, and has gradients of it. What
the writer spells out for onnxruntime's sake is read as what it was: hard-swish and hard-sigmoid become torch's own, not
four products and sums.
"""

import operator
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, numpy_helper
from torch import Tensor, fx, nn
from torch.nn import functional

from nas.errors import UsageError

SIX, SIXTH = 6.0, 1 / 6


def from_onnx(model: ModelProto) -> fx.GraphModule:
    """Return the network of a graph in floats as ``to_onnx`` writes it, in evaluation mode.

    Raises:
        UsageError: The graph has an operator that the writer does not write, or is quantized.
    """
    reader = _Reader(model)
    for node in model.graph.node:
        reader.read(node)
    reader.graph.output(reader.values[model.graph.output[0].name])
    network = fx.GraphModule(reader.root, reader.graph)
    network.graph.eliminate_dead_code()  # of the sums and products that became one activation
    network.recompile()
    return network.eval()


class _Reader:
    """The network so far."""

    def __init__(self, model: ModelProto) -> None:
        self.root, self.graph = nn.Module(), fx.Graph()
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.values: dict[str, Any] = {model.graph.input[0].name: self.graph.placeholder("x")}

    def read(self, node: NodeProto) -> None:
        """Add one node."""
        if node.op_type not in _OPERATORS:
            allowed = ", ".join(sorted(_OPERATORS))
            raise UsageError(f"cannot read {node.op_type} ({node.name}) as torch; supported: {allowed}")
        attributes = {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}
        found = _OPERATORS[node.op_type](self, node, attributes)
        if len(node.output) == 1:
            self.values[node.output[0]] = found
        else:
            parts = [self.call(operator.getitem, found, number) for number in range(len(node.output))]
            self.values.update(zip(node.output, parts, strict=True))

    def call(self, function: Callable[..., Any], *arguments: Any, **options: Any) -> fx.Node:
        """Add a call of a function."""
        return self.graph.call_function(function, arguments, options)

    def layer(self, module: nn.Module, source: str) -> fx.Node:
        """Add a layer after the value ``source``."""
        name = f"layer_{len(self.root._modules)}"
        self.root.add_module(name, module)
        return self.graph.call_module(name, (self.value(source),))

    def value(self, name: str) -> Any:
        """Return a value: computed, a number, or a tensor that does not depend on the images."""
        if name not in self.values:
            array = self.constants[name]
            if array.size == 1:
                return float(array.reshape(()))
            attribute = f"constant_{len(self.root._buffers)}"
            self.root.register_buffer(attribute, torch.from_numpy(array.copy()))
            self.values[name] = self.graph.get_attr(attribute)
        return self.values[name]

    def tensor(self, name: str) -> Tensor:
        """Return a parameter."""
        return torch.from_numpy(self.constants[name].copy())

    def integers(self, name: str) -> list[int]:
        """Return a constant list, such as a shape."""
        return [int(value) for value in self.constants[name].ravel()]

    def number(self, name: str) -> float | None:
        """Return a constant of one element; None for what is none."""
        array = self.constants.get(name)
        return float(array.reshape(())) if array is not None and array.size == 1 else None

    def gated(self, name: str) -> str | None:
        """Return ``x`` where the value ``name`` is clip(x + 3, 0, 6); else None."""
        clip = self.makers.get(name)
        if clip is None or clip.op_type != "Clip" or [self.number(one) for one in clip.input[1:]] != [0.0, SIX]:
            return None
        add = self.makers.get(clip.input[0])
        if add is None or add.op_type != "Add" or self.number(add.input[1]) != 3.0:
            return None
        return str(add.input[0])


Attributes = dict[str, Any]


def _conv(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    weight, groups = reader.tensor(node.input[1]), attributes.get("group", 1)
    layer = nn.Conv2d(
        weight.shape[1] * groups,
        weight.shape[0],
        (weight.shape[2], weight.shape[3]),
        stride=tuple(attributes.get("strides", (1, 1))),
        padding=_symmetric(node, attributes.get("pads", [0] * 4)),
        dilation=tuple(attributes.get("dilations", (1, 1))),
        groups=groups,
        bias=len(node.input) > 2,
    )
    return reader.layer(_filled(layer, reader, node.input[1:]), node.input[0])


def _gemm(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    others = {name: value for name, value in attributes.items() if name != "transB"}
    if any(others.get(name, 1.0) != 1.0 for name in ("alpha", "beta")) or others.get("transA"):
        raise UsageError(f"cannot read Gemm ({node.name}) as torch with {others}; supported: transB alone")
    weight = reader.tensor(node.input[1])
    return _linear(reader, node, weight if attributes.get("transB") else weight.T)


def _matmul(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    weight = reader.constants.get(node.input[1])
    if weight is not None and weight.ndim == 2:
        return _linear(reader, node, reader.tensor(node.input[1]).T)
    return reader.call(torch.matmul, *map(reader.value, node.input))


@torch.no_grad()
def _linear(reader: _Reader, node: NodeProto, weight: Tensor) -> fx.Node:
    """Add a layer of weights (out, in), with the bias that the node may have."""
    layer = nn.Linear(weight.shape[1], weight.shape[0], bias=len(node.input) > 2)
    layer.weight.copy_(weight)
    if layer.bias is not None:
        layer.bias.copy_(reader.tensor(node.input[2]).flatten().expand(len(weight)))
    return reader.layer(layer, node.input[0])


def _layer_norm(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    weight = reader.tensor(node.input[1])
    layer = nn.LayerNorm(weight.shape, eps=attributes.get("epsilon", 1e-5), bias=len(node.input) > 2)
    return reader.layer(_filled(layer, reader, node.input[1:]), node.input[0])


@torch.no_grad()
def _filled(layer: nn.Module, reader: _Reader, names: Sequence[str]) -> nn.Module:
    """Return the layer with its weight and bias set."""
    for own, name in zip(("weight", "bias"), names, strict=False):
        getattr(layer, own).copy_(reader.tensor(name))
    return layer


def _symmetric(node: NodeProto, pads: Sequence[int]) -> tuple[int, int]:
    if list(pads[:2]) != list(pads[2:]):
        raise UsageError(f"cannot read {node.op_type} ({node.name}) as torch with pads {list(pads)}; supported: equal")
    return pads[0], pads[1]


def _window(node: NodeProto, attributes: Attributes) -> Attributes:
    return {
        "kernel_size": tuple(attributes["kernel_shape"]),
        "stride": tuple(attributes.get("strides", (1, 1))),
        "padding": _symmetric(node, attributes.get("pads", [0] * 4)),
        "ceil_mode": bool(attributes.get("ceil_mode", 0)),
    }


def _max_pool(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    dilation = tuple(attributes.get("dilations", (1, 1)))
    return reader.layer(nn.MaxPool2d(**_window(node, attributes), dilation=dilation), node.input[0])


def _average_pool(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    counts = bool(attributes.get("count_include_pad", 0))
    return reader.layer(nn.AvgPool2d(**_window(node, attributes), count_include_pad=counts), node.input[0])


def _clip(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    low, high = (reader.number(name) for name in node.input[1:])
    if (low, high) == (0.0, SIX):
        return reader.call(functional.relu6, reader.value(node.input[0]))
    return reader.call(torch.clamp, reader.value(node.input[0]), low, high)


def _mul(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    if (factor := reader.number(node.input[1])) is not None and np.isclose(factor, SIXTH):
        if gate := reader.gated(node.input[0]):
            return reader.call(functional.hardsigmoid, reader.value(gate))
        product = reader.makers.get(node.input[0])
        if product is not None and product.op_type == "Mul" and reader.gated(product.input[1]) == product.input[0]:
            return reader.call(functional.hardswish, reader.value(product.input[0]))
    return reader.call(operator.mul, *map(reader.value, node.input))


def _binary(function: Callable[..., Any]) -> Callable[[_Reader, NodeProto, Attributes], fx.Node]:
    return lambda reader, node, attributes: reader.call(function, *map(reader.value, node.input))


def _reshape(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    return reader.call(reshaped, reader.value(node.input[0]), reader.integers(node.input[1]))


def reshaped(x: Tensor, sizes: Sequence[int]) -> Tensor:
    """Return ``x`` in another shape, by ONNX's rule: 0 keeps an axis, -1 takes the rest."""
    return x.reshape([x.shape[axis] if size == 0 else size for axis, size in enumerate(sizes)])


def _gelu(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    kind = attributes.get("approximate", b"none").decode()
    return reader.call(functional.gelu, reader.value(node.input[0]), approximate=kind)


def _mean(reader: _Reader, node: NodeProto, attributes: Attributes) -> fx.Node:
    axes = reader.integers(node.input[1]) if len(node.input) > 1 else list(attributes["axes"])
    return reader.call(torch.mean, reader.value(node.input[0]), axes, bool(attributes.get("keepdims", 1)))


_OPERATORS: dict[str, Callable[[_Reader, NodeProto, Attributes], fx.Node]] = {
    "Conv": _conv,
    "Gemm": _gemm,
    "LayerNormalization": _layer_norm,
    "MaxPool": _max_pool,
    "AveragePool": _average_pool,
    "GlobalAveragePool": lambda reader, node, _: reader.layer(nn.AdaptiveAvgPool2d(1), node.input[0]),
    "Relu": lambda reader, node, _: reader.call(functional.relu, reader.value(node.input[0])),
    "Clip": _clip,
    "Gelu": _gelu,
    "Softmax": lambda reader, node, found: reader.call(
        torch.softmax, reader.value(node.input[0]), found.get("axis", -1)
    ),
    "Add": _binary(operator.add),
    "Sub": _binary(operator.sub),
    "Mul": _mul,
    "Div": _binary(operator.truediv),
    "MatMul": _matmul,
    "Sigmoid": lambda reader, node, _: reader.call(torch.sigmoid, reader.value(node.input[0])),
    "Tanh": lambda reader, node, _: reader.call(torch.tanh, reader.value(node.input[0])),
    "Erf": lambda reader, node, _: reader.call(torch.erf, reader.value(node.input[0])),
    "Sqrt": lambda reader, node, _: reader.call(torch.sqrt, reader.value(node.input[0])),
    "Identity": lambda reader, node, _: reader.value(node.input[0]),
    "Concat": lambda reader, node, found: reader.call(torch.cat, [*map(reader.value, node.input)], found["axis"]),
    "Flatten": lambda reader, node, found: reader.call(
        torch.flatten, reader.value(node.input[0]), found.get("axis", 1)
    ),
    "Reshape": _reshape,
    "Transpose": lambda reader, node, found: reader.call(torch.permute, reader.value(node.input[0]), found["perm"]),
    "Split": lambda reader, node, found: reader.call(
        torch.split, reader.value(node.input[0]), reader.integers(node.input[1]), found.get("axis", 0)
    ),
    "ReduceMean": _mean,
}
"""How each is read."""
