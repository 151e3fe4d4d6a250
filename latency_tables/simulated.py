"""A device that computes latencies instead of measuring them: for tests and documentation, never shown as measured.

It reads the ONNX graph, charges each node by a hidden cost model (multiply-adds and output elements, cheaper for
convolutions between quantizers, a fee for a quantizer on its own), and adds noise and a slow drift from a seed. Its
clock is its own, so that a full calibration takes no real time beyond building the graphs.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from onnx import GraphProto, NodeProto, numpy_helper, shape_inference

from latency_tables.device import Device
from latency_tables.protocol import Runner
from latency_tables.reference_net import REFERENCE_VERSION, reference_model
from nas.errors import DeviceError


@dataclass(frozen=True)
class CostModel:
    """Nanoseconds per multiply-add, per element moved and per node; ``noise`` and ``drift`` are relative."""

    mac_fp32_ns: float = 0.05
    mac_int8_ns: float = 0.02
    element_ns: float = 0.4
    quantize_element_ns: float = 0.6
    node_ns: float = 1500.0
    noise: float = 0.01
    drift: float = 0.03


class SimulatedDevice(Device):
    """A pretended accelerator with fp32 and int8.

    Args:
        name: Its name in tables and messages.
        precisions: Its menu.
        costs: The hidden cost model.
        seed: Decides the noise.
    """

    simulated = True

    def __init__(
        self,
        name: str = "simulated",
        *,
        precisions: tuple[str, ...] = ("fp32", "int8"),
        costs: CostModel | None = None,
        seed: int = 0,
    ) -> None:
        self.name = name
        self.runtime = "simulated 1"
        self._precisions = precisions
        self._costs = costs or CostModel()
        self._rng = np.random.default_rng(seed)
        self._now = 0.0

    @property
    def precisions(self) -> tuple[str, ...]:
        return self._precisions

    def describe(self) -> dict[str, Any]:
        return {
            "cpu": f"simulated by {self.name}",
            "runtime": "simulated",
            "runtime_version": "1",
            "threads": 1,
            "batch": 1,
            "precisions": list(self._precisions),
            "reference_version": REFERENCE_VERSION,
            "simulated": True,
        }

    def clock(self) -> float:
        return self._now

    def true_ms(self, model: bytes) -> float:
        """Return the noiseless latency of a serialised ONNX model: what a test compares with."""
        try:
            graph = shape_inference.infer_shapes(onnx.load_from_string(model)).graph
        except Exception as error:  # protobuf's and onnx's exceptions share no base class
            raise DeviceError(
                f"model: the simulated device {self.name!r} cannot read it ({type(error).__name__})"
            ) from error
        return _graph_ns(graph, self._costs) * 1e-6

    def load(self, model: bytes) -> Runner:
        return _SimulatedRunner(self, self.true_ms(model) * 1e-3)

    def reference(self) -> Runner:
        return self.load(reference_model().SerializeToString())

    def elapse(self, seconds: float) -> float:
        """Let ``seconds`` of undisturbed work pass; return how long they took with noise and drift."""
        costs = self._costs
        speed = 1 + costs.drift * np.sin(self._now / 20) + costs.noise * self._rng.standard_normal()
        self._now += seconds * speed
        return float(seconds * speed)


@dataclass
class _SimulatedRunner:
    device: SimulatedDevice
    seconds: float

    def run(self, count: int) -> float:
        return self.device.elapse(self.seconds * count)


def _graph_ns(graph: GraphProto, costs: CostModel) -> float:
    shapes = {value.name: _shape(value) for value in [*graph.value_info, *graph.input, *graph.output]}
    shapes |= {tensor.name: tuple(numpy_helper.to_array(tensor).shape) for tensor in graph.initializer}
    constants = {tensor.name for tensor in graph.initializer}
    producers = {output: node for node in graph.node for output in node.output}
    return sum(_node_ns(node, shapes, constants, producers, costs) for node in graph.node)


def _node_ns(
    node: NodeProto,
    shapes: dict[str, tuple[int, ...]],
    constants: set[str],
    producers: dict[str, NodeProto],
    costs: CostModel,
) -> float:
    source = producers.get(node.input[0]) if node.input else None
    elements = int(np.prod(shapes.get(node.output[0], (1,))))
    if node.op_type == "DequantizeLinear":
        return 0.0  # folded into the integer kernel, or into the quantizer's fee
    if node.op_type == "QuantizeLinear":
        inside = node.input[0] in constants or (source is not None and _quantized(source, producers))
        return 0.0 if inside else costs.node_ns + costs.quantize_element_ns * elements
    quantized = _quantized(node, producers)
    macs = 0
    if node.op_type in ("Conv", "Gemm", "MatMul"):
        weight = shapes.get(node.input[1], (1,))
        macs = elements * int(np.prod(weight[1:] if node.op_type == "Conv" else weight[:1]))
    per_mac = costs.mac_int8_ns if quantized else costs.mac_fp32_ns
    per_element = costs.element_ns / (4 if quantized else 1)
    return costs.node_ns + per_mac * macs + per_element * elements


def _quantized(node: NodeProto, producers: dict[str, NodeProto]) -> bool:
    """Return whether a node's first input comes straight, or through an activation, from a dequantizer."""
    source = producers.get(node.input[0]) if node.input else None
    if source is not None and node.op_type in ("Relu", "Clip"):
        return _quantized(source, producers)
    return source is not None and source.op_type == "DequantizeLinear"


def _shape(value: Any) -> tuple[int, ...]:
    return tuple(max(1, dimension.dim_value) for dimension in value.type.tensor_type.shape.dim)
