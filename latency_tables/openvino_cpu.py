"""OpenVINO's CPU plugin: one stream, latency mode, and the precision of floats pinned and read back.

On processors that have it OpenVINO computes an fp32 model in bf16 unless it is told otherwise. So the hint is set, the
compiled model is asked what became of it and of each layer, and the probes ask the arithmetic itself. The hint is for a
whole graph: what is not int8 is fp32 everywhere on ``openvino``, bf16 everywhere on ``openvino-bf16``. A graph is
compiled for one image: that is the model that is timed, and images are counted through it one by one.
"""

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import Any

import numpy as np

from latency_tables.local import LocalDevice, refused
from latency_tables.protocol import Runner
from nas.compression import Session
from nas.errors import DeviceError

INTEGERS = {"i8", "u8"}
HINTS = {"fp32": "f32", "bf16": "bf16"}
"""Floats, and what OpenVINO calls them."""

BF16_ISA = ("avx512_bf16", "amx_bf16", "bf16")
"""Without one of these OpenVINO emulates bf16, slower than fp32."""

KERNELS = {"Convolution": "Conv", "FullyConnected": "Gemm", "MatMul": "MatMul"}
"""OpenVINO's layers, and the operators that they stand for."""


class OpenVinoCpu(LocalDevice):
    """OpenVINO on this machine's processor.

    Attributes:
        floats: The precision that floats are computed in.
    """

    package = "openvino"
    floats = "fp32"

    def __init__(self, name: str = "openvino", *, threads: int = 1, precisions: Sequence[str] | None = None) -> None:
        super().__init__(name, threads=threads, precisions=precisions)
        import openvino

        self._core = openvino.Core()

    @cached_property
    def executed_float(self) -> str:
        found, layers = super().executed_float, self._layers(self._reference)
        reported = sorted({precision for kind, precision in layers if kind in KERNELS})
        if found != self.floats or reported != [HINTS[self.floats]]:
            asked = f"device {self.name!r} asks {self.runtime} for {self.floats}"
            raise DeviceError(f"{asked}, which computes in {found} here, in layers of {', '.join(reported)}")
        return found

    def options(self) -> dict[str, Any]:
        compiled = self._compile(self._reference)
        effective = {key: _plain(compiled.get_property(key)) for key in self._pinned()}
        return {"plugin": "CPU", "pinned": self._pinned(), "effective": effective}

    def _pinned(self) -> dict[str, Any]:
        return {
            "PERFORMANCE_HINT": "LATENCY",
            "EXECUTION_MODE_HINT": "ACCURACY",
            "INFERENCE_PRECISION_HINT": HINTS[self.floats],
            "INFERENCE_NUM_THREADS": self.threads,
            "NUM_STREAMS": 1,
            "ENABLE_CPU_PINNING": False,
        }

    def session(self, model: bytes) -> Session:
        return _Session(self._compile(model))

    def load(self, model: bytes) -> Runner:
        return _Runner(self._compile(model), self.runtime)

    def integer_kernels(self, model: bytes) -> Mapping[str, int]:
        layers = self._layers(model)
        return Counter(KERNELS[kind] for kind, precision in layers if kind in KERNELS and precision in INTEGERS)

    def _layers(self, model: bytes) -> list[tuple[str, str]]:
        """Return the layers of a compiled graph: what each is, and the precision that it reports to run in."""
        infos = [layer.get_rt_info() for layer in self._compile(model).get_runtime_model().get_ordered_ops()]
        return [(_plain(info["layerType"]), _plain(info["runtimePrecision"])) for info in infos]

    def _compile(self, model: bytes) -> Any:
        """Compile a graph for one image.

        Raises:
            DeviceError: OpenVINO refuses it.
        """
        try:
            graph = self._core.read_model(model)
            graph.reshape({slot: _one_image(slot.partial_shape) for slot in graph.inputs})
            return self._core.compile_model(graph, "CPU", self._pinned())
        except Exception as error:  # its own exceptions are RuntimeErrors, of its front end others
            raise refused("model", self.runtime, "load", error) from error


class OpenVinoBf16(OpenVinoCpu):
    """The same with floats in bf16, on processors that have it.

    Raises:
        DeviceError: This one has not.
    """

    floats = "bf16"

    def __init__(
        self, name: str = "openvino-bf16", *, threads: int = 1, precisions: Sequence[str] | None = None
    ) -> None:
        super().__init__(name, threads=threads, precisions=precisions)
        if not set(BF16_ISA) & set(self.machine()["isa"]):
            allowed = f"one with {' or '.join(BF16_ISA)}"
            raise DeviceError(
                f"device {name!r}: this processor has no bf16; allowed: {allowed}; use --device openvino, in fp32"
            )


class _Session:
    """A graph compiled for one image, run on any number of them one by one."""

    def __init__(self, compiled: Any) -> None:
        self._request = compiled.create_infer_request()

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        count = len(next(iter(input_feed.values())))
        found = []
        for index in range(count):
            outputs = self._request.infer({name: value[index : index + 1] for name, value in input_feed.items()})
            found.append([outputs[name] for name in output_names] if output_names else list(outputs.values()))
        return [np.concatenate(parts) for parts in zip(*found, strict=True)]


class _Runner:
    """A compiled graph with its input written once and its outputs not copied."""

    def __init__(self, compiled: Any, runtime: str) -> None:
        self._request, self._runtime = compiled.create_infer_request(), runtime
        rng = np.random.default_rng(0)
        for slot in compiled.inputs:
            kind = slot.element_type.get_type_name()
            if kind != "f32":
                raise DeviceError(f"input {slot.any_name!r} is a {kind}; only float inputs can be timed")
            self._request.get_tensor(slot).data[:] = rng.standard_normal(tuple(slot.shape), dtype=np.float32)

    def run(self, count: int) -> float:
        infer = self._request.infer
        start = time.perf_counter_ns()
        try:
            for _ in range(count):
                infer(share_outputs=True)
        except RuntimeError as error:
            raise refused("model", self._runtime, "run", error) from error
        return (time.perf_counter_ns() - start) * 1e-9


def _one_image(shape: Any) -> list[Any]:
    """Return the shape of an input with every open axis of size one."""
    return [1 if size.is_dynamic else size.get_length() for size in shape]


def _plain(value: Any) -> Any:
    """Return a property of OpenVINO as JSON has it: numbers and truth values as they are, the rest by its name."""
    value = getattr(value, "name", getattr(value, "value", value))  # of an enumeration, of an OVAny
    if isinstance(value, bool | int | float | str):
        return value
    return value.get_type_name() if hasattr(value, "get_type_name") else str(value)
