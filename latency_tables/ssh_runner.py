"""What the ``ssh`` runtime runs on the other machine: it loads models and times them there, and answers in JSON lines.

It is sent when a connection opens, together with ``fingerprint.py``, and is never written down over there. It needs
Python 3.9, numpy, and onnxruntime or openvino. A request is a line of JSON, followed by as many bytes as its ``bytes``
says, whose SHA-256 is its ``sha256``; each is answered by one line with its ``id``. The first is ``open``.

Nothing stays behind: its work folder goes, and so does the process, when standard input ends (the person is done, or
the connection was cut), on a signal, and when nothing was asked for long, as after a cut that nobody was told of.
"""

from __future__ import annotations

import base64
import fcntl
import gc
import hashlib
import json
import os
import platform
import select
import shutil
import signal
import sys
import tempfile
import threading
import time
import traceback
from typing import Any, NoReturn

from latency_tables.fingerprint import describe_cpu

VERSION = 1
MAX_REQUEST = 2**16  # bytes of a request's line
MAX_DATA = 2**30  # bytes that follow it
MAX_DETAIL = 300  # characters of an error
ALLOWED = ("open", "lock", "unlock", "load", "kernels", "run", "infer")
IDLE_SECONDS = 180.0
WATCH_MS = 5_000
BATCH = 1


class OnnxRuntime:
    """onnxruntime's CPU provider with the options that were sent."""

    def __init__(self, threads: int, options: dict[str, Any]) -> None:
        import onnxruntime

        self.version = str(onnxruntime.__version__)
        self._library, self._threads, self._options = onnxruntime, threads, options

    def load(self, model: bytes) -> _OnnxRuntimeModel:
        return _OnnxRuntimeModel(self._library, self._session(model))

    def kernels(self, model: bytes, folder: str) -> dict[str, int]:
        """Return how many operators run in integers: those of the optimised graph, written out and read back."""
        path = os.path.join(folder, "optimised.onnx")
        self._session(model, save_optimized=path)
        with open(path, "rb") as file:
            graph = file.read()
        os.remove(path)
        kinds = {"Conv": b"QLinearConv", "Gemm": b"QGemm", "MatMul": b"QLinearMatMul"}
        # A node has its operator as field 4: a tag, the length, the name.
        return {kind: graph.count(bytes([0x22, len(name)]) + name) for kind, name in kinds.items()}

    def _session(self, model: bytes, save_optimized: str = "") -> Any:
        library = self._library
        options = library.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.execution_mode = library.ExecutionMode.ORT_SEQUENTIAL
        options.graph_optimization_level = library.GraphOptimizationLevel.ORT_ENABLE_ALL
        options.log_severity_level = 3
        for name, value in self._options.items():
            options.add_session_config_entry(name, value)
        if save_optimized:
            options.optimized_model_filepath = save_optimized
        return library.InferenceSession(model, options, providers=["CPUExecutionProvider"])


class _OnnxRuntimeModel:
    def __init__(self, library: Any, session: Any) -> None:
        self._session = session
        self._binding = session.io_binding()
        for slot in session.get_inputs():
            if slot.type != "tensor(float)":
                raise ValueError(f"input {slot.name!r} is a {slot.type}; only float inputs can be timed")
            values = _noise([size if isinstance(size, int) else BATCH for size in slot.shape])
            self._binding.bind_ortvalue_input(slot.name, library.OrtValue.ortvalue_from_numpy(values))
        for slot in session.get_outputs():
            self._binding.bind_output(slot.name)

    def time(self, count: int) -> float:
        run, binding = self._session.run_with_iobinding, self._binding
        start = time.perf_counter_ns()
        for _ in range(count):
            run(binding)
        return (time.perf_counter_ns() - start) * 1e-9

    def infer(self, images: Any) -> Any:
        return self._session.run(None, {self._session.get_inputs()[0].name: images})[0]


class OpenVino:
    """OpenVINO's CPU plugin with the options that were sent; a graph is compiled for one image."""

    def __init__(self, threads: int, options: dict[str, Any]) -> None:
        import openvino

        self.version = str(openvino.__version__)
        self._core = openvino.Core()
        self._options = {**options, "INFERENCE_NUM_THREADS": threads}

    def load(self, model: bytes) -> _OpenVinoModel:
        return _OpenVinoModel(self._compile(model))

    def kernels(self, model: bytes, folder: str) -> dict[str, int]:
        """Return how many operators run in integers, as the compiled model says."""
        kinds = {"Convolution": "Conv", "FullyConnected": "Gemm", "MatMul": "MatMul"}
        counts = dict.fromkeys(kinds.values(), 0)
        for layer in self._compile(model).get_runtime_model().get_ordered_ops():
            info = layer.get_rt_info()
            kind, precision = (info[key].astype(str) for key in ("layerType", "runtimePrecision"))
            if kind in kinds and precision in ("i8", "u8"):
                counts[kinds[kind]] += 1
        return counts

    def _compile(self, model: bytes) -> Any:
        graph = self._core.read_model(model)
        graph.reshape({slot: [_length(size) for size in slot.partial_shape] for slot in graph.inputs})
        return self._core.compile_model(graph, "CPU", self._options)


class _OpenVinoModel:
    def __init__(self, compiled: Any) -> None:
        self._timed, self._asked = compiled.create_infer_request(), compiled.create_infer_request()
        for slot in compiled.inputs:
            kind = slot.element_type.get_type_name()
            if kind != "f32":
                raise ValueError(f"input {slot.any_name!r} is a {kind}; only float inputs can be timed")
            self._timed.get_tensor(slot).data[:] = _noise(list(slot.shape))

    def time(self, count: int) -> float:
        infer = self._timed.infer
        start = time.perf_counter_ns()
        for _ in range(count):
            infer(share_outputs=True)
        return (time.perf_counter_ns() - start) * 1e-9

    def infer(self, images: Any) -> Any:
        import numpy

        return numpy.concatenate([self._asked.infer([image[None]])[0] for image in images])


