"""Activations.

Hard-swish and hard-sigmoid are written as Add, Clip and Mul: onnxruntime's quantizer knows those, and does not know the
HardSwish operator. Where the usual form divides by 6 this one multiplies by 1/6, because there is no integer kernel for
Div.

GELU is the Gelu operator: onnxruntime makes the same kernel of it and of the form with Erf, which is five nodes. It has
no integer kernel, and costs more than a ReLU.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from supernets.graph.writer import Writer


def _relu(writer: Writer, node: fx.Node, module: nn.Module | None = None) -> None:
    writer.emit(node, "Relu", [writer.value(node)])


def _clip(writer: Writer, node: fx.Node, value: str) -> str:
    return writer.emit(node, "Clip", [value, writer.scalar(0.0), writer.scalar(6.0)])


def _relu6(writer: Writer, node: fx.Node, module: nn.Module | None = None) -> None:
    _clip(writer, node, writer.value(node))


def _hard_sigmoid(writer: Writer, node: fx.Node, module: nn.Module | None = None) -> None:
    shifted = writer.emit(node, "Add", [writer.value(node), writer.scalar(3.0)])
    writer.emit(node, "Mul", [_clip(writer, node, shifted), writer.scalar(1 / 6)])


def _hard_swish(writer: Writer, node: fx.Node, module: nn.Module | None = None) -> None:
    shifted = writer.emit(node, "Add", [writer.value(node), writer.scalar(3.0)])
    scaled = writer.emit(node, "Mul", [writer.value(node), _clip(writer, node, shifted)])
    writer.emit(node, "Mul", [scaled, writer.scalar(1 / 6)])


def _gelu(writer: Writer, node: fx.Node, module: nn.GELU | None = None) -> None:
    approximate = node.kwargs.get("approximate", "none") if module is None else module.approximate
    writer.emit(node, "Gelu", [writer.value(node)], approximate=approximate)


def _softmax(writer: Writer, node: fx.Node, module: nn.Softmax | None = None) -> None:
    axis = module.dim if module is not None else writer.option(node, 1, "dim")
    if not isinstance(axis, int):
        raise writer.unsupported(node, f"softmax over the axis {axis!r}")
    writer.emit(node, "Softmax", [writer.value(node)], axis=axis)


ACTIVATIONS: dict[Any, Callable[..., None]] = {
    nn.ReLU: _relu,
    nn.ReLU6: _relu6,
    nn.Hardsigmoid: _hard_sigmoid,
    nn.Hardswish: _hard_swish,
    nn.GELU: _gelu,
    nn.Softmax: _softmax,
    **dict.fromkeys((functional.relu, torch.relu, "relu"), _relu),
    functional.relu6: _relu6,
    functional.hardsigmoid: _hard_sigmoid,
    functional.hardswish: _hard_swish,
    functional.gelu: _gelu,
    **dict.fromkeys((functional.softmax, torch.softmax, "softmax"), _softmax),
}
"""How each is written, by what ``torch.fx`` calls it."""
