"""The layers of any graph whose precision can be chosen, and what flows between them.

A layer is a convolution or a matrix product with constant weights, and whatever follows until the next one: its
activation, a residual addition, a pooling. So precisions meet only where one layer's result enters another. The nodes
are named after their layer, ``<layer>/<operator>``, which is all that ``quantize_graph`` and the gates go by: one
mechanism serves networks from torch, from our bundles and from ONNX files.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, numpy_helper, shape_inference

from nas.compression.units import PRODUCTS
from nas.errors import UsageError
from supernets.graph import INPUT

REMOVABLE = ("Relu", "Clip")
"""Activations that rounding to the range of their output computes."""

Mask = tuple[bool, ...]
"""A configuration: which of the layers are int8, in their order."""


@dataclass(frozen=True)
class Layer:
    """One layer.

    Attributes:
        name: Of the layer, and the first part of the names of its nodes.
        operator: ``Conv``, ``Gemm`` or ``MatMul``.
        weight: The initializer with its weights.
        weights: How many there are.
        macs: Multiply-adds for one image.
        depthwise: Whether every channel is convolved alone.
    """

    name: str
    operator: str
    weight: str
    weights: int
    macs: int
    depthwise: bool


@dataclass(frozen=True)
class Flow:
    """A value that layer ``source`` computes and layers ``targets`` read; -1 stands for the images.

    ``elements`` is its size for one image.
    """

    source: int
    targets: frozenset[int]
    elements: int


@dataclass(frozen=True, eq=False)
class LayeredGraph:
    """An fp32 graph whose nodes are named after their layers."""

    model: ModelProto
    layers: tuple[Layer, ...]
    flows: tuple[Flow, ...]

    def precisions(self, mask: Mask) -> dict[str, str]:
        """Return each layer's precision by its name, as ``quantize_graph`` takes it."""
        return {layer.name: "int8" if int8 else "fp32" for layer, int8 in zip(self.layers, mask, strict=True)}

    def products(self) -> list[NodeProto]:
        """Return the convolution or matrix product of each layer, in their order."""
        constants = {tensor.name for tensor in self.model.graph.initializer}
        return [
            node
            for node in self.model.graph.node
            if node.op_type in PRODUCTS and len(node.input) > 1 and node.input[1] in constants
        ]

    def computed(self) -> list[str]:
        """Return what each layer's product computes as it is rounded in int8: what a Relu or Clip makes of it.

        onnxruntime's quantizer takes such an activation out where it is the only reader: the product writes the
        activation's tensor, with its range.
        """
        readers: dict[str, list[NodeProto]] = {}
        for node in self.model.graph.node:
            for name in node.input:
                readers.setdefault(name, []).append(node)
        outputs = {value.name for value in self.model.graph.output}
        found = []
        for product in self.products():
            name = product.output[0]
            reading = readers.get(name, [])
            removable = len(reading) == 1 and reading[0].op_type in REMOVABLE and name not in outputs
            found.append(reading[0].output[0] if removable else name)
        return found

    def distances(self) -> NDArray[np.int64]:
        """Return how many steps of the flow lie between any two layers, whichever way, ``(layers, layers)``."""
        count = len(self.layers)
        far = np.full((count, count), count, np.int64)
        np.fill_diagonal(far, 0)
        for flow in self.flows:
            for target in flow.targets - {flow.source}:
                if flow.source >= 0:
                    far[flow.source, target] = far[target, flow.source] = 1
        for via in range(count):
            far = np.minimum(far, far[:, via, None] + far[None, via])
        return far


def layered(model: ModelProto) -> LayeredGraph:
    """Name the nodes of a ``canonical`` graph after its layers.

    Args:
        model: Not changed.

    Raises:
        UsageError: It has no convolution or matrix product with constant weights, or a shape that depends on values.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    weights = {tensor.name: tensor for tensor in copy.graph.initializer}
    names: list[str] = []
    products: list[NodeProto] = []
    owner = {INPUT: -1}  # value to the layer that computed it
    places: list[int] = []
    for node in copy.graph.node:
        place = max((owner.get(name, -1) for name in node.input), default=-1)
        if node.op_type in PRODUCTS and len(node.input) > 1 and node.input[1] in weights:
            place = len(products)
            products.append(node)
            names.append(_unused(_layer_name(node, place), names))
        places.append(place)
        owner.update(dict.fromkeys(node.output, place))
    if not products:
        raise UsageError("the model has no convolution or matrix product with constant weights; nothing to quantize")
    sizes = _sizes(copy)
    layers = [
        _layer(name, node, numpy_helper.to_array(weights[node.input[1]]).shape, sizes)
        for name, node in zip(names, products, strict=True)
    ]
    flows = _flows(copy, places, owner, sizes)
    for number, (node, place) in enumerate(zip(copy.graph.node, places, strict=True)):
        node.name = f"{names[place] if place >= 0 else INPUT}/{node.op_type}_{number}"
    return LayeredGraph(copy, tuple(layers), flows)


def _layer_name(node: NodeProto, place: int) -> str:
    """Return the module path inside a node's name: ``a.0.conv`` of ``a.0.conv/Conv`` and of ``/a/a.0/conv/Conv``."""
    *parts, last = (node.name or f"layer_{place}").strip("/").split("/")
    following = [*parts[1:], ""]
    kept = [part for part, after in zip(parts, following, strict=False) if not after.startswith(f"{part}.")]
    return ".".join(kept) or last


def _unused(name: str, taken: Sequence[str]) -> str:
    free, count = name, 1
    while free in taken or free == INPUT:
        free, count = f"{name}_{count}", count + 1
    return free


def _layer(name: str, node: NodeProto, shape: tuple[int, ...], sizes: dict[str, int]) -> Layer:
    groups = next((one.i for one in node.attribute if one.name == "group"), 1)
    weights = int(np.prod(shape))
    transposed = node.op_type == "MatMul" or not any(one.name == "transB" and one.i for one in node.attribute)
    wide = shape[-1] if node.op_type != "Conv" and transposed else shape[0]
    macs = sizes.get(node.output[0], wide) * weights // wide
    return Layer(name, node.op_type, node.input[1], weights, macs, groups > 1 and groups == shape[0])


def _flows(model: ModelProto, places: Sequence[int], owner: dict[str, int], sizes: dict[str, int]) -> tuple[Flow, ...]:
    readers: dict[str, set[int]] = {}
    for node, place in zip(model.graph.node, places, strict=True):
        for name in node.input:
            if name in owner:
                readers.setdefault(name, set()).add(place)
    return tuple(
        Flow(owner[name], frozenset(targets), sizes.get(name, 0))
        for name, targets in readers.items()
        if targets != {owner[name]}
    )


def _sizes(model: ModelProto) -> dict[str, int]:
    """Return the elements of every value of known shape for one image."""
    single = ModelProto()
    single.CopyFrom(model)
    for value in (*single.graph.input, *single.graph.output):
        value.type.tensor_type.shape.dim[0].dim_value = 1
    graph = shape_inference.infer_shapes(single).graph
    values = (*graph.input, *graph.value_info, *graph.output)
    return {
        value.name: int(np.prod([max(1, axis.dim_value) for axis in value.type.tensor_type.shape.dim]))
        for value in values
    }
