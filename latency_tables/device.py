"""A device: something that runs a model and can be timed. Adding one is one file here and one line of registration."""

import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from latency_tables.fingerprint import digest
from latency_tables.measurement import Measurement
from latency_tables.profile import RUNTIMES, read_profile
from latency_tables.protocol import FULL, MeasuringPlan, Progress, Runner, measure_interleaved
from nas.errors import DeviceError
from nas.files import cache_dir, read_bytes
from nas.lock import exclusive
from nas.registry import Registry
from search_spaces import FLOATS

if TYPE_CHECKING:
    from nas.compression import Session

DEVICES = Registry("device")
DEVICES.register(
    "cpu", "latency_tables.onnxruntime_cpu:OnnxRuntimeCpu", "this machine's processor, onnxruntime, one thread"
)
DEVICES.register("cpu-2t", "latency_tables.onnxruntime_cpu:two_threads", "the same with two threads")
DEVICES.register("openvino", "latency_tables.openvino_cpu:OpenVinoCpu", "the same processor, OpenVINO, one thread")
DEVICES.register("openvino-bf16", "latency_tables.openvino_cpu:OpenVinoBf16", "the same with bf16 in the place of fp32")
DEVICES.register(
    "browser", "latency_tables.browser:Browser", "the same processor, onnxruntime-web in headless Chromium, one thread"
)
DEVICES.register(
    "bitfusion", "latency_tables.bitfusion:BitFusion", "an accelerator of 4 to 8 bits, modelled, not measured"
)
DEVICES.register("torch", "latency_tables.torch_device:TorchDevice", "the same processor, torch, eager, one thread")
DEVICES.register("torch-cuda", "latency_tables.torch_device:TorchCuda", "a CUDA GPU, torch, eager")

Note = Callable[[str], None]  # a line worth showing


