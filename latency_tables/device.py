"""A device: something that runs a model and can be timed. Adding one is one file here and one line of registration."""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from latency_tables.fingerprint import digest
from latency_tables.measurement import Measurement
from latency_tables.protocol import FULL, MeasuringPlan, Progress, Runner, measure_interleaved
from nas.errors import DeviceError
from nas.files import cache_dir, read_bytes
from nas.lock import exclusive
from nas.registry import Registry

DEVICES = Registry("device")
DEVICES.register(
    "cpu", "latency_tables.onnxruntime_cpu:OnnxRuntimeCpu", "this machine's processor, onnxruntime, one thread"
)
DEVICES.register(
    "browser", "latency_tables.browser:Browser", "this machine's processor, onnxruntime-web in Chromium, one thread"
)
DEVICES.register(
    "bitfusion", "latency_tables.bitfusion:BitFusion", "an accelerator of 4 to 8 bits, modelled, not measured"
)

Note = Callable[[str], None]  # a line worth showing


class Device(ABC):
    """What the rest of the toolkit knows of a device; one thread uses it.

    Attributes:
        name: What ``--device`` calls it.
        runtime: The runtime that executes the model, with its version, as ``"onnxruntime 1.32.0"``.
        simulated: True where latencies are computed rather than measured; never shown as measured.
        wait_seconds: How long a measurement waits for another process that is measuring the device.
        least_value_seconds: The inferences behind one value last at least this long, whatever the plan says: more than
            usual where the device's clock is coarse.
    """

    name: str
    runtime: str
    simulated: bool = False
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
    def fingerprint(self) -> str:
        """Short hash of ``describe()``: tables of one fingerprint are of one device."""
        return digest(self.describe())

    def clock(self) -> float:
        """Return the device's monotonic time in seconds."""
        return time.perf_counter()

    @contextmanager
    def exclusively(self, note: Note | None = None) -> Iterator[None]:
        """Keep other processes from measuring this device while the block runs, which may measure and nest.

        Args:
            note: Told when another process must be waited for.

        Raises:
            DeviceError: The other process has not ended in ``wait_seconds``.
            OutputError: The lock file, in the cache, cannot be written.
        """
        if self._is_held:
            yield
            return
        path, busy = cache_dir() / f"{self.name}.lock", f"device {self.name!r} is being measured"
        with exclusive(path, busy, DeviceError, wait_seconds=self.wait_seconds, note=note):
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


def get_device(name: str) -> Device:
    """Return the device of that name.

    Raises:
        UsageError: No such device; the message lists what there is.
    """
    device: Device = DEVICES.get(name)()
    return device


def list_devices() -> dict[str, str]:
    """Return each device's name and what it is, in one line."""
    return {name: entry.summary for name, entry in DEVICES.entries.items()}
