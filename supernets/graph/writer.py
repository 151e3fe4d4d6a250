"""The graph that is being written: its nodes, its parameters and the names of its values."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
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
        parts: The ONNX names of each traced value that is several tensors.
        constants: What does not depend on the images, computed beforehand, such as a reshaped parameter.
        taken: The names of nodes, parameters and constants so far.
    """

    modules: Mapping[str, nn.Module]
    translations: Mapping[Any, Callable[..., None]]
    nodes: list[NodeProto] = field(default_factory=list)
    initializers: list[TensorProto] = field(default_factory=list)
    names: dict[fx.Node, str] = field(default_factory=dict)
    parts: dict[fx.Node, list[str]] = field(default_factory=dict)
    constants: dict[fx.Node, torch.Tensor] = field(default_factory=dict)
    taken: set[str] = field(default_factory=set)

    @torch.no_grad()
    def fold_constants(self, trace: fx.Graph) -> None:
        """Compute what depends on parameters alone, so that it is written as one tensor where it is used."""
        for node in trace.nodes:
            if node.op == "get_attr":
                owner, _, name = str(node.target).rpartition(".")
                self.constants[node] = getattr(self.modules[owner], name)
            elif node.op in ("call_function", "call_method") and self.constants.keys() >= {*node.all_input_nodes}:
                args, kwargs = fx.node.map_arg((node.args, node.kwargs), self.constants.__getitem__)
                function = getattr(args[0], node.target) if isinstance(node.target, str) else node.target
                self.constants[node] = function(*args[isinstance(node.target, str) :], **kwargs)

    def write(self, node: fx.Node) -> None:
        """Add what one traced ``node`` computes."""
        if node in self.names or node in self.constants:  # folded into a layer before it, or written where it is used
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
        if not isinstance(result, fx.Node) or not self.nodes or self.names.get(result) != self.nodes[-1].output[0]:
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
            f"cannot write {what} in {where} as ONNX; supported: {known}, BatchNorm2d after Conv2d, "
            "arithmetic, matrix products, changes of shape and functional forms of these"
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
        name = f"constant_{value:.9g}"
        if name not in self.taken:
            self.parameter(name, torch.tensor(value))
        return name

    def integers(self, values: Sequence[int]) -> str:
        """Add a list of integers, such as a shape, once and return its name."""
        name = "integers_" + "_".join(map(str, values))
        if name not in self.taken:
            self.taken.add(name)
            self.initializers.append(numpy_helper.from_array(np.array(values, np.int64), name))
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
        if isinstance(argument, int | float):
            return self.scalar(argument)
        if not isinstance(argument, fx.Node):
            raise self.unsupported(node, f"{node.name} with the argument {argument!r}")
        return self.names[argument] if argument in self.names else self.constant(argument)

    def option(self, node: fx.Node, position: int, name: str, default: Any = None) -> Any:
        """Return what ``node`` takes at ``position`` or by ``name``, which is no traced value."""
        return node.args[position] if len(node.args) > position else node.kwargs.get(name, default)

    def constant(self, node: fx.Node) -> str:
        """Add a tensor of ``constants``, named after the parameter that it comes from, and return its name."""
        source = node
        while source.all_input_nodes:
            source = source.all_input_nodes[0]
        name = str(source.target) if source.op == "get_attr" else source.name
        self.names[node] = self.parameter(name, self.constants[node])
        return self.names[node]

    def only_user(self, node: fx.Node) -> fx.Node | None:
        """Return the one node that uses the value of ``node``; None where there are more."""
        users = list(node.users)
        return users[0] if len(users) == 1 else None


def path_of(node: fx.Node) -> str:
    """Return the path of the module in which ``node`` was traced; empty at the top."""
    stack = node.meta.get("nn_module_stack") or {"": None}
    return str(next(reversed(stack))).partition("@")[0]  # torch.fx appends @1 to the path of a module used again
