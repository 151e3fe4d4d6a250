"""What tensors are put through between layers: arithmetic and changes of shape."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from supernets.graph.writer import Writer


def _flatten(writer: Writer, node: fx.Node, module: nn.Flatten | None = None) -> None:
    given: dict[str, Any] = dict(zip(("start_dim", "end_dim"), node.args[1:], strict=False)) | node.kwargs
    span: tuple[Any, Any] = (given.get("start_dim", 0), given.get("end_dim", -1))
    if module is not None:
        span = (module.start_dim, module.end_dim)
    if span != (1, -1):
        raise writer.unsupported(node, f"flatten of the axes {span[0]} to {span[1]}")
    writer.emit(node, "Flatten", [writer.value(node)], axis=1)


def _identity(writer: Writer, node: fx.Node, module: nn.Module | None = None) -> None:
    writer.names[node] = writer.value(node)


def _binary(op_type: str) -> Callable[[Writer, fx.Node], None]:
    def write(writer: Writer, node: fx.Node) -> None:
        if node.kwargs:
            raise writer.unsupported(node, f"{node.name} with {', '.join(node.kwargs)}")
        writer.emit(node, op_type, [writer.value(node, 0), writer.value(node, 1)])

    return write


TENSORS: dict[Any, Callable[..., None]] = {
    nn.Flatten: _flatten,
    nn.Identity: _identity,
    nn.Dropout: _identity,
    **dict.fromkeys((operator.add, operator.iadd, torch.add, "add"), _binary("Add")),
    **dict.fromkeys((operator.mul, operator.imul, torch.mul, "mul"), _binary("Mul")),
    **dict.fromkeys((operator.sub, operator.isub, torch.sub, "sub"), _binary("Sub")),
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
}
"""How each is written, by what ``torch.fx`` calls it."""
