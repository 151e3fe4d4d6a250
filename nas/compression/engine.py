"""What a graph ships to, as far as compression knows of it: its sessions, its form of int8, what it runs in integers.

Every device is an ``Engine``. Where there is no device, the host's onnxruntime takes its place.
"""

import tempfile
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import onnx
import onnxruntime
from onnx import ModelProto
from onnxruntime import GraphOptimizationLevel as Level

from nas.compression.sessions import open_session

INTEGER_KERNELS = {"QLinearConv": "Conv", "QGemm": "Gemm", "QLinearMatMul": "MatMul"}
"""The integer kernels of onnxruntime, and the operators that they stand for."""


class Session(Protocol):
    """A loaded model, called as onnxruntime's sessions are."""

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, np.ndarray], /) -> Sequence[Any]:
        """Return the outputs, all of them where ``output_names`` is None, of inputs by their names."""


class Engine(Protocol):
    """Executes graphs."""

    @property
    def runtime(self) -> str:
        """What executes them, with its version."""

    @property
    def quantization(self) -> str:
        """The form of int8 that its kernels want, of ``qdq.FORMS``."""

    @property
    def executed_float(self) -> str:
        """The precision in which it computes floats, of ``search_spaces.FLOATS``."""

    def session(self, model: bytes) -> Session:
        """Load a serialised graph as it is deployed."""

    def integer_kernels(self, model: bytes) -> Mapping[str, int]:
        """Return how many Conv, Gemm and MatMul of a graph run in integers."""


@dataclass(frozen=True)
class HostEngine:
    """This machine's onnxruntime, one thread, all optimisations."""

    runtime: str = f"onnxruntime {onnxruntime.__version__}"
    quantization: str = "u8s8"
    executed_float: str = "fp32"

    def session(self, model: bytes) -> Session:
        session: Session = open_session(model)
        return session

    def integer_kernels(self, model: bytes) -> Mapping[str, int]:
        return integer_kernels(executed_operators(model))


HOST = HostEngine()


def quantized_convs(model: ModelProto | str | Path) -> int:
    """Return the number of convolutions that onnxruntime runs as integer kernels on this machine."""
    return executed_operators(model)["QLinearConv"]


def executed_operators(
    model: ModelProto | bytes | str | Path, level: Level = Level.ORT_ENABLE_ALL, threads: int = 1
) -> Counter[str]:
    """Return the operators of the graph that onnxruntime has optimised, which is what runs, to their numbers."""
    with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
        optimized = Path(folder, "optimized.onnx")
        open_session(model, level, threads=threads, save_optimized=optimized)
        return Counter(node.op_type for node in onnx.load(optimized).graph.node)


def integer_kernels(executed: Mapping[str, int]) -> dict[str, int]:
    """Return how many Conv, Gemm and MatMul run in integers, of onnxruntime's ``executed_operators``."""
    return {operator: executed.get(kernel, 0) for kernel, operator in INTEGER_KERNELS.items()}