RUNTIMES = {"onnxruntime": OnnxRuntime, "openvino": OpenVino}


class Far:
    """What is open over here: the runtime, the loaded models by key, and the lock of this machine."""

    def __init__(self, folder: str) -> None:
        self._folder, self._lock = folder, -1
        self._models: dict[str, Any] = {}
        self._runtime: Any = None

    def open(self, request: dict[str, Any]) -> dict[str, Any]:
        """Start the runtime and say what this machine is."""
        self._runtime = RUNTIMES[request["runtime"]](request["threads"], request["options"])
        return {
            "version": VERSION,
            "python": platform.python_version(),
            "runtime_version": self._runtime.version,
            "cpu": describe_cpu(),
        }

    def lock(self, request: dict[str, Any]) -> dict[str, Any]:
        """Take this machine for measuring if nobody has it: ``device.machine_lock``, which leaves no file."""
        if self._lock < 0:
            self._lock = os.open(tempfile.gettempdir(), os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return {"locked": False}
        return {"locked": True}

    def unlock(self, request: dict[str, Any]) -> dict[str, Any]:
        if self._lock >= 0:
            fcntl.flock(self._lock, fcntl.LOCK_UN)
        return {"locked": False}

    def load(self, request: dict[str, Any]) -> dict[str, Any]:
        for key in request["drop"]:
            self._models.pop(key, None)
        model = self._models[request["key"]] = self._runtime.load(request["data"])
        model.time(request["warm"])
        return {"loaded": request["key"]}

    def kernels(self, request: dict[str, Any]) -> dict[str, Any]:
        return {"kernels": self._runtime.kernels(request["data"], self._folder)}

    def run(self, request: dict[str, Any]) -> dict[str, Any]:
        """Time so many slices of so many inferences, after a few that are not timed."""
        model, count = self._models[request["key"]], request["count"]
        model.time(request["warm"])
        return {"seconds": [model.time(count) for _ in range(request["slices"])]}

    def infer(self, request: dict[str, Any]) -> dict[str, Any]:
        import numpy

        images = numpy.frombuffer(request["data"], "<f4").reshape(request["shape"])
        found = numpy.ascontiguousarray(self._models[request["key"]].infer(images), "<f4")
        return {"shape": list(found.shape), "data": base64.b64encode(found.tobytes()).decode()}


def answer(far: Far, request: dict[str, Any]) -> dict[str, Any]:
    """Do what is asked; what goes wrong is an answer too."""
    try:
        if request["op"] not in ALLOWED:
            raise ValueError(f"{request['op']!r} cannot be asked")
        if hashlib.sha256(request["data"]).hexdigest() != request["sha256"]:
            raise ValueError("the bytes that arrived have another sha256")
        return {"id": request["id"], **getattr(far, request["op"])(request)}
    except ImportError as error:
        return {"id": request["id"], "error": "missing", "detail": error.name or _one_line(error)}
    except Exception as error:  # the runtimes' exceptions share no base class
        return {"id": request["id"], "error": "failed", "detail": _one_line(error)}


class Watch:
    """Ends this process, its folder removed, when nobody is at the other end any more."""

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self.idle_since = time.monotonic()  # infinite while there is work
        signalled, self._wake = os.pipe()
        os.set_blocking(self._wake, False)
        signal.set_wakeup_fd(self._wake)  # written to at once, also within a runtime's long call
        for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
            signal.signal(number, lambda *_: None)
        self._poll = select.poll()
        self._poll.register(signalled, select.POLLIN)
        self._poll.register(0, getattr(select, "POLLRDHUP", 0))
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self) -> None:
        while not self._poll.poll(WATCH_MS) and time.monotonic() - self.idle_since < IDLE_SECONDS:
            pass
        self.leave()

    def leave(self, code: int = 0) -> NoReturn:
        """End the process, whatever its threads are at."""
        shutil.rmtree(self._folder, ignore_errors=True)
        os._exit(code)


def main() -> None:
    """Answer requests until there are no more."""
    os.umask(0o077)
    gc.disable()
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a library prints is not among the answers
    folder = tempfile.mkdtemp(prefix="hwnas-")
    watch, far, requests = Watch(folder), Far(folder), sys.stdin.buffer
    try:
        while line := requests.readline(MAX_REQUEST):
            watch.idle_since = float("inf")
            request = json.loads(line)
            size = request.get("bytes", 0)
            if not 0 <= size <= MAX_DATA:
                break
            request["data"] = requests.read(size)
            answers.write(json.dumps(answer(far, request)).encode() + b"\n")
            answers.flush()
            watch.idle_since = time.monotonic()
    except Exception:
        traceback.print_exc()
        watch.leave(1)
    watch.leave()


def _one_line(error: Exception) -> str:
    text = (str(error).strip().splitlines() or [type(error).__name__])[0]
    return "".join(character if character.isprintable() else " " for character in text[:MAX_DETAIL])


def _noise(shape: list[int]) -> Any:
    import numpy

    return numpy.random.default_rng(0).standard_normal(shape, dtype=numpy.float32)


def _length(dimension: Any) -> int:
    return int(dimension.get_length()) if dimension.is_static else BATCH


if __name__ == "__main__":
    main()
