"""Device ``browser`` computes what onnxruntime does, times it in an isolated page, and leaves nothing behind."""

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from browser_here import needs_browser, running, shared_browser
from tiny_space import tiny_space

from latency_tables import get_device
from latency_tables.browser import Browser, BrowserSession
from latency_tables.browser import server as server_module
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.int8_probe import int8_probe
from latency_tables.onnxruntime_cpu import OnnxRuntimeCpu
from latency_tables.reference_net import reference_model
from nas.errors import DeviceError

pytestmark = needs_browser

SPACE = tiny_space()
IMAGES = Images(1, 3)
END_SECONDS = 20.0


def images(session: BrowserSession, count: int) -> dict[str, np.ndarray]:
    [slot] = session.get_inputs()
    shape = [count if isinstance(size, str) else size for size in slot.shape]
    return {slot.name: np.random.default_rng(1).standard_normal(shape, dtype=np.float32)}


def outputs_here_and_there(model: bytes, count: int = 1) -> tuple[np.ndarray, np.ndarray]:
    session = shared_browser().session(model)
    feeds = images(session, count)
    return OnnxRuntimeCpu().session(model).run(None, feeds)[0], session.run(None, feeds)[0]


def test_fp32_outputs_agree_with_onnxruntimes() -> None:
    here, there = outputs_here_and_there(timing_model(SPACE, SPACE.largest(), IMAGES))
    assert there.dtype == np.float32 and there.shape == here.shape
    np.testing.assert_allclose(there, here, atol=1e-4 * np.abs(here).max())


def test_int8_outputs_are_close_to_onnxruntimes() -> None:
    here, there = outputs_here_and_there(timing_model(SPACE, SPACE.largest("int8"), IMAGES))
    np.testing.assert_allclose(there, here, atol=0.05 * np.abs(here).max())


def test_a_batch_is_run_image_by_image() -> None:
    model = reference_model()
    for value in (model.graph.input[0], model.graph.output[0]):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    session = shared_browser().session(model.SerializeToString())
    feeds = images(session, 3)
    together = session.run(["logits"], feeds)[0]
    assert session.get_outputs()[0].name == "logits" and together.shape == (3, 10)
    for row, image in zip(together, feeds["input"], strict=True):
        np.testing.assert_allclose(session.run(None, {"input": image[None]})[0][0], row, atol=1e-6 * np.abs(row).max())


def test_two_threads_may_run_a_session() -> None:
    session = shared_browser().session(reference_model().SerializeToString())
    feeds = [{"input": image[None]} for image in np.random.default_rng(2).random((20, 3, 28, 28), np.float32)]
    wanted = [session.run(None, feed)[0] for feed in feeds]
    with ThreadPoolExecutor(2) as pool:
        found = list(pool.map(lambda feed: session.run(None, feed)[0], feeds))
    np.testing.assert_array_equal(found, wanted)


def test_every_precision_on_its_menu_runs_every_convolution_in_it() -> None:
    device = shared_browser()
    assert device.precisions[0] == "fp32"
    for precision in device.precisions:
        executed = device.executed_operators(timing_model(SPACE, SPACE.largest(precision), IMAGES))
        assert executed["QLinearConv"] == (2 + 3 * 4 if precision == "int8" else 0)


