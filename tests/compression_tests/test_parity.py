"""The gates let a faithful model through with its figures, and each stops what it is there for."""

import copy
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass

import numpy as np
import onnx
import pytest
import torch
from onnx import ModelProto
from onnxruntime import GraphOptimizationLevel as Level
from torch import nn

from nas.compression import Session, activation_ranges, gates, parity, quantize_graph
from nas.compression.engine import HostEngine
from nas.compression.sessions import open_session
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
    assert report.kernels == {"Conv": 2, "Gemm": 1, "MatMul": 0}
    assert report.fp32_difference < 1e-5
    assert report.simulation_error <= report.fused_error < report.quantization_error < 0.2
    assert report.fused_agreement > 0.9 and report.quantization_agreement > 0.8


def test_an_fp32_model_passes_with_no_integer_kernels(
    network: nn.Module, graph: ModelProto, images: np.ndarray
) -> None:
    precisions = dict.fromkeys(PRECISIONS, "fp32")
    report = parity(network, graph, quantize_graph(graph, precisions, None), precisions, images)
    assert report.kernels == {"Conv": 0, "Gemm": 0, "MatMul": 0}
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
        VerificationError, match=r"gate A: the graph's logits in fp32 differ from torch's in fp32 by .* allowed 0.0001"
    ):
        parity(trained_on, graph, quantized, PRECISIONS, images)


def test_a_gate_that_stops_is_failed_work_and_no_wrong_use() -> None:
    assert VerificationError("gate A").exit_code == 1


class Wrong:
    """A session whose answers are ``factor`` times the right ones."""

    def __init__(self, session: Session, factor: float) -> None:
        self.session, self.factor = session, factor

    def run(self, names: None, feed: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        return [self.factor * output for output in self.session.run(names, feed)]


@dataclass(frozen=True)
class WrongEngine(HostEngine):
    """An engine whose sessions of graphs with ``operator`` in them are wrong, and which may lack integer kernels."""

    operator: str = "Conv"
    factor: float = 1.0
    integers: bool = True

    def session(self, model: bytes) -> Session:
        kinds = {node.op_type for node in onnx.load_from_string(model).graph.node}
        return Wrong(super().session(model), self.factor if self.operator in kinds else 1.0)

    def integer_kernels(self, model: bytes) -> Mapping[str, int]:
        return super().integer_kernels(model) if self.integers else {}


@pytest.mark.parametrize(
    ("floats", "factor", "held"), [("bf16", 1.06, True), ("bf16", 3.0, False), ("fp16", 1.1, False)]
)
def test_gate_a_allows_what_the_floats_of_a_device_round_away(
    network: nn.Module, graph: ModelProto, images: np.ndarray, floats: str, factor: float, held: bool
) -> None:
    precisions, engine = dict.fromkeys(PRECISIONS, floats), WrongEngine(factor=factor, executed_float=floats)
    with nullcontext() if held else pytest.raises(VerificationError, match=f"gate A: the graph's logits in {floats}"):
        report = parity(network, graph, quantize_graph(graph, precisions, None), precisions, images, engine=engine)
        assert report.floats == floats and 0 < report.fp32_difference < 0.1


def test_gate_b_stops_an_optimisation_that_computes_something_else(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    def session(model: ModelProto, level: Level) -> Session:
        return Wrong(open_session(model, level), 1.5 if level == Level.ORT_ENABLE_BASIC else 1.0)

    monkeypatch.setattr(gates, "open_session", session)
    with pytest.raises(VerificationError, match=r"gate B: basic optimisation changes the quantized graph's logits by "):
        parity(network, graph, quantized, PRECISIONS, images)


def test_gate_c_stops_integer_kernels_that_compute_something_else(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray
) -> None:
    engine = WrongEngine(operator="QuantizeLinear", factor=1.5)
    with pytest.raises(VerificationError, match=r"gate C: the integer kernels' logits differ .* in the form u8s7"):
        parity(network, graph, quantized, PRECISIONS, images, engine=engine)


def test_how_many_images_must_keep_their_class_is_the_callers_to_say(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray
) -> None:
    with pytest.raises(VerificationError, match=r"gate Q: .* of the images keep their class, allowed from 101 %"):
        parity(network, graph, quantized, PRECISIONS, images, min_agreement=1.01)


def test_not_a_number_does_not_slip_through(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray
) -> None:
    with pytest.raises(VerificationError, match="gate A"):
        parity(network, graph, quantized, PRECISIONS, images, engine=WrongEngine(factor=float("nan")))


def test_kernels_that_were_not_asked_for_are_noticed(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray
) -> None:
    asked = PRECISIONS | {"4": "int8"}
    with pytest.raises(VerificationError, match=r"3 Conv asked for, 2 run; 1 Gemm asked for, 1 run"):
        parity(network, graph, quantized, asked, images)


def test_a_runtime_without_integer_kernels_is_noticed(
    network: nn.Module, graph: ModelProto, quantized: ModelProto, images: np.ndarray
) -> None:
    with pytest.raises(
        VerificationError,
        match=r"2 Conv asked for, 0 run; .* or onnxruntime .* lacks the kernels here",
    ):
        parity(network, graph, quantized, PRECISIONS, images, engine=WrongEngine(integers=False))


def test_images_must_fill_the_graphs_batches(network: nn.Module, images: np.ndarray) -> None:
    graph = to_onnx(network, 1, 20, 5)
    precisions = dict.fromkeys(PRECISIONS, "fp32")
    with pytest.raises(UsageError, match=r"32 images do not divide into the graph's batches of 5"):
        parity(network, graph, graph, precisions, images)