class Device(ABC):
    """What the rest of the toolkit knows of a device; one thread uses it.

    Attributes:
        name: What ``--device`` calls it.
        runtime: The runtime that executes the model, with its version, as ``"onnxruntime 1.32.0"``.
        channel_multiple: What its kernels like the number of channels to be a multiple of; pruning leaves such numbers.
        simulated: True where latencies are computed rather than measured; never shown as measured.
        occupies: What of this machine it keeps busy while it is measured, as others may; None for itself alone.
        wait_seconds: How long a measurement waits for another process that is measuring the device.
        least_value_seconds: The inferences behind one value last at least this long, whatever the plan says: more than
            usual where the device's clock is coarse.
    """

    name: str
    runtime: str
    channel_multiple: int = 8
    simulated: bool = False
    occupies: str | None = None
    wait_seconds: float = 300.0
    least_value_seconds: float = 0.0
    _is_held: bool = False

    @property
    @abstractmethod
    def precisions(self) -> tuple[str, ...]:
        """The precisions that this device really executes, verified, the widest first."""

    @abstractmethod
    def describe(self) -> dict[str, Any]:
        """Return everything the latency depends on besides the model, as JSON: hardware, runtime, threads, batch."""

    @abstractmethod
    def load(self, model: bytes) -> Runner:
        """Load an ONNX model afresh, ready to be timed."""

    @abstractmethod
    def reference(self) -> Runner:
        """Load the frozen reference net afresh."""

    @property
    def executed_float(self) -> str:
        """The precision in which graphs in floats are computed, of ``search_spaces.FLOATS``."""
        return next((precision for precision in self.precisions if precision in FLOATS), "fp32")

    @property
    def quantization(self) -> str:
        """The form of int8 that its kernels want, of ``nas.compression.FORMS``."""
        return "u8s8"

    def session(self, model: bytes) -> "Session":
        """Load an ONNX model to run it on images, as it is timed; called as onnxruntime's sessions are.

        A device that cannot run one here leaves it to this machine's onnxruntime.

        Raises:
            DeviceError: The runtime refuses the model.
        """
        from nas.compression import HOST

        return HOST.session(model)

    def integer_kernels(self, model: bytes) -> Mapping[str, int]:
        """Return how many Conv, Gemm and MatMul of an ONNX model run in integers, as the runtime says."""
        from nas.compression import HOST

        return HOST.integer_kernels(model)

    @property
    def fingerprint(self) -> str:
        """Short hash of ``describe()``: tables of one fingerprint are of one device."""
        return digest(self.describe())

    def must_be(self, fingerprint: str, path: Path) -> None:
        """Refuse what was measured on another machine or by another runtime than this.

        Args:
            fingerprint: Of the device that it was measured on.
            path: Where it is kept.

        Raises:
            DeviceError: It is another.
        """
        if fingerprint != self.fingerprint:
            own = f"device {self.name!r} is {self.fingerprint} now"
            raise DeviceError(f"{path}: of the device {fingerprint}; {own}; name another folder, or delete this file")

    def clock(self) -> float:
        """Return the device's monotonic time in seconds."""
        return time.perf_counter()

    @contextmanager
    def exclusively(self, note: Note | None = None) -> Iterator[None]:
        """Keep other processes from measuring here while the block runs, which may measure and nest.

        Devices that occupy the same wait for each other, and those of this machine for whoever else measures on it.

        Args:
            note: Told when another process must be waited for.

        Raises:
            DeviceError: The other process has not ended in ``wait_seconds``.
            OutputError: The lock file, in the cache, cannot be written.
        """
        if self._is_held:
            yield
            return
        path, busy = cache_dir() / f"{self.occupies or self.name}.lock", f"device {self.name!r} is being measured"
        with ExitStack() as held:
            held.enter_context(exclusive(path, busy, DeviceError, wait_seconds=self.wait_seconds, note=note))
            if self.occupies is not None:
                other = "this machine is being measured, from elsewhere or with another cache,"
                held.enter_context(
                    exclusive(machine_lock(), other, DeviceError, wait_seconds=self.wait_seconds, note=note)
                )
            self._is_held = True
            try:
                yield
            finally:
                self._is_held = False

    def measure(self, onnx_path: str | Path) -> Measurement:
        """Time one ONNX file by the full protocol."""
        return self.measure_many({str(onnx_path): read_bytes(Path(onnx_path))})[str(onnx_path)]

    def measure_many(
        self,
        models: Mapping[str, bytes],
        *,
        plan: MeasuringPlan = FULL,
        seed: int = 0,
        baseline_ms: float | None = None,
        progress: Progress | None = None,
        note: Note | None = None,
    ) -> dict[str, Measurement]:
        """Time a batch of ONNX models, interleaved, in fresh sessions, while no other process times this device.

        Args:
            models: Name to serialised ONNX model.
            plan: The protocol's numbers.
            seed: Decides the order of the rounds.
            baseline_ms: The reference net's milliseconds in an earlier run that these latencies shall be comparable to:
                they are scaled by one factor, reported as ``drift``; ``raw_ms`` is not.
            progress: Called with (timings done, timings expected so far).
            note: Told when another process must be waited for.

        Raises:
            DeviceError: A model cannot be loaded or run, or another process goes on measuring this device.
            OutputError: The lock file, in the cache, cannot be written.
        """
        plan = replace(plan, value_seconds=max(plan.value_seconds, self.least_value_seconds))
        with self.exclusively(note):
            runners = {name: self.load(model) for name, model in models.items()}
            return measure_interleaved(
                runners,
                self.reference(),
                plan=plan,
                rng=np.random.default_rng(seed),
                baseline_ms=baseline_ms,
                progress=progress,
                clock=self.clock,
            )


def machine_lock() -> Path:
    """Return the folder whose lock is the right to measure on this machine: of all users and caches, and of ``ssh``."""
    return Path(tempfile.gettempdir())


def get_device(name: str | Path) -> Device:
    """Return the device of that name, or that of the profile ``name`` (a path that ends in ``.toml``).

    Raises:
        UsageError: No such device; the message lists what there is.
        FileFormatError: The profile does not fit.
        DeviceError: The device is not here; the message says what it lacks.
    """
    if str(name).endswith(".toml"):
        profile = read_profile(Path(name))
        make, threads, precisions = RUNTIMES.get(profile.runtime), profile.threads, profile.precisions
        if profile.host is not None:
            device: Device = make(
                profile.name, profile.host, inner=profile.inner, threads=threads, precisions=precisions
            )
        else:
            device = make(profile.name, threads=threads, precisions=precisions)
    else:
        device = DEVICES.get(str(name))()
    return device


def list_runtimes() -> dict[str, str]:
    """Return each runtime that a profile may name and what it is, in one line."""
    return {name: entry.summary for name, entry in RUNTIMES.entries.items()}


def list_devices() -> dict[str, str]:
    """Return each device's name and what it is, in one line."""
    return {name: entry.summary for name, entry in DEVICES.entries.items()}