@pytest.mark.parametrize("fault", ["kernel", "numbers", "refused"])
def test_int8_is_listed_only_if_it_runs_in_integers_and_rightly(monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    model, image, expected = int8_probe()
    device = shared_browser()
    if fault == "kernel":
        monkeypatch.setattr(device, "executed_operators", lambda model: {"QLinearConv": 0})
    elif fault == "numbers":
        monkeypatch.setattr("latency_tables.probes.int8_probe", lambda form: (model, image, expected + 10))
    else:
        monkeypatch.setattr("latency_tables.probes.int8_probe", lambda form: (b"nonsense", image, expected))
    assert device.precisions == ("fp32",)


def test_its_description_pins_what_latency_depends_on() -> None:
    found = shared_browser().describe()
    assert (found["runtime"], found["provider"], found["threads"]) == ("onnxruntime-web", "wasm", 1)
    assert found["runtime_version"][0].isdigit() and found["browser"].partition("/")[2]
    assert found["reference_sha256"] == "416e41e5a7e64acc"


def test_two_threads_are_two_and_another_device() -> None:
    if (os.cpu_count() or 1) < 2:
        pytest.skip("one core")
    device = Browser("browser-2t", threads=2)
    assert device.load(reference_model().SerializeToString()).run(3) > 0
    assert device.describe()["threads"] == 2 and device.fingerprint != shared_browser().fingerprint


def test_only_float_inputs_can_be_timed() -> None:
    model = onnx.helper.make_model(
        onnx.helper.make_graph(
            [onnx.helper.make_node("Cast", ["ints"], ["floats"], to=onnx.TensorProto.FLOAT)],
            "cast",
            [onnx.helper.make_tensor_value_info("ints", onnx.TensorProto.INT64, [1])],
            [onnx.helper.make_tensor_value_info("floats", onnx.TensorProto.FLOAT, [1])],
        ),
        opset_imports=[onnx.helper.make_opsetid("", 21)],
        ir_version=10,
    )
    with pytest.raises(DeviceError, match=r"input 'ints' is a 'int64'; only float inputs can be timed"):
        shared_browser().load(model.SerializeToString())


def test_a_model_that_fails_when_run_is_one_line() -> None:
    session = shared_browser().session(reference_model().SerializeToString())
    with pytest.raises(DeviceError, match=r"^model: onnxruntime-web .* cannot run it: [^\n]+$"):
        session.run(None, {"input": np.zeros((1, 3, 5), np.float32)})


def test_models_that_nobody_holds_are_forgotten_by_the_page() -> None:
    device, model = shared_browser(), reference_model().SerializeToString()
    device.session(model)  # and with it, all that earlier tests no longer hold
    before = device.page().call("release", [])
    for _ in range(3):
        device.session(model)
    assert device.page().call("release", []) == before


def test_a_page_without_isolation_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server_module, "HEADERS", {})
    with pytest.raises(DeviceError, match=r"its page in .* is not isolated .*; use Chromium 92 or newer"):
        Browser().load(reference_model().SerializeToString())


def test_a_crashed_page_is_named_and_the_next_model_gets_a_new_one() -> None:
    device = Browser()
    session = device.session(reference_model().SerializeToString())
    with pytest.raises(DeviceError, match=r"lost its page, which crashed \(a page that runs out of memory does\)"):
        device.page().chromium.call("Page.crash", seconds=20)
    with pytest.raises(DeviceError, match=r"its browser is closed; load the model again"):
        session.run(None, images(session, 1))
    with pytest.raises(DeviceError, match=r"did not answer in 1 s"):
        device.page().chromium.evaluate("(() => { for (;;); })()", seconds=1)


def left(folder: Path) -> list[Path]:
    """Return what lies in a folder of temporary files, but for what importing onnxruntime puts there."""
    return [path for path in folder.iterdir() if path.name != ".ses"]


@pytest.fixture
def short_folder() -> Iterator[Path]:
    """Return a folder whose path is short enough for the profile to be in it."""
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        yield Path(folder)


@pytest.mark.parametrize("end", [None, signal.SIGKILL, signal.SIGTERM])
def test_nothing_is_left_running_however_python_ends(end: signal.Signals | None, short_folder: Path) -> None:
    code = (
        "import sys; from latency_tables.browser import Browser; device = Browser(); device.precisions; "
        "print(device.page().chromium.pid, flush=True); sys.stdin.read()"
    )
    environment = {**os.environ, "TMPDIR": str(short_folder)}
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with subprocess.Popen([sys.executable, "-c", code], env=environment, text=True, **pipes) as process:
        group = int(process.stdout.readline())
        assert running(group) and left(short_folder)
        if end is None:
            process.stdin.close()
        else:
            process.send_signal(end)
        process.wait(END_SECONDS)
    until = time.monotonic() + END_SECONDS
    while (running(group) or left(short_folder)) and time.monotonic() < until:
        time.sleep(0.05)
    assert not running(group) and not left(short_folder)


def test_it_is_registered() -> None:
    device = get_device("browser")
    assert isinstance(device, Browser) and device.runtime.startswith("onnxruntime-web ")
    assert onnxruntime.__version__ not in ("", device.runtime)
