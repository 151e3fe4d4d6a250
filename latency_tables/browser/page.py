"""The page that runs models: what Python may ask of ``page.mjs``, and the checks of what it answers.

Whatever comes from the browser is untrusted: names, shapes and sizes are compared with what was asked for, and a time
must be one that can have passed.
"""

import base64
import itertools
import json
import math
import time
import weakref
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from latency_tables.browser.chromium import Chromium, find_chromium
from latency_tables.browser.package import FILES, NAME, OrtWeb
from latency_tables.browser.server import LoopbackServer
from nas.errors import DeviceError
from nas.files import read_bytes

SCRIPT = Path(__file__).with_name("page.mjs")
DOCUMENT = b"<!doctype html><meta charset=utf-8><title>hwnas</title>"
START_SECONDS, CALL_SECONDS = 60.0, 300.0
CLOCK_SLACK = 1e-3  # seconds that the page's clock may be ahead of ours over one call
OUT_OF_MEMORY = ("out of memory", "bad_alloc", "allocat", "enlarge memory", "(oom)", "array buffer")  # of its messages


@dataclass(frozen=True)
class Slot:
    """An input or output of a model: its name, its type as ``"float32"``, and its shape, open sizes as names."""

    name: str
    type: str
    shape: tuple[int | str, ...]


