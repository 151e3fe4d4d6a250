"""Quantized graphs run the chosen units, and only those, in integer kernels, and equal onnxruntime's own."""

from collections import Counter

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import ModelProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from torch import nn

from nas.compression import (
    Ranges,
    activation_ranges,
    executed_operators,
    expected_quantized_convs,
    quantize_graph,
    quantized_convs,
)
from nas.compression.qdq import OP_TYPES
from nas.compression.units import quantized_nodes
from nas.errors import UsageError
from search_spaces import get_space
from supernets import Subnet, get_supernet
from supernets.graph import to_onnx


def make_subnet(seed: int) -> Subnet:
    """Return a random subnet whose batch norms have statistics of their own."""
    space = get_space("fashion-mbv3")
    torch.manual_seed(seed)
    candidate = space.candidate(space.sample(1, np.random.default_rng(seed))[0])
    subnet = get_supernet("fashion-mbv3", pretrained=False).extract(candidate).train()
    for module in subnet.modules():
        if isinstance(module, nn.BatchNorm2d):
            nn.init.uniform_(module.weight, 0.5, 1.5)
            nn.init.normal_(module.bias, 0, 0.3)
    for _ in range(10):
        subnet(torch.randn(16, 1, candidate.resolution, candidate.resolution))
    return subnet.eval()


def make_images(resolution: int, count: int = 32) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 1, resolution, resolution)).astype(np.float32)


def by_the_library(model: ModelProto, nodes: list[str], ranges: Ranges, **options: object) -> ModelProto:
    """Quantize with onnxruntime's quantizer alone, weights included."""
    limits = {
        name: TensorData(lowest=np.float32(low), highest=np.float32(high))
        for name, (low, high) in ranges.limits.items()
    }
    settings = {"reduce_range": False, "activation_qType": QuantType.QUInt8} | options
    copy = ModelProto()
    copy.CopyFrom(model)
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        weight_qType=QuantType.QInt8,
        tensors_range=limits,
        nodes_to_quantize=nodes,
        nodes_to_exclude=[],
        op_types_to_quantize=OP_TYPES,
        extra_options={},
        **settings,
    )
    quantized: ModelProto = quantizer.quantize_model()
    return quantized


def logits(model: ModelProto, images: np.ndarray) -> np.ndarray:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return np.concatenate([session.run(None, {"input": image[None]})[0] for image in images])


@pytest.fixture(scope="module")
def subnet() -> Subnet:
    return make_subnet(0)


@pytest.fixture(scope="module")
def graph(subnet: Subnet) -> ModelProto:
    return to_onnx(subnet, 1, subnet.candidate.resolution)


@pytest.fixture(scope="module")
def ranges(graph: ModelProto, subnet: Subnet) -> Ranges:
    return activation_ranges(graph, make_images(subnet.candidate.resolution))


def all_units(subnet: Subnet, precision: str) -> dict[str, str]:
    return {unit: precision for unit, _ in subnet.units()}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("form", "theirs"),
    [
        ("u8s8", {}),
        ("u8s7", {"reduce_range": True}),
        ("s8s8", {"activation_qType": QuantType.QInt8}),
    ],
)
def test_logits_equal_those_of_onnxruntimes_quantizer(seed: int, form: str, theirs: dict[str, object]) -> None:
    subnet = make_subnet(seed)
    graph = to_onnx(subnet, 1, subnet.candidate.resolution)
    images = make_images(subnet.candidate.resolution)
    ranges = activation_ranges(graph, images)
    rng = np.random.default_rng(seed)
    precisions = {unit: str(rng.choice(["fp32", "int8"])) for unit, _ in subnet.units()}
    quantized = quantize_graph(graph, precisions, ranges, form=form)
    onnx.checker.check_model(quantized, full_check=True)
    names = [node.name for node in quantized_nodes(graph, precisions)]
    expected = by_the_library(graph, names, ranges, **theirs)
    np.testing.assert_array_equal(logits(quantized, images[:4]), logits(expected, images[:4]))


