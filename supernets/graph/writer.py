"""The graph that is being written: its nodes, its parameters and the names of its values."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from onnx import NodeProto, TensorProto, helper, numpy_helper
from torch import fx, nn

from nas.errors import UsageError

INPUT, OUTPUT = "input", "logits"


@dataclass
class Writer:
    """The graph so far.

    Attributes:
        modules: The network's modules by their paths.
        translations: What writes each traced node, by the module's type, the function or the method's name.
        nodes: The ONNX nodes so far.
        initializers: The parameters and constants so far.
        names: The ONNX name of each traced value.
        taken: The names of nodes, parameters and constants so far.
    """

    modules: Mapping[str, nn.Module]
    translations: Mapping[Any, Callable[..., None]]
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    names: dict[fx.Node, str] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    def write(self, node: fx.Node) -> None:
        """Add what one traced ``node`` computes."""
        if node in self.names:  # batch normalisation already folded into the convolution before it
            return
        if node.op == "placeholder" and not self.names:
            self.names[node] = INPUT
        elif node.op == "output":
            self.finish(node)
        elif node.op == "call_module":
            module = self.modules[str(node.target)]
            write_module = self.translations.get(type(module))
            if write_module is None:
                raise self.unsupported(node)
            write_module(self, node, module)
        elif node.op in ("call_function", "call_method") and node.target in self.translations:
            self.translations[node.target](self, node)
        else:
            raise self.unsupported(node)

    def finish(self, node: fx.Node) -> None:
        """Name the last value ``logits``."""
        result = node.args[0]
        if not isinstance(result, fx.Node) or not self.nodes or self.names[result] != self.nodes[-1].output[0]:
            raise UsageError("cannot write the network as ONNX: it must return one tensor, computed last")
        self.nodes[-1].output[0] = OUTPUT

    def unsupported(self, node: fx.Node, detail: str = "") -> UsageError:
        """Return the error for a node that there is no translation for."""
        where = path_of(node) or "the network itself"
        what = detail
        if not what and node.op == "call_module":
            what = type(self.modules[str(node.target)]).__name__
        if not what:
            what = node.target if isinstance(node.target, str) else getattr(node.target, "__name__", str(node.target))
        known = ", ".join(sorted(kind.__name__ for kind in self.translations if isinstance(kind, type)))
        return UsageError(
            f"cannot write {what} in {where} as ONNX; supported: {known}, BatchNorm2d after Conv2d, add, sub, mul "
            "and functional forms of these"
        )

    def emit(self, node: fx.Node, op_type: str, inputs: list[str], **attributes: Any) -> str:
        """Add an ONNX node named ``<module path>/<op_type>`` and return the name of its output."""
        name = self.unused(f"{path_of(node)}/{op_type}".lstrip("/"))
        self.nodes.append(helper.make_node(op_type, inputs, [name], name=name, **attributes))
        self.names[node] = name
        return name

    def parameter(self, name: str, value: torch.Tensor) -> str:
        """Add an initializer and return its name, which differs from ``name`` where a module is used twice."""
        name = self.unused(name)
        self.initializers.append(numpy_helper.from_array(value.detach().to("cpu", torch.float32).numpy(), name))
        return name

    def scalar(self, value: float) -> str:
        """Add a constant once and return its name."""
        name = f"constant_{value:g}"
        if name not in self.taken:
            self.parameter(name, torch.tensor(value))
        return name

    def unused(self, name: str) -> str:
        """Return ``name``, numbered if it is taken, and take it."""
        free, count = name, 1
        while free in self.taken:
            free, count = f"{name}_{count}", count + 1
        self.taken.add(free)
        return free

    def value(self, node: fx.Node, position: int = 0) -> str:
        """Return the ONNX name of the traced value that ``node`` takes at ``position``."""
        argument = node.args[position] if position < len(node.args) else None
        if not isinstance(argument, fx.Node):
            raise self.unsupported(node, f"{node.name} with the argument {argument!r}")
        return self.names[argument]


def path_of(node: fx.Node) -> str:
    """Return the path of the module in which ``node`` was traced; empty at the top."""
    stack = node.meta.get("nn_module_stack") or {"": None}
    return str(next(reversed(stack))).partition("@")[0]  # torch.fx appends @1 to the path of a module used again