class Page:
    """onnxruntime-web in a page of a browser of its own. Several threads may use it, one after the other.

    Args:
        package: The installed onnxruntime-web.
        threads: How many threads its kernels use.

    Attributes:
        chromium: The browser.

    Raises:
        DeviceError: The browser or the package do not start, or the page is not isolated.
    """

    def __init__(self, package: OrtWeb, threads: int) -> None:
        self._package, self._threads = package, threads
        self._numbers = itertools.count(1)
        self._unused: list[int] = []  # models that nobody holds any more
        files = {name: read_bytes(package.folder / name) for name in FILES}
        self._server = LoopbackServer(files | {SCRIPT.name: read_bytes(SCRIPT), "page.html": DOCUMENT})
        try:
            self.chromium = Chromium(find_chromium(), self._server.url("page.html"))
            self.close = weakref.finalize(self, _close, self.chromium, self._server)  # also when Python ends
        except BaseException:
            self._server.close()
            raise
        try:
            started = self.call("start", threads, seconds=START_SECONDS)
        except RuntimeError as error:
            self.close()
            raise DeviceError(f"device 'browser': {NAME} {package.version} does not start: {error}") from error
        if not isinstance(started, dict) or started.get("isolated") is not True:
            self.close()
            raise DeviceError(
                f"device 'browser': its page in {self.chromium.version} is not isolated (crossOriginIsolated is not "
                "true), so that its clock is coarse and it has no threads; use Chromium 92 or newer"
            )

    def call(self, function: str, *arguments: Any, seconds: float = CALL_SECONDS) -> Any:
        """Call a function of ``page.mjs`` and return what it returns.

        Raises:
            RuntimeError: It threw.
            DeviceError: The browser ended, crashed or took too long.
        """
        listed = ", ".join(json.dumps(argument) for argument in arguments)
        expression = f'import("./{SCRIPT.name}").then((page) => page.{function}({listed}))'
        return self.chromium.evaluate(expression, seconds=seconds)

    def load(self, model: bytes, *, profiled: bool = False) -> "PageModel":
        """Load a serialised ONNX model afresh.

        Args:
            model: The model.
            profiled: Whether ``operators`` will be asked for; its times are then worth nothing.

        Raises:
            DeviceError: The runtime refuses it, or memory runs out.
        """
        unused, self._unused[:] = self._unused[:], []
        number = next(self._numbers)
        try:
            self.call("release", unused)
            with self._server.offered(model) as url:
                found = self.call("open", number, url, profiled)
        except RuntimeError as error:
            self.refuse("load", error)
        loaded = PageModel(self, number, _slots(found, "inputs"), _slots(found, "outputs"))
        weakref.finalize(loaded, self._unused.append, number).atexit = False
        if found.get("threads") != self._threads:
            raise DeviceError(
                f"device 'browser': {NAME} uses {found.get('threads')!r} threads where {self._threads} were asked for"
            )
        return loaded

    def ask(self, function: str, number: int, *arguments: Any) -> Any:
        """Call a function of ``page.mjs`` about the loaded model of that number; raises as ``refuse`` does."""
        try:
            return self.call(function, number, *arguments)
        except RuntimeError as error:
            self.refuse("run", error)

    def feed(self, number: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Give a loaded model its inputs, float32, by name."""
        with ExitStack() as stack:
            inputs = [
                {"name": name, "dims": array.shape, "url": stack.enter_context(self._server.offered(array.tobytes()))}
                for name, array in arrays.items()
            ]
            self.ask("feed", number, inputs)

    def refuse(self, what: str, error: RuntimeError) -> NoReturn:
        """Raise the error for a model that threw; where memory ran out, close the browser: the runtime is broken."""
        runtime = f"model: {NAME} {self._package.version}"
        if any(sign in str(error).lower() for sign in OUT_OF_MEMORY):
            self.close()
            raise DeviceError(
                f"{runtime} ran out of memory (a page has 4 GiB at most): {error}; use smaller models, or fewer at once"
            ) from error
        raise DeviceError(f"{runtime} cannot {what} it: {error}") from error


class PageModel:
    """A model that the page has loaded; the page forgets it some time after nobody holds this.

    Attributes:
        inputs: What it wants.
        outputs: What it gives.
    """

    def __init__(self, page: Page, number: int, inputs: tuple[Slot, ...], outputs: tuple[Slot, ...]) -> None:
        self._page, self._number = page, number
        self.inputs, self.outputs = inputs, outputs

    def feed(self, arrays: Mapping[str, np.ndarray]) -> None:
        """Set the inputs of the runs that follow, by name; float32 is all that a network of images wants."""
        self._page.feed(self._number, {name: np.ascontiguousarray(a, np.float32) for name, a in arrays.items()})

    def time(self, count: int, slices: int) -> list[float]:
        """Run ``slices`` times ``count`` inferences back to back; return the seconds of each by the page's clock.

        Raises:
            DeviceError: The model fails, or the times are none that can have passed.
        """
        begin = time.perf_counter()
        found = self._page.ask("time", self._number, count, slices)
        passed = time.perf_counter() - begin
        times = found if isinstance(found, list) else []
        if len(times) != slices or not all(map(_is_time, times)) or sum(times) > passed + CLOCK_SLACK:
            raise DeviceError(
                f"device 'browser': its page says that {slices} times {count} inferences took {found!r:.60} s; "
                f"allowed: as many numbers above 0, together at most the {passed:.6f} s that passed here"
            )
        return [float(each) for each in times]

    def compute(self, names: Sequence[str]) -> list[np.ndarray]:
        """Run once and return the outputs of these names.

        Raises:
            DeviceError: The model fails, or the page returns something else.
        """
        results = self._page.ask("compute", self._number, list(names))
        if not isinstance(results, list) or len(results) != len(names):
            raise DeviceError(f"device 'browser': its page returned no list of {len(names)} outputs")
        return [_array(name, result) for name, result in zip(names, results, strict=True)]

    def operators(self) -> Counter[str]:
        """Run once, in a profile, and return the operators that ran, fused as they are, to their numbers."""
        found = self._page.ask("operators", self._number)
        if not isinstance(found, list) or not all(isinstance(name, str) for name in found):
            raise DeviceError("device 'browser': its page returned no list of operators")
        return Counter(found)


def _close(chromium: Chromium, server: LoopbackServer) -> None:
    chromium.close()
    server.close()


def _slots(found: Any, key: str) -> tuple[Slot, ...]:
    """Return a model's inputs or outputs, checked."""
    try:
        slots = tuple(Slot(one["name"], one["type"], tuple(one["shape"])) for one in found[key])
        if not all(isinstance(text, str) for slot in slots for text in (slot.name, slot.type)):
            raise TypeError
        if not all(isinstance(size, str) or _is_size(size) for slot in slots for size in slot.shape):
            raise TypeError
        return slots
    except (KeyError, TypeError) as error:
        raise DeviceError(f"device 'browser': its page returned no description of the model's {key}") from error


def _array(name: str, result: Any) -> np.ndarray:
    """Return an output, checked."""
    try:
        kind, shape, data = result["type"], result["dims"], base64.b64decode(result["data"], validate=True)
        if kind != "float32":
            raise DeviceError(f"output {name!r} is a {kind!r:.40}; only float outputs can be read from the browser")
        if not all(_is_size(size) for size in shape):
            raise TypeError
        array = np.frombuffer(data, np.float32).reshape(shape)
    except (KeyError, TypeError, ValueError) as error:  # ValueError: also not base64, or too many or few bytes
        raise DeviceError(f"device 'browser': its page returned an output {name!r} that is no array") from error
    if not np.isfinite(array).all():
        raise DeviceError(f"output {name!r} holds numbers that are not finite in the browser")
    return array.copy()


def _is_size(size: Any) -> bool:
    return isinstance(size, int) and not isinstance(size, bool) and size >= 0


def _is_time(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < math.inf
