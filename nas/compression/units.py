"""Which nodes of a graph a unit of precision holds.

A unit is named by a module path (``stem``, ``blocks.block_0_1``, ``head``) and holds every node traced inside that
module: node names open with the path of their module, ``blocks.block_0_1.depthwise.conv/Conv``.
"""

from collections import Counter
from collections.abc import Mapping

from onnx import ModelProto, NodeProto

from nas.errors import UsageError
from nas.registry import unknown_name
from search_spaces import FLOATS

PRECISIONS = (*FLOATS, "int8")

PRODUCTS = ("Conv", "Gemm", "MatMul")
"""The operators that a runtime must execute in integers inside an int8 unit."""


def quantized_nodes(model: ModelProto, precisions: Mapping[str, str]) -> list[NodeProto]:
    """Return the nodes of ``model`` inside the units whose precision is ``int8``, in the graph's order.

    A node inside several units takes the precision of the innermost; one inside none stays in floats.

    Raises:
        UsageError: A precision is unknown, or a unit holds no node of the graph.
    """
    for precision in precisions.values():
        if precision not in PRECISIONS:
            raise unknown_name("precision", precision, PRECISIONS)
    found: set[str] = set()
    chosen = []
    for node in model.graph.node:
        units = [unit for unit in _modules(node.name) if unit in precisions]
        found.update(units)
        if units and precisions[units[-1]] == "int8":
            chosen.append(node)
    absent = sorted(set(precisions) - found)
    if absent:
        roots = sorted({name.split("/")[0].split(".")[0] for name in (node.name for node in model.graph.node)})
        raise UsageError(f"no node of the graph lies in {', '.join(absent)}; its modules are under: {', '.join(roots)}")
    return chosen


def _modules(node_name: str) -> list[str]:
    """Return the paths of the modules around a node, outermost first: ``a``, ``a.b`` for ``a.b/Conv``."""
    path, slash, _ = node_name.rpartition("/")
    parts = path.split(".") if slash else []
    return [".".join(parts[: length + 1]) for length in range(len(parts))]


def expected_kernels(model: ModelProto, precisions: Mapping[str, str]) -> Counter[str]:
    """Return how many Conv, Gemm and MatMul the int8 units ask to be run in integers."""
    return Counter(node.op_type for node in quantized_nodes(model, precisions) if node.op_type in PRODUCTS)


def expected_quantized_convs(model: ModelProto, precisions: Mapping[str, str]) -> int:
    """Return the number of convolutions inside the int8 units of the fp32 graph ``model``."""
    return expected_kernels(model, precisions)["Conv"]
