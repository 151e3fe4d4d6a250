"""A calibration that is killed goes on where it was, by the same command."""

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest
from tiny_presets import PRESET

COMMAND = """
import sys
from latency_tables.device import DEVICES
from nas.cli.main import main
DEVICES.register("simulated", "latency_tables.simulated:SimulatedDevice", "for tests")
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_a_killed_calibration_goes_on(tmp_path: Path) -> None:
    preset, cache = tmp_path / "tiny.toml", tmp_path / "cache"
    preset.write_text(PRESET)
    arguments = ["calibrate", "--device", "simulated", "--space", str(preset), "--seconds", "1", "--json"]
    command = [sys.executable, "-c", COMMAND, *arguments]
    environment = {**os.environ, "HWNAS_CACHE": str(cache)}

    first = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 200
    while not list(cache.glob("calibrations/*/networks.csv")) and first.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    first.kill()
    assert first.wait() < 0
    [networks] = cache.glob("calibrations/*/networks.csv")
    data = networks.read_bytes()
    before = data[: data.rfind(b"\n") + 1]
    assert not (networks.parent / "report.json").exists()

    second = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=250)
    assert second.returncode == 0, second.stderr
    report = json.loads(second.stdout)
    assert networks.read_bytes().startswith(before)
    rows = networks.read_text().splitlines()[1:]
    assert len(set(rows)) == len(rows) == report["fitted"] + report["repeated"]
    assert not report["reused"] and Path(report["folder"]) == networks.parent
