"""Ctrl-C: one line that says what is kept, exit code 130, and the work goes on from there."""

import csv
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from tiny_job import Tiny, make_tiny

from latency_tables import Device
from nas.cli.main import main
from predictors.calibration import calibration_folder
from search_spaces import MBConvSpace


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def test_an_interrupted_training_goes_on(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "run"
    command = ["train", "--space", str(tiny.preset), "--data", str(tiny.images), "--out", str(out), "--quiet"]

    def interrupt(line: dict[str, Any]) -> None:
        if "epoch" in line:
            raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("nas.cli.train._reporter", lambda display: interrupt)
        assert main(command) == 130
    line = f"interrupted; the run up to its last checkpoint is in {out}; --resume goes on\n"
    assert capsys.readouterr().err == line
    [before] = epochs(out)
    assert main(command) == 2  # only with --resume is an existing run touched
    assert main([*command, "--resume"]) == 0
    assert epochs(out)[0] == before and len(epochs(out)) == 2
    assert (out / "supernet.safetensors").exists()


def epochs(run: Path) -> list[object]:
    with open(run / "train_log.csv") as file:
        return list(csv.DictReader(file))


def test_an_interrupted_search_says_what_is_kept_and_leaves_no_folder(tiny: Tiny, tmp_path: Path) -> None:
    script = f"""
import sys, time
from pathlib import Path
from typing import Any
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
    process = subprocess.Popen([sys.executable, "-c", script], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 100
    while not (tmp_path / "ready").exists() and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    *_, line = process.communicate(timeout=60)[1].splitlines()
    assert process.returncode == 130
    assert line.startswith("interrupted; kept: what the calibration of simulated measured, in ")
    assert line.endswith("the same command goes on")
    assert [path.name for path in tmp_path.iterdir()] == ["ready"]


def test_an_interrupted_calibration_says_what_is_kept(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def begin(device: Device, space: MBConvSpace, *_arguments: object, **_keywords: object) -> None:
        if measured:
            measured[0].parent.mkdir(parents=True)
            measured[0].touch()
        else:
            measured.append(calibration_folder(device, space, channels=1, classes=10) / "networks.csv")
        raise KeyboardInterrupt

    measured: list[Path] = []
    monkeypatch.setattr("nas.export.scoring.calibrated", begin)
    assert main(["calibrate", "--device", "cpu"]) == 130
    assert capsys.readouterr().err == "interrupted; nothing was measured yet\n"
    assert main(["calibrate", "--device", "cpu"]) == 130
    line = f"interrupted; what was measured is kept in {measured[0]}; the same command goes on\n"
    assert capsys.readouterr().err == line
