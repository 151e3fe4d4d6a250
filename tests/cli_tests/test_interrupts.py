"""Ctrl-C: one line that says what is kept, exit code 130, and the work goes on from there."""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_job import Tiny, make_tiny


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def interrupted(command: list[str], ready: Callable[[], bool]) -> tuple[int, str]:
    """Start a command, interrupt it once it is ``ready``, and return its exit code and last line."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not ready() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    return process.returncode, errors.splitlines()[-1]


def test_an_interrupted_training_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "run"
    command = [
        sys.executable, "-m", "nas.cli.main", "train", "--space", str(tiny.preset), "--data", str(tiny.images),
        "--out", str(out), "--quiet", "--epochs-scale", "2000",
    ]  # fmt: skip
    log = out / "train_log.jsonl"

    def epochs() -> list[object]:
        return [json.loads(text) for text in log.read_text().splitlines()] if log.exists() else []

    code, line = interrupted(command, lambda: len(epochs()) > 0)
    assert code == 130
    assert line == f"interrupted; the run up to its last whole epoch is in {out}; --resume goes on"
    before = epochs()
    assert interrupted([*command, "--resume"], lambda: len(epochs()) > len(before))[0] == 130
    assert epochs()[: len(before)] == before


def test_an_interrupted_search_says_what_is_kept_and_leaves_no_folder(tiny: Tiny, tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from latency_tables.device import DEVICES
from nas.cli.main import main
import nas.export.pipeline

DEVICES.register("simulated", "latency_tables.simulated:SimulatedDevice", "for tests")
def calibrate_for_ever(*arguments, **keywords):
    Path({str(tmp_path / "ready")!r}).touch()
    time.sleep(100)
nas.export.pipeline.load_scorer = calibrate_for_ever
sys.exit(main(["search", "--device", "simulated", "--supernet", {str(tiny.supernet)!r}, "--data", {str(tiny.images)!r},
    "--out", {str(tmp_path / "out")!r}]))
"""
    code, line = interrupted([sys.executable, "-c", script], (tmp_path / "ready").exists)
    assert code == 130
    assert line.startswith("interrupted; kept: what the calibration of simulated measured, in ")
    assert line.endswith("the same command goes on")
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]
