"""Device ``browser``: this machine's processor under onnxruntime-web, WebAssembly with SIMD, in headless Chromium.

Timed is what a page that calls ``session.run`` waits for, by the page's own clock. The clock of an isolated page ticks
every 5 µs, so a value is made of more inferences than elsewhere. What ran in integers is read from the runtime's
profile; whether int8 is faster is another question, which the measurements answer.
"""

import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from latency_tables.browser.chromium import find_chromium
from latency_tables.browser.package import BINARY, NAME, OrtWeb, find_package
from latency_tables.browser.page import Page, PageModel, Slot
from latency_tables.local import THIS_MACHINE
from latency_tables.probed import ProbedDevice
from latency_tables.protocol import Runner
from nas.compression.engine import integer_kernels
from nas.errors import DeviceError
from nas.files import sha256


class Browser(ProbedDevice):
    """onnxruntime-web's WebAssembly provider in a page of its own, batch 1. The browser starts when it is needed.

    Args:
        name: Its name in tables and messages.
        threads: How many threads the kernels use.
        precisions: The menu, a part of what is executed; None for all of that.
        open_page: Starts the browser.

    Raises:
        DeviceError: There is no Chromium or no onnxruntime-web; the message says what to install.
    """

    least_value_seconds = 0.050
    occupies = THIS_MACHINE

    def __init__(
        self,
        name: str = "browser",
        *,
        threads: int = 1,
        precisions: Sequence[str] | None = None,
        open_page: Callable[[OrtWeb, int], Page] = Page,
    ) -> None:
        find_chromium()
        self._package = find_package()
        self._open_page = open_page
        self._opened: Page | None = None
        super().__init__(name, NAME, self._package.version, threads=threads, precisions=precisions)

    def options(self) -> dict[str, Any]:
        return {
            "runtime_sha256": sha256(self._package.folder / BINARY)[:16],
            "browser": self.page().chromium.version,
            "provider": "wasm",
            "graph_optimization": "all",
            "memory_arena": False,
        }

    def page(self) -> Page:
        """Return the page, in a new browser if the last has ended."""
        if self._opened is None or self._opened.chromium.closed:
            self._opened = self._open_page(self._package, self.threads)
        return self._opened

    def session(self, model: bytes) -> "BrowserSession":
        """Load a serialised ONNX model as it is timed.

        Raises:
            DeviceError: The runtime refuses the model.
        """
        return BrowserSession(self.page().load(model))

    def load(self, model: bytes) -> Runner:
        return _PageRunner(_fed(self.page().load(model)))

    def executed_operators(self, model: bytes) -> Counter[str]:
        """Return the operators that run when a model does, fused as the runtime fuses them, to their numbers."""
        return _fed(self.page().load(model, profiled=True)).operators()

    def integer_kernels(self, model: bytes) -> Mapping[str, int]:
        return integer_kernels(self.executed_operators(model))


class BrowserSession:
    """A model in the browser, as it is timed; called as onnxruntime's sessions are, also by several threads."""

    def __init__(self, model: PageModel) -> None:
        self._model = model
        self._lock = threading.Lock()  # an input and its output belong together

    def get_inputs(self) -> Sequence[Slot]:
        """Return the model's inputs."""
        return self._model.inputs

    def get_outputs(self) -> Sequence[Slot]:
        """Return the model's outputs."""
        return self._model.outputs

    def run(self, output_names: Sequence[str] | None, input_feed: Mapping[str, np.ndarray]) -> list[np.ndarray]:
        """Run a batch.

        Args:
            output_names: Which outputs to return; None for all.
            input_feed: The inputs by name, float32.

        Raises:
            DeviceError: The runtime refuses the inputs, or an output is not float32.
        """
        names = [slot.name for slot in self._model.outputs] if output_names is None else output_names
        with self._lock:
            self._model.feed(input_feed)
            return self._model.compute(names)


class _PageRunner:
    """A model with its inputs in the page, so that nothing but inference happens between two readings of the clock."""

    def __init__(self, model: PageModel) -> None:
        self._model = model

    def run(self, count: int) -> float:
        return self.run_slices(count, 1)[0]

    def run_slices(self, count: int, slices: int) -> Sequence[float]:
        return self._model.time(count, slices)


def _fed(model: PageModel) -> PageModel:
    """Give a model random inputs of its shapes, open sizes taken as 1."""
    rng = np.random.default_rng(0)
    for slot in model.inputs:
        if slot.type != "float32":
            raise DeviceError(f"input {slot.name!r} is a {slot.type!r:.40}; only float inputs can be timed")
    shapes = {slot.name: [size if isinstance(size, int) else 1 for size in slot.shape] for slot in model.inputs}
    model.feed({name: rng.standard_normal(shape, dtype=np.float32) for name, shape in shapes.items()})
    return model
