"""Runtime ``ssh``: onnxruntime or OpenVINO on another machine: a Raspberry Pi, a Jetson, a server.

Times are taken over there by ``ssh_runner.py``, which is sent along; inferences are counted as on this machine, and one
round trip asks for all the slices of a value. A connection that is cut is opened again a few times, what was loaded is
loaded again, and the measurement goes on. The fingerprint is that of the machine and its runtime, however it is
reached: onnxruntime through ssh on this machine is the device ``cpu``.
"""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_tables.device import Note
from latency_tables.probed import ProbedDevice
from latency_tables.protocol import Runner
from latency_tables.ssh_answers import array, kernels, seconds
from latency_tables.ssh_command import SshHost
from latency_tables.ssh_link import FarModel, SshLink
from nas.compression.sessions import CPU_DESCRIPTION, SESSION_OPTIONS
from nas.errors import DeviceError
from nas.registry import unknown_name

MAX_OUTPUT = 2**26  # bytes of an answer that holds outputs
RUNTIMES: dict[str, dict[str, Any]] = {
    "onnxruntime": SESSION_OPTIONS,
    "openvino": {
        "PERFORMANCE_HINT": "LATENCY",
        "EXECUTION_MODE_HINT": "ACCURACY",
        "INFERENCE_PRECISION_HINT": "f32",
        "NUM_STREAMS": 1,
        "ENABLE_CPU_PINNING": False,
    },
}
"""What each runtime is told over there, besides the number of threads."""


class SshDevice(ProbedDevice):
    """A runtime on another machine, batch 1.

    Args:
        name: What ``--device`` calls it.
        host: Where the machine is and how it is entered.
        inner: What runs the models over there, of ``RUNTIMES``.
        threads: Threads that an inference may use.
        precisions: The menu, a part of what is executed over there; None for all of that.

    Raises:
        UsageError: There is no such inner runtime.
        DeviceError: The machine cannot be entered, or lacks what the runner needs.
    """

    def __init__(
        self,
        name: str,
        host: SshHost,
        *,
        inner: str = "onnxruntime",
        threads: int = 1,
        precisions: Sequence[str] | None = None,
    ) -> None:
        if inner not in RUNTIMES:
            raise unknown_name("runtime over ssh", inner, RUNTIMES)
        self._inner = inner
        self._link = SshLink(host, runtime=inner, threads=threads, options=RUNTIMES[inner])
        cores = self._link.machine["cpu"]["cores"]
        if isinstance(cores, int) and not 1 <= threads <= cores:
            self.close()
            raise DeviceError(f"device {name!r} asks for {threads} threads; allowed on {host.host}: 1 to {cores}")
        super().__init__(name, inner, self._link.machine["runtime_version"], threads=threads, precisions=precisions)

    def machine(self) -> dict[str, Any]:
        return dict(self._link.machine["cpu"])

    def options(self) -> dict[str, Any]:
        if self._inner == "onnxruntime":
            return dict(CPU_DESCRIPTION)
        return {"plugin": "CPU", "pinned": RUNTIMES[self._inner]}

    def load(self, model: bytes) -> Runner:
        return SshRunner(self._link, self._link.loaded(model))

    def session(self, model: bytes) -> "SshSession":
        """Load an ONNX model to run it on images over there, as it is timed; called as onnxruntime's sessions are.

        Raises:
            DeviceError: The runtime refuses the model.
        """
        return SshSession(self._link, self._link.loaded(model))

    def integer_kernels(self, model: bytes) -> Mapping[str, int]:
        """Return how many Conv, Gemm and MatMul of an ONNX model run in integers, as the runtime says."""
        return self._link.ask({"op": "kernels"}, kernels, data=model)

    @contextmanager
    def exclusively(self, note: Note | None = None) -> Iterator[None]:
        if self._is_held:
            yield
            return
        with super().exclusively(note):
            self._link.lock(self.wait_seconds, note)
            try:
                yield
            finally:
                self._link.unlock()

    def close(self) -> None:
        """Leave the other machine, where nothing stays behind; what is asked of the device later enters it again."""
        self._link.close()


class SshRunner:
    """A model over there, ready to be timed."""

    def __init__(self, link: SshLink, model: FarModel) -> None:
        self._link, self._model = link, model

    def run(self, count: int) -> float:
        """Time ``count`` inferences over there."""
        return self._timed(count, slices=1, warm=0)[0]

    def run_slices(self, count: int, slices: int) -> list[float]:
        """Time so many slices in a row, after one inference that brings the model back from the pause between calls."""
        return self._timed(count, slices=slices, warm=1)

    def _timed(self, count: int, *, slices: int, warm: int) -> list[float]:
        request = {"op": "run", "count": count, "slices": slices, "warm": warm}
        return self._link.ask(request, lambda answer: seconds(answer, count=slices), model=self._model)


class SshSession:
    """A model over there, ready to be run on images."""

    def __init__(self, link: SshLink, model: FarModel) -> None:
        self._link, self._model = link, model

    def run(
        self, output_names: Sequence[str] | None, input_feed: Mapping[str, NDArray[np.float32]], /
    ) -> list[NDArray[np.float32]]:
        """Return the first output of a batch of images, in a list.

        Args:
            output_names: None.
            input_feed: The input's name to the images, ``(n, channels, height, width)``.
        """
        [images] = input_feed.values()
        data = np.ascontiguousarray(images, "<f4").tobytes()
        request = {"op": "infer", "shape": list(images.shape)}
        found = self._link.ask(
            request,
            lambda answer: array(answer, batch=len(images)),
            data=data,
            model=self._model,
            max_line=MAX_OUTPUT,
        )
        return [found]
