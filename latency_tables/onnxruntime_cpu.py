"""Device ``cpu``: this machine's processor under onnxruntime, one thread, every option that matters pinned.

fp32 and u8s8 QDQ. int8 is on the menu only after a small quantized convolution was seen to run as one integer kernel
and to give the right numbers: processors without VNNI saturate 16-bit sums, and other builds fall back to float.
"""

import hashlib
import tempfile
import time
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime

from latency_tables.device import Device
from latency_tables.fingerprint import describe_cpu
from latency_tables.int8_probe import PROBE_TOLERANCE, int8_probe
from latency_tables.protocol import Runner
from latency_tables.reference_net import REFERENCE_VERSION, reference_model
from nas.errors import DeviceError

THREADS = 1
SESSION_OPTIONS = {
    "session.intra_op.allow_spinning": "0",
    "session.inter_op.allow_spinning": "0",
}


class OnnxRuntimeCpu(Device):
    """onnxruntime's CPU provider with one thread, batch 1."""

    name = "cpu"

    def __init__(self) -> None:
        self.runtime = f"onnxruntime {onnxruntime.__version__}"
        self._reference = reference_model().SerializeToString()

    @cached_property
    def precisions(self) -> tuple[str, ...]:
        return ("fp32", "int8") if _executes_int8(self) else ("fp32",)

    def describe(self) -> dict[str, Any]:
        return {
            **describe_cpu(),
            "runtime": "onnxruntime",
            "runtime_version": onnxruntime.__version__,
            "provider": "CPUExecutionProvider",
            "graph_optimization": "all",
            "spinning": False,
            "threads": THREADS,
            "batch": 1,
            "precisions": list(self.precisions),
            "reference_version": REFERENCE_VERSION,
            "reference_sha256": hashlib.sha256(self._reference).hexdigest()[:16],
            "simulated": False,
        }

    def session(self, model: bytes | str | Path, *, save_optimized: Path | None = None) -> onnxruntime.InferenceSession:
        """Open a session as it is timed: one thread, no spinning, all graph optimisations.

        Args:
            model: A serialised ONNX model or the path of one.
            save_optimized: Where to write the optimised graph, for inspection.

        Raises:
            DeviceError: onnxruntime refuses the model.
        """
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = THREADS
        options.inter_op_num_threads = THREADS
        options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        for key, value in SESSION_OPTIONS.items():
            options.add_session_config_entry(key, value)
        if save_optimized is not None:
            options.optimized_model_filepath = str(save_optimized)
        source = model if isinstance(model, bytes) else str(model)
        try:
            return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            what = "model" if isinstance(model, bytes) else str(model)
            raise DeviceError(
                f"{what}: onnxruntime {onnxruntime.__version__} cannot load it: {_first_line(error)}"
            ) from error

    def load(self, model: bytes) -> Runner:
        return _SessionRunner(self.session(model))

    def reference(self) -> Runner:
        return self.load(self._reference)


class _SessionRunner:
    """A session with its input and outputs bound once, so that a run neither allocates nor copies."""

    def __init__(self, session: onnxruntime.InferenceSession) -> None:
        self._session = session
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
            raise DeviceError(
                f"model: onnxruntime {onnxruntime.__version__} cannot run it: {_first_line(error)}"
            ) from error
        return (time.perf_counter_ns() - start) * 1e-9


def _executes_int8(device: OnnxRuntimeCpu) -> bool:
    """Return whether a u8s8 convolution runs as QLinearConv and agrees with arithmetic in full width."""
    model, image, expected = int8_probe()
    with tempfile.TemporaryDirectory() as folder:
        optimised = Path(folder) / "optimised.onnx"
        try:
            session = device.session(model, save_optimized=optimised)
            result = session.run(None, {"input": image})[0]
        except Exception:  # a kernel that is missing shows when loading or only when run
            return False
        kinds = [node.op_type for node in onnx.load(optimised).graph.node]
    return "QLinearConv" in kinds and bool(np.abs(result - expected).max() <= PROBE_TOLERANCE)


def _first_line(error: Exception) -> str:
    return str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
