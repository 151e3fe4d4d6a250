"""Multiply-adds, size and memory are what counting on the exported graph gives, for every family."""

from collections.abc import Iterator

import numpy as np
import pytest
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper, shape_inference
from tiny_families import TINY

from latency_tables.costs import Images
from latency_tables.network_costs import FIGURES, NetworkCosts
from nas.compression.qdq import quantize_graph
from search_spaces import SearchSpace, get_space
from supernets.families import make_subnet
from supernets.graph import to_onnx

CHANNELS, CLASSES = 3, 7
IN_PLACE = {"Relu", "Clip", "HardSwish", "HardSigmoid", "Gelu", "Softmax", "Add", "Mul"}
SPACES = {**TINY, "fashion-mbv3": lambda: get_space("fashion-mbv3"), "squeezed": lambda: get_space("ofa-mbv3"),
          "fashion-former": lambda: get_space("fashion-former")}  # fmt: skip


def sampled(name: str) -> tuple[SearchSpace, np.ndarray]:
    space = SPACES[name]()
    count = 3 if name == "squeezed" else 12
    return space, space.sample(count, np.random.default_rng(0))


def graph(space: SearchSpace, row: np.ndarray) -> tuple[ModelProto, dict[str, str]]:
    """Return a network's fp32 graph, and the precision of each unit."""
    subnet = make_subnet(space, candidate := space.candidate(row), channels=CHANNELS, classes=CLASSES).eval()
    return shape_inference.infer_shapes(to_onnx(subnet, CHANNELS, candidate.resolution)), dict(subnet.units())


def shapes_of(model: ModelProto) -> dict[str, list[int]]:
    values = (*model.graph.value_info, *model.graph.input, *model.graph.output)
    return {value.name: [axis.dim_value for axis in value.type.tensor_type.shape.dim] for value in values}


def unit_of(node: NodeProto, precisions: dict[str, str]) -> str:
    return next(unit for unit in precisions if node.name.startswith((f"{unit}.", f"{unit}/")))


def counted_macs(model: ModelProto) -> int:
    shapes = shapes_of(model) | {tensor.name: list(tensor.dims) for tensor in model.graph.initializer}
    total = 0
    for node in model.graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = shapes[node.input[1]]
            total += int(np.prod(shapes[node.output[0]])) * int(np.prod(weight[1:]))
        elif node.op_type == "MatMul":
            total += int(np.prod(shapes[node.output[0]])) * shapes[node.input[0]][-1]
    return total


def alive(model: ModelProto) -> Iterator[tuple[NodeProto, int]]:
    """Yield each node and the elements of activations that are alive while it runs."""
    shapes = shapes_of(model)
    size = {name: int(np.prod(shape)) for name, shape in shapes.items()}
    last = {name: at for at, node in enumerate(model.graph.node) for name in node.input}
    live = {value.name for value in model.graph.input}
    for at, node in enumerate(model.graph.node):
        reads = [name for name in node.input if name in size]
        dying = [name for name in reads if last[name] == at]
        same = [name for name in dying if size[name] == size[node.output[0]]]
        views = node.op_type in ("Reshape", "Flatten") or (node.op_type in IN_PLACE and same)
        after = (live - set(dying)) | set(node.output)
        yield node, sum(size[name] for name in (after if views else live | set(node.output)))
        live = {name for name in after if last.get(name, -1) > at}


@pytest.mark.parametrize("name", SPACES)
def test_multiply_adds_are_those_of_the_graph(name: str) -> None:
    space, genes = sampled(name)
    costs = NetworkCosts(space, Images(CHANNELS, CLASSES))
    counted = [counted_macs(graph(space, row)[0]) for row in genes]
    np.testing.assert_allclose(costs.predict(genes, "macs_m") * 1e6, counted, rtol=1e-12)


@pytest.mark.parametrize("name", SPACES)
def test_memory_is_the_most_that_is_alive_at_once(name: str) -> None:
    space, genes = sampled(name)
    costs = NetworkCosts(space, Images(CHANNELS, CLASSES))
    counted = []
    for row in genes:
        model, precisions = graph(space, row)
        each = {"fp32": 4, "int8": 1}
        counted.append(max(each[precisions[unit_of(node, precisions)]] * count for node, count in alive(model)))
    np.testing.assert_allclose(costs.predict(genes, "memory_mb") * 1e6, counted, rtol=1e-12)


@pytest.mark.parametrize("name", SPACES)
def test_size_is_that_of_the_quantized_graphs_weights(name: str) -> None:
    space, genes = sampled(name)
    costs = NetworkCosts(space, Images(CHANNELS, CLASSES))
    counted = []
    for row in genes:
        model, precisions = graph(space, row)
        counted.append(weight_bytes(quantize_graph(model, precisions, None)))
    predicted = costs.predict(genes, "size_mb") * 1e6
    np.testing.assert_allclose(predicted, counted, rtol=1e-12)


def weight_bytes(model: ModelProto) -> int:
    """Count what holds weights: not the scales of biases and activations, no zero points, no single numbers."""
    total = 0
    for tensor in model.graph.initializer:
        array = numpy_helper.to_array(tensor)
        per_channel_weight = tensor.name.endswith("_scale") and array.size > 1 and "bias" not in tensor.name
        holds = tensor.data_type in (TensorProto.INT8, TensorProto.UINT8, TensorProto.INT32, TensorProto.FLOAT)
        if array.size > 1 and (per_channel_weight or (holds and not tensor.name.endswith(("_scale", "zero_point")))):
            total += array.nbytes
    return total


def test_figures_are_of_many_networks_at_once_and_their_order_does_not_matter() -> None:
    space = get_space("fashion-mbv3")
    costs = NetworkCosts(space, Images(1, 10))
    genes = space.sample(500, np.random.default_rng(0))
    for figure in FIGURES:
        whole = costs.predict(genes, figure)
        assert (whole > 0).all() and np.array_equal(whole[::-1], costs.predict(genes[::-1], figure))
    int8, fp32 = (costs.predict(space.with_precision(genes, one), "size_mb") for one in ("int8", "fp32"))
    assert (int8 < 0.5 * fp32).all()


def test_bf16_ships_as_fp32_and_keeps_half_as_much_alive() -> None:
    wide, narrow = (get_space("fashion-mbv3", precisions=(name, "int8")) for name in ("fp32", "bf16"))
    genes = wide.with_precision(wide.sample(20, np.random.default_rng(0)), "fp32")
    fp32, bf16 = (
        {name: NetworkCosts(s, Images(1, 10)).predict(genes, name) for name in FIGURES} for s in (wide, narrow)
    )
    assert np.array_equal(fp32["size_mb"], bf16["size_mb"]) and np.array_equal(fp32["macs_m"], bf16["macs_m"])
    np.testing.assert_allclose(bf16["memory_mb"], fp32["memory_mb"] / 2)