def test_a_dead_channel_keeps_its_bias() -> None:
    """Beside weights of 1e-12 the bias would overflow 32 bits in steps of input scale x weight scale."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 16, 3), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten()).eval()
    conv = net[0]
    assert isinstance(conv, nn.Conv2d) and conv.bias is not None
    with torch.no_grad():
        conv.weight[3] *= 1e-12
        conv.bias[3] = 0.7
    graph, images = to_onnx(net, 1, 20), make_images(20)
    ranges = activation_ranges(graph, images)
    quantized = quantize_graph(graph, {"0": "int8"}, ranges)
    found = logits(quantized, images[:4])
    np.testing.assert_allclose(found[:, 3], 0.7, atol=0.01)
    np.testing.assert_array_equal(found, logits(by_the_library(graph, ["0/Conv"], ranges), images[:4]))


def test_an_int8_network_has_no_float_node_inside(graph: ModelProto, subnet: Subnet, ranges: Ranges) -> None:
    precisions = all_units(subnet, "int8")
    quantized = quantize_graph(graph, precisions, ranges)
    operators = executed_operators(quantized)
    asked = Counter(node.op_type for node in graph.graph.node)
    assert operators["QLinearConv"] == asked["Conv"] == expected_quantized_convs(graph, precisions)
    assert operators["QLinearAdd"] == asked["Add"]
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == operators["QGemm"] == 1
    assert not {"Conv", "Add", "Relu", "Gemm", "GlobalAveragePool"} & set(operators)


def test_only_the_int8_units_run_in_integer_kernels(graph: ModelProto, subnet: Subnet, ranges: Ranges) -> None:
    chosen = ["stem", subnet.units()[3][0]]
    precisions = all_units(subnet, "fp32") | dict.fromkeys(chosen, "int8")
    quantized = quantize_graph(graph, precisions, ranges)
    operators = executed_operators(quantized)
    assert quantized_convs(quantized) == expected_quantized_convs(graph, precisions) == 4
    assert operators["Conv"] == sum(node.op_type == "Conv" for node in graph.graph.node) - 4
    assert operators["QGemm"] == 0
    weights = {tensor.name for tensor in quantized.graph.initializer if tensor.data_type == onnx.TensorProto.INT8}
    assert {name.rsplit(".", 2)[0] for name in weights if name.endswith("_quantized")} == {
        "stem",
        *(f"{chosen[1]}.{part}" for part in ("expand", "depthwise", "project")),
    }


def test_a_boundary_is_one_quantize_or_one_dequantize_in_the_file(
    graph: ModelProto, subnet: Subnet, ranges: Ranges
) -> None:
    first_block = subnet.units()[1][0]
    quantized = quantize_graph(graph, {first_block: "int8"}, ranges)
    before = {name for node in quantized_nodes(graph, {first_block: "int8"}) for name in (*node.input, *node.output)}
    quantizers = [node for node in quantized.graph.node if node.op_type == "QuantizeLinear"]
    outside = [node for node in quantizers if node.input[0] not in before]
    assert outside == []
    operators = executed_operators(quantized)
    assert operators["QuantizeLinear"] == 1


@pytest.mark.parametrize("seed", range(3))
def test_assumed_ranges_give_the_kernels_that_calibrated_ones_give(seed: int) -> None:
    subnet = make_subnet(seed)
    graph = to_onnx(subnet, 1, subnet.candidate.resolution)
    ranges = activation_ranges(graph, make_images(subnet.candidate.resolution))
    for precisions in (all_units(subnet, "int8"), all_units(subnet, "fp32") | {"head": "int8"}):
        timed, shipped = quantize_graph(graph, precisions, None), quantize_graph(graph, precisions, ranges)
        assert executed_operators(timed) == executed_operators(shipped)


def test_weights_are_int8_per_channel_with_zero_point_0(graph: ModelProto, subnet: Subnet, ranges: Ranges) -> None:
    quantized = quantize_graph(graph, {"stem": "int8"}, ranges)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    weight = tensors["stem.conv.weight_quantized"]
    assert weight.dtype == np.int8
    np.testing.assert_array_equal(np.abs(weight.astype(int)).reshape(len(weight), -1).max(axis=1), 127)
    assert tensors["stem.conv.weight_scale"].shape == (len(weight),)
    assert not tensors["stem.conv.weight_zero_point"].any()
    assert tensors["input_zero_point"].dtype == np.uint8


@pytest.mark.parametrize(
    ("form", "kind", "top"), [("u8s8", np.uint8, 127), ("u8s7", np.uint8, 64), ("s8s8", np.int8, 127)]
)
def test_every_form_is_for_other_processors(
    form: str, kind: type[np.generic], top: int, graph: ModelProto, ranges: Ranges
) -> None:
    quantized = quantize_graph(graph, {"stem": "int8"}, ranges, form=form)
    tensors = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    assert tensors["input_zero_point"].dtype == kind
    assert np.abs(tensors["stem.conv.weight_quantized"].astype(int)).max() == top


def test_the_fp32_graph_is_left_as_it_was(graph: ModelProto, subnet: Subnet, ranges: Ranges) -> None:
    before = graph.SerializeToString(deterministic=True)
    quantize_graph(graph, all_units(subnet, "int8"), ranges)
    unchanged = quantize_graph(graph, all_units(subnet, "fp32"), ranges)
    assert graph.SerializeToString(deterministic=True) == before == unchanged.SerializeToString(deterministic=True)
    assert unchanged is not graph


def chain(*names: str) -> ModelProto:
    """Return a graph of Relu nodes with these names."""
    values = ["input", *(f"value_{index}" for index in range(len(names)))]
    nodes = [
        helper.make_node("Relu", [values[index]], [values[index + 1]], name=name) for index, name in enumerate(names)
    ]
    shape = helper.make_tensor_value_info("input", onnx.TensorProto.FLOAT, [1])
    return helper.make_model(helper.make_graph(nodes, "chain", [shape], []))


def test_units_are_matched_by_components_of_the_path_and_the_innermost_wins() -> None:
    model = chain("a.b_1/Conv", "a.b_1.c/Conv", "a.b_10/Conv", "a.b_10.c/Conv", "ab_1/Conv", "Conv")
    names = lambda precisions: [node.name for node in quantized_nodes(model, precisions)]  # noqa: E731
    assert names({"a.b_1": "int8"}) == ["a.b_1/Conv", "a.b_1.c/Conv"]
    assert names({"a": "int8", "a.b_10": "fp32"}) == ["a.b_1/Conv", "a.b_1.c/Conv"]
    assert names({"a": "fp32", "a.b_10.c": "int8"}) == ["a.b_10.c/Conv"]


def test_hard_swish_units_run_in_integer_kernels() -> None:
    torch.manual_seed(0)
    net = nn.Sequential(
        nn.Conv2d(1, 16, 3), nn.Hardswish(), nn.Conv2d(16, 16, 3), nn.Hardswish(), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()
    graph = to_onnx(net, 1, 20)
    quantized = quantize_graph(graph, dict.fromkeys("01234", "int8"), activation_ranges(graph, make_images(20)))
    operators = executed_operators(quantized)
    assert (operators["QLinearConv"], operators["QLinearAdd"], operators["QLinearMul"]) == (2, 2, 4)
    assert operators["QuantizeLinear"] == operators["DequantizeLinear"] == 1


def test_quantization_says_nothing(
    graph: ModelProto,
    subnet: Subnet,
    ranges: Ranges,
    caplog: pytest.LogCaptureFixture,
    capsys: pytest.CaptureFixture[str],
) -> None:
    quantize_graph(graph, all_units(subnet, "int8"), ranges)
    assert (caplog.records, capsys.readouterr()) == ([], ("", ""))


@pytest.mark.parametrize(
    ("precisions", "options", "message"),
    [
        ({"stem": "int4"}, {}, r"unknown precision 'int4'; there is: bf16, fp16, fp32, int8"),
        (
            {"blocks.block_9_9": "int8"},
            {},
            r"no node of the graph lies in blocks\.block_9_9; .*under: blocks, head, stem",
        ),
        ({"stem": "int8"}, {"form": "u8s4"}, r"unknown form of int8 'u8s4'; there is: s8s8, u8s7, u8s8"),
    ],
)
def test_wrong_choices_are_named(
    precisions: dict[str, str], options: dict[str, str], message: str, graph: ModelProto, ranges: Ranges
) -> None:
    with pytest.raises(UsageError, match=message):
        quantize_graph(graph, precisions, ranges, **options)  # type: ignore[arg-type]


def test_ranges_of_another_graph_are_refused(graph: ModelProto) -> None:
    with pytest.raises(UsageError, match=r"the ranges have no entry for 'input'; calibrate them on the graph"):
        quantize_graph(graph, {"stem": "int8"}, Ranges({}))
