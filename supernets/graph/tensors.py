"""What tensors are put through between layers: arithmetic and changes of shape."""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn

from supernets.graph.writer import Writer


def _flatten(writer: Writer, node: fx.Node, module: nn.Flatten | None = None) -> None:
    first, last = writer.option(node, 1, "start_dim", 0), writer.option(node, 2, "end_dim", -1)
    if module is not None:
        first, last = module.start_dim, module.end_dim
    if first < 1 or last != -1:
        raise writer.unsupported(node, f"flatten of the axes {first} to {last}")
    if first == 1:
        writer.emit(node, "Flatten", [writer.value(node)], axis=1)
    else:
        writer.emit(node, "Reshape", [writer.value(node), writer.integers([0] * first + [-1])])  # 0: as it is


def _reshape(writer: Writer, node: fx.Node) -> None:
    writer.emit(node, "Reshape", [writer.value(node), writer.integers(_sizes(writer, node))])


def _permute(writer: Writer, node: fx.Node) -> None:
    writer.emit(node, "Transpose", [writer.value(node)], perm=_sizes(writer, node))


def _sizes(writer: Writer, node: fx.Node) -> list[int]:
    """Return the integers after the tensor, which are arguments of their own or one sequence."""
    given: tuple[Any, ...] = node.args[1:]
    sizes = [*given[0]] if len(given) == 1 and isinstance(given[0], list | tuple) else [*given]
    if node.kwargs or not all(isinstance(size, int) for size in sizes):
        raise writer.unsupported(node, f"{node.name} to {sizes}")
    return sizes


def _split(writer: Writer, node: fx.Node) -> None:
    sizes, axis = writer.option(node, 1, "split_size"), writer.option(node, 2, "dim", 0)
    if not isinstance(sizes, list | tuple):
        raise writer.unsupported(node, f"split into parts of {sizes}")
    name = writer.emit(node, "Split", [writer.value(node), writer.integers(sizes)], axis=axis)
    writer.parts[node] = [name, *(writer.unused(f"{name}_{number}") for number in range(1, len(sizes)))]
    writer.nodes[-1].output[:] = writer.parts[node]


def _part(writer: Writer, node: fx.Node) -> None:
    whole, number = node.args
    if not isinstance(whole, fx.Node) or whole not in writer.parts or not isinstance(number, int):
        raise writer.unsupported(node, f"{whole}[{number!r}]")
    writer.names[node] = writer.parts[whole][number]


def _mean(writer: Writer, node: fx.Node) -> None:
    axes, kept = writer.option(node, 1, "dim"), writer.option(node, 2, "keepdim", False)
    axes = [axes] if isinstance(axes, int) else axes
    if axes is None:
        raise writer.unsupported(node, "the mean over all axes")
    writer.emit(node, "ReduceMean", [writer.value(node), writer.integers(axes)], keepdims=int(kept))


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
    **dict.fromkeys((operator.matmul, torch.matmul, "matmul"), _binary("MatMul")),
    **dict.fromkeys((torch.flatten, "flatten"), _flatten),
    **dict.fromkeys((torch.reshape, "reshape", "view"), _reshape),
    **dict.fromkeys((torch.permute, "permute"), _permute),
    **dict.fromkeys((torch.split, "split"), _split),
    **dict.fromkeys((torch.mean, "mean"), _mean),
    operator.getitem: _part,
}
"""How each is written, by what ``torch.fx`` calls it."""
