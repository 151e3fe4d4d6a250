"""The gates let a faithful model through with its figures, and each stops what it is there for."""

import copy
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from onnx import ModelProto
from onnxruntime import GraphOptimizationLevel as Level
from torch import nn

from nas.compression import activation_ranges, gates, parity, quantize_graph
from nas.errors import UsageError, VerificationError
from supernets.graph import to_onnx

PRECISIONS = {"0": "int8", "2": "int8", "4": "fp32", "6": "int8"}


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        *(nn.Conv2d(1, 16, 3), nn.ReLU()),
        *(nn.Conv2d(16, 16, 3, groups=16), nn.ReLU()),
        nn.Conv2d(16, 24, 1),
        nn.ReLU(),
        nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(24, 10)),
    ).eval()


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    blobs = np.random.default_rng(0).normal(size=(32, 1, 1, 1)) + np.random.default_rng(1).normal(size=(32, 1, 20, 20))
    return blobs.astype(np.float32)


@pytest.fixture(scope="module")
def graph(network: nn.Module) -> ModelProto:
    return to_onnx(network, 1, 20)


@pytest.fixture(scope="module")
def quantized(graph: ModelProto, images: np.ndarray) -> ModelProto:
    return quantize_graph(graph, PRECISIONS, activation_ranges(graph, images))


def test_a_faithful_model_passes_with_its_figures(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray
) -> None:
    report = parity(network, graph, quantized, PRECISIONS, images)
    assert report.images == 32
    assert report.kernels == {"QLinearConv": 2, "QGemm": 1, "QLinearMatMul": 0}
    assert report.fp32_difference < 1e-5
    assert report.simulation_error <= report.fused_error < report.quantization_error < 0.2
    assert report.fused_agreement > 0.9 and report.quantization_agreement > 0.8


def test_an_fp32_model_passes_with_no_integer_kernels(
    network: nn.Module, graph: ModelProto, images: np.ndarray
) -> None:
    precisions = dict.fromkeys(PRECISIONS, "fp32")
    report = parity(network, graph, quantize_graph(graph, precisions, None), precisions, images)
    assert report.kernels == {"QLinearConv": 0, "QGemm": 0, "QLinearMatMul": 0}
    assert report.quantization_error < 1e-5


def test_an_open_batch_passes_too(network: nn.Module, images: np.ndarray) -> None:
    graph = to_onnx(network, 1, 20, "N")
    quantized = quantize_graph(graph, PRECISIONS, activation_ranges(graph, images))
    assert parity(network, graph, quantized, PRECISIONS, images).images == 32


def test_gate_a_stops_a_graph_of_another_network(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray
) -> None:
    trained_on = copy.deepcopy(network)
    with torch.no_grad():
        next(trained_on.parameters()).mul_(1.01)
    with pytest.raises(
        VerificationError, match=r"gate A: the fp32 graph's logits differ from torch's by .* allowed 0.0001"
    ):
        parity(trained_on, graph, quantized, PRECISIONS, images)


def test_a_gate_that_stops_is_failed_work_and_no_wrong_use() -> None:
    assert VerificationError("gate A").exit_code == 1


def disturbed(level: Level) -> Callable[[ModelProto, np.ndarray, Level], np.ndarray]:
    """Return the logits as they would be if onnxruntime went wrong at ``level``."""
    logits = gates._logits

    def run(model: ModelProto, images: np.ndarray, at: Level) -> np.ndarray:
        quantized = any(node.op_type == "QuantizeLinear" for node in model.graph.node)
        return logits(model, images, at) * (1.5 if at == level and quantized else 1.0)

    return run


@pytest.mark.parametrize(
    ("level", "message"),
    [
        (Level.ORT_ENABLE_BASIC, r"gate B: basic optimisation changes the quantized graph's logits by .* allowed"),
        (Level.ORT_ENABLE_ALL, r"gate C: the integer kernels' logits differ from the simulation's by .* reduce_range"),
    ],
)
def test_gates_b_and_c_stop_a_runtime_that_computes_something_else(
    level: Level,
    message: str,
    network: nn.Module,
    graph: ModelProto,
    quantized: ModelProto,
    images: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gates, "_logits", disturbed(level))
    with pytest.raises(VerificationError, match=message):
        parity(network, graph, quantized, PRECISIONS, images)


def test_how_many_images_must_keep_their_class_is_the_callers_to_say(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray
) -> None:
    with pytest.raises(VerificationError, match=r"gate Q: .* of the images keep their class, allowed from 101 %"):
        parity(network, graph, quantized, PRECISIONS, images, min_agreement=1.01)


def test_not_a_number_does_not_slip_through(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "_logits", lambda model, images, level: np.full((len(images), 10), np.nan, np.float32))
    with pytest.raises(VerificationError, match="gate A"):
        parity(network, graph, quantized, PRECISIONS, images)


def test_kernels_that_were_not_asked_for_are_noticed(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray
) -> None:
    asked = PRECISIONS | {"4": "int8"}
    with pytest.raises(VerificationError, match=r"3 QLinearConv asked for, 2 run; 1 QGemm asked for, 1 run"):
        parity(network, graph, quantized, asked, images)


def test_a_runtime_without_integer_kernels_is_noticed(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(gates, "executed_operators", lambda model: Counter({"Conv": 3, "Gemm": 1}))
    with pytest.raises(VerificationError, match=r"2 QLinearConv asked for, 0 run; .* search in fp32 there"):
        parity(network, graph, quantized, PRECISIONS, images)


def test_images_must_fill_the_graphs_batches(network: nn.Module, images: np.ndarray) -> None:
    graph = to_onnx(network, 1, 20, 5)
    precisions = dict.fromkeys(PRECISIONS, "fp32")
    with pytest.raises(UsageError, match=r"32 images do not divide into the graph's batches of 5"):
        parity(network, graph, graph, precisions, images)
