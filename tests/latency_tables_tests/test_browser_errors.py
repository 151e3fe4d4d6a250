"""What device ``browser`` says where something is missing or lies; no browser is needed for it."""

import base64
import json
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

import fake_chromium
import numpy as np
import pytest
from browser_here import running

from latency_tables.browser import Browser
from latency_tables.browser import chromium as chromium_module
from latency_tables.browser import package as package_module
from latency_tables.browser import pipe as pipe_module
from nas.errors import DeviceError
from nas.files import cache_dir

IMAGE = {"input": np.ones((1, 2), np.float32)}


@pytest.fixture(autouse=True)
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    folder = tmp_path / "onnxruntime-web"
    (folder / "dist").mkdir(parents=True)
    (folder / "package.json").write_text('{"name": "onnxruntime-web", "version": "9.8.7"}')
    for name in package_module.FILES:
        (folder / "dist" / name).write_bytes(b"")
    monkeypatch.setenv("HWNAS_ORT_WEB", str(folder))
    program(tmp_path, monkeypatch, f"exec {sys.executable} {fake_chromium.__file__}")
    return folder


def program(folder: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    path = folder / "browser"
    path.write_text(f"#!/bin/sh\n{line}\n")
    path.chmod(0o755)
    monkeypatch.setenv("HWNAS_CHROMIUM", str(path))


def lying(monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]) -> Browser:
    monkeypatch.setenv("FAKE_CHROMIUM", json.dumps(answers))
    return Browser()


@pytest.mark.skipif(shutil.which("chromium") is None, reason="apt-get install chromium")
@pytest.mark.parametrize("length", [1, 150])
def test_the_browser_starts_and_leaves_nothing_however_long_the_path_of_temporary_files(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    with tempfile.TemporaryDirectory(dir="/tmp") as short:
        folder = Path(short, "x" * length)
        folder.mkdir()
        monkeypatch.setattr(tempfile, "tempdir", str(folder))
        monkeypatch.setenv("TMPDIR", str(folder))
        before = set(Path("/tmp").glob("hwnas-browser-*"))
        browser = chromium_module.Chromium("chromium", "about:blank")
        begun = (set(Path("/tmp").glob("hwnas-browser-*")) - before) | set(folder.iterdir())
        browser.close()
        assert begun and not any(path.exists() for path in begun)


def test_a_missing_browser_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HWNAS_CHROMIUM", str(tmp_path / "absent"))
    with pytest.raises(
        DeviceError, match=r"HWNAS_CHROMIUM is '.*absent', which is no program\); .* install chromium\)"
    ):
        Browser()
    monkeypatch.delenv("HWNAS_CHROMIUM")
    monkeypatch.setenv("PATH", str(tmp_path / "empty"))
    with pytest.raises(
        DeviceError, match=r"no Chromium was found \(sought: chromium, .*\(Debian: apt-get install chrom"
    ):
        Browser()


def test_a_missing_package_says_where_it_was_sought(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("HWNAS_ORT_WEB", str(tmp_path / "absent"))
    with pytest.raises(
        DeviceError, match=r"is not in .*absent; install it: npm install .*, with \$HWNAS_ORT_WEB unset$"
    ):
        Browser()
    monkeypatch.delenv("HWNAS_ORT_WEB")
    monkeypatch.chdir(tmp_path)
    line = rf"npm install --prefix {cache_dir()}/npm onnxruntime-web, or set \$HWNAS_ORT_WEB to its folder"
    with pytest.raises(DeviceError, match=rf"is not in node_modules/onnxruntime-web and .*; install it: {line}$"):
        Browser()


@pytest.mark.parametrize("place", ["here", "cache"])
def test_the_package_is_found_where_npm_puts_it(
    place: str, package: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("HWNAS_ORT_WEB")
    monkeypatch.chdir(tmp_path)
    modules = (tmp_path if place == "here" else cache_dir() / "npm") / "node_modules"
    modules.mkdir(parents=True)
    package.rename(modules / "onnxruntime-web")
    assert package_module.find_package().version == Browser().runtime.removeprefix("onnxruntime-web ") == "9.8.7"


@pytest.mark.parametrize(
    ("manifest", "reason"),
    [('{"name": "leftpad"}', "not of onnxruntime-web"), ("[]", "not of onnxruntime-web"), ("{", "Expecting")],
)
def test_another_package_is_refused(package: Path, manifest: str, reason: str) -> None:
    (package / "package.json").write_text(manifest)
    with pytest.raises(DeviceError, match=rf"onnxruntime-web cannot be used \(.*{reason}.*\); install it again: npm"):
        Browser()


def test_a_package_that_is_not_whole_is_refused(package: Path) -> None:
    (package / "dist" / package_module.BINARY).unlink()
    with pytest.raises(DeviceError, match=r"its dist lacks ort-wasm-simd-threaded\.wasm\); install it again"):
        Browser()


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("echo no display >&2", "ended; it wrote: no display"),
        (r"printf 'junk\0' >&4; sleep 0.2", "speaks no DevTools"),
        (r"printf '[1]\0' >&4; sleep 0.2", r"speaks no DevTools \(a message that is no JSON object\)"),
        (r"""printf '{"id": 1, "error": {"message": "not now"}}\0' >&4; sleep 0.2""", "shows no page: .*not now"),
    ],
)
def test_a_browser_that_does_not_start(line: str, reason: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, line)
    with pytest.raises(DeviceError, match=rf"^device 'browser': \S*/browser {reason}[^\n]*$"):
        Browser().page()


def test_a_message_without_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, "printf '%1000s' x >&4; sleep 0.2")
    monkeypatch.setattr(pipe_module, "MAX_BYTES", 100)
    with pytest.raises(DeviceError, match=r"speaks no DevTools \(a message above 100 bytes\)"):
        Browser().page()


