"""onnxruntime's CPU provider: fp32, and int8 in the form that its kernels here execute. Every option is pinned."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime

from latency_tables.local import LocalDevice, refused
from latency_tables.protocol import Runner
from nas.compression.engine import executed_operators, integer_kernels
from nas.compression.sessions import CPU_DESCRIPTION, open_session
from nas.errors import DeviceError


class OnnxRuntimeCpu(LocalDevice):
    """onnxruntime on this machine's processor: no spinning, all graph optimisations."""

    package = "onnxruntime"

    def __init__(self, name: str = "cpu", *, threads: int = 1, precisions: Sequence[str] | None = None) -> None:
        super().__init__(name, threads=threads, precisions=precisions)

    def options(self) -> dict[str, Any]:
        return dict(CPU_DESCRIPTION)

    def session(self, model: bytes | str | Path, *, save_optimized: Path | None = None) -> onnxruntime.InferenceSession:
        """Open a session as it is timed.

        Args:
            model: A serialised ONNX model or the path of one.
            save_optimized: Where to write the optimised graph, for inspection.

        Raises:
            DeviceError: onnxruntime refuses the model.
        """
        try:
            return open_session(model, threads=self.threads, save_optimized=save_optimized)
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            what = "model" if isinstance(model, bytes) else str(model)
            raise refused(what, self.runtime, "load", error) from error

    def integer_kernels(self, model: bytes) -> Mapping[str, int]:
        return integer_kernels(executed_operators(model, threads=self.threads))

    def load(self, model: bytes) -> Runner:
        return _SessionRunner(self.session(model), self.runtime)


def two_threads() -> OnnxRuntimeCpu:
    """Return the device ``cpu-2t``."""
    return OnnxRuntimeCpu("cpu-2t", threads=2)


class _SessionRunner:
    """A session with its input and outputs bound once, so that a run neither allocates nor copies."""

    def __init__(self, session: onnxruntime.InferenceSession, runtime: str) -> None:
        self._session, self._runtime = session, runtime
        self._binding = session.io_binding()
        rng = np.random.default_rng(0)
        for slot in session.get_inputs():
            shape = [size if isinstance(size, int) else 1 for size in slot.shape]
            if slot.type != "tensor(float)":
                raise DeviceError(f"input {slot.name!r} is a {slot.type}; only float inputs can be timed")
            values = rng.standard_normal(shape, dtype=np.float32)
            self._binding.bind_ortvalue_input(slot.name, onnxruntime.OrtValue.ortvalue_from_numpy(values))
        for slot in session.get_outputs():
            self._binding.bind_output(slot.name)

    def run(self, count: int) -> float:
        run, binding = self._session.run_with_iobinding, self._binding
        start = time.perf_counter_ns()
        try:
            for _ in range(count):
                run(binding)
        except Exception as error:
            raise refused("model", self._runtime, "run", error) from error
        return (time.perf_counter_ns() - start) * 1e-9