def test_a_browser_that_hangs_is_ended_by_force(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program(tmp_path, monkeypatch, f"echo $PPID > {tmp_path}/pid; exec sleep 1000")
    monkeypatch.setattr(chromium_module, "START_SECONDS", 0.5)
    monkeypatch.setattr(chromium_module, "END_SECONDS", 0.2)
    with pytest.raises(DeviceError, match=r"did not answer in 0\.5 s"):
        Browser().page()
    assert not running(int((tmp_path / "pid").read_text()))


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"start": {"isolated": False}}, "not isolated .*; use Chromium 92 or newer"),
        ({"start": None}, "not isolated"),
        ({"start": {"throws": "SyntaxError: x\n  at y"}}, "onnxruntime-web 9.8.7 does not start: SyntaxError: x$"),
        (
            {"open": {"throws": "Error: no\x1b[31m graph\nat"}},
            r"^model: .* 9.8.7 cannot load it: Error: no\[31m graph$",
        ),
        ({"open": {"throws": "RangeError: Out of memory"}}, "^model: .* ran out of memory .*; use smaller models, or"),
        ({"open": {"throws": "std::bad_alloc"}}, r"ran out of memory \(a page has 4 GiB at most\): std::bad_alloc"),
        ({"open": None}, "returned no description of the model's inputs"),
        ({"open": {**fake_chromium.ANSWERS["open"], "outputs": [{"name": 1}]}}, "description of the model's outputs"),
        ({"open": {**fake_chromium.ANSWERS["open"], "threads": 8}}, "uses 8 threads where 1 were asked for"),
    ],
)
def test_a_page_that_loads_no_model(answer: dict[str, Any], reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match=reason):
        lying(monkeypatch, answer).load(b"model")


@pytest.mark.parametrize(
    "seconds", [None, 1e-6, "1", [], [1e-6, 1e-6], [True], [0], [-1.0], [1e9], [float("nan")], [None]]
)
def test_a_time_that_cannot_have_passed_is_refused(seconds: object, monkeypatch: pytest.MonkeyPatch) -> None:
    runner = lying(monkeypatch, {"time": seconds}).load(b"model")
    with pytest.raises(
        DeviceError, match=r"its page says that 1 times 3 inferences took .* s; allowed: as many numbers"
    ):
        runner.run(3)


def test_a_time_that_can_have_passed_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    assert lying(monkeypatch, {"time": [2e-6]}).load(b"model").run(3) == 2e-6


def output(**changes: object) -> list[dict[str, object]]:
    data = base64.b64encode(np.ones((1, 1), np.float32).tobytes()).decode()
    return [{"name": "logits", "type": "float32", "dims": [1, 1], "data": data, **changes}]


@pytest.mark.parametrize(
    ("answer", "reason"),
    [
        ({"throws": "Error: bad input"}, r"^model: onnxruntime-web 9\.8\.7 cannot run it: Error: bad input$"),
        (None, "returned no list of 1 outputs"),
        ([], "returned no list of 1 outputs"),
        ([None], "an output 'logits' that is no array"),
        (output(dims=[1, 2]), "an output 'logits' that is no array"),
        (output(dims=[-1, 1]), "an output 'logits' that is no array"),
        (output(dims=None), "an output 'logits' that is no array"),
        (output(data="?"), "an output 'logits' that is no array"),
        (output(data=5), "an output 'logits' that is no array"),
        (output(type="int64"), "output 'logits' is a 'int64'; only float outputs can be read from the browser"),
        (output(data="AADAfw=="), "output 'logits' holds numbers that are not finite"),
    ],
)
def test_outputs_that_are_none_are_refused(answer: object, reason: str, monkeypatch: pytest.MonkeyPatch) -> None:
    session = lying(monkeypatch, {"compute": answer}).session(b"model")
    with pytest.raises(DeviceError, match=reason):
        session.run(None, IMAGE)


def test_outputs_that_are_right_are_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    [found] = lying(monkeypatch, {"compute": output()}).session(b"model").run(["logits"], IMAGE)
    assert found.tolist() == [[1.0]] and found.dtype == np.float32


@pytest.mark.parametrize("answer", [None, [1], {"Conv": 1}])
def test_operators_that_are_none_are_refused(answer: object, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(DeviceError, match="returned no list of operators"):
        lying(monkeypatch, {"operators": answer}).executed_operators(b"model")
