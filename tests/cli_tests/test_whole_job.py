"""The commands one after another, as a person with images of their own types them."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
from ssh_server import shared_server
from tiny_job import Invented, Tiny, invented_scorer, make_tiny
from tiny_presets import PRESETS

from latency_tables.device import DEVICES, list_devices
from nas.cli.main import main
from nas.registry import Entry


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> str:
    entry = Entry("latency_tables.simulated:SimulatedDevice", "for tests")
    monkeypatch.setitem(DEVICES.entries, "simulated", entry)
    return "simulated"


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    """Run a command that must succeed; return what it printed."""
    code = main(arguments)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out, printed.err


def whole_job(tiny: Tiny, folder: Path, device: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Train, collect, calibrate, search and evaluate."""
    supernet, data = str(folder / "supernet"), ["--data", str(tiny.images)]
    run(["train", "--space", str(tiny.preset), *data, "--out", supernet, "--epochs-scale", "2"], capsys)
    collected, _ = run(["collect", "--supernet", supernet, *data, "--pairs", "100", "--quantized-pairs", "100"], capsys)
    assert "held-out quantized pairs" in collected and "kendall" in collected
    before = {path: path.read_bytes() for path in Path(supernet).iterdir()}
    reported, _ = run(["collect", "--supernet", supernet, "--report"], capsys)
    assert reported in collected and {path: path.read_bytes() for path in Path(supernet).iterdir()} == before
    calibration = ["calibrate", "--device", device, "--supernet", supernet, "--seconds", "5", "--json", "--quiet"]
    made, errors = run(calibration, capsys)
    assert not json.loads(made)["reused"] and errors == ""
    assert json.loads(run(calibration, capsys)[0])["reused"]
    out = folder / "out"
    search = ["search", "--device", device, "--supernet", supernet, *data, "--budget", "300", "--finalists", "3"]
    table, errors = run([*search, "--out", str(out)], capsys)
    assert f"calibration of {device} reused" in errors and table.splitlines()[0].startswith(f"tiny on {device}")
    result = json.loads((out / "result.json").read_text())
    assert result["chosen"] in table and "95 % interval" in table and "Predictions were off by" in table
    assert result["calibration"]["reused"] and len(result["baselines"]) == 4
    bundle = out / next(one["bundle"] for one in result["front"] if one["id"] == result["chosen"])
    again = json.loads(run(["evaluate", str(bundle), "--device", device, *data, "--json"], capsys)[0])
    assert again["same_device"] and again["now"]["test_accuracy"] == again["reported"]["test_accuracy"]
    if device in list_devices():
        assert f" on {device}, " in run(["evaluate", str(bundle), *data], capsys)[0]  # on what it is for


FIRST, *OTHERS = PRESETS


@pytest.mark.parametrize("family", [FIRST, *(pytest.param(family, marks=pytest.mark.slow) for family in OTHERS)])
def test_the_whole_job_on_a_simulated_device(
    family: str, tmp_path: Path, simulated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_job(make_tiny(tmp_path, family), tmp_path / "job", simulated, capsys)


@pytest.mark.slow
def test_the_whole_job_on_this_machine(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    whole_job(tiny, tmp_path, "cpu", capsys)


@pytest.mark.slow
def test_the_whole_job_on_another_machine(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    host, profile = shared_server().host(), "board.toml"
    monkeypatch.chdir(tmp_path)
    lines = ["schema_version = 1", f'name = "{profile}"', 'runtime = "ssh"', f'host = "{host.host}"',
             f"port = {host.port}", f"identity = '{host.identity}'", f"known_hosts = '{host.known_hosts}'",
             f"python = '{host.python}'"]  # fmt: skip
    Path(profile).write_text("\n".join(lines))
    whole_job(tiny, tmp_path, profile, capsys)


@pytest.mark.slow
def test_the_whole_job_on_openvino(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip("openvino")
    whole_job(tiny, tmp_path, "openvino", capsys)


def test_a_simulated_latency_is_never_shown_as_measured(
    tiny: Tiny, tmp_path: Path, simulated: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.export.pipeline.load_scorer", lambda *_: invented_scorer(tiny.space))
    monkeypatch.chdir(tmp_path)
    command = ["search", "--device", simulated, "--supernet", str(tiny.supernet), "--data", str(tiny.images)]
    table, _ = run([*command, "--budget", "300", "--finalists", "2"], capsys)
    assert "(simulated, not measured)" in table
    [folder] = (tmp_path / "nas-search").iterdir()  # where no --out is given, a folder of its own
    assert folder.name.startswith("simulated-") and str(folder.relative_to(tmp_path)) in table
    printed, errors = run([*command, "--budget", "300", "--finalists", "2", "--json", "--quiet", "--out", "j"], capsys)
    assert json.loads(printed)["device"]["simulated"] is True and errors == ""


@pytest.mark.slow
def test_pairs_in_a_folder_of_their_own_make_it_a_supernet_to_search_with(
    tiny: Tiny, tmp_path: Path, simulated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    own, data = tmp_path / "own", ["--data", str(tiny.images)]
    counts = ["--pairs", "100", "--quantized-pairs", "100"]
    run(["collect", "--supernet", str(tiny.supernet), *data, *counts, "--out", str(own)], capsys)
    assert not (tiny.supernet / "pairs.csv").exists()
    search = ["search", "--device", simulated, "--supernet", str(own), *data, "--budget", "100", "--finalists", "1"]
    run([*search, "--out", str(tmp_path / "out"), "--quiet"], capsys)
    (own / "supernet.safetensors").write_bytes(b"another")
    assert main(["collect", "--supernet", str(tiny.supernet), *data, "--out", str(own)]) == 2
    assert "supernet.safetensors is another supernet than" in capsys.readouterr().err


def test_what_was_never_collected_cannot_be_judged(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["collect", "--supernet", str(tiny.supernet), "--report"]) == 2
    assert "has no accuracy_predictor.safetensors; make it with: nas collect" in capsys.readouterr().err


def test_a_supernet_without_a_predictor_says_how_to_make_it(
    tiny: Tiny, tmp_path: Path, simulated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["search", "--device", simulated, "--supernet", str(tiny.supernet), "--data", str(tiny.images)]
    assert main([*arguments, "--out", str(tmp_path / "out")]) == 2
    line = capsys.readouterr().err.splitlines()[-1]
    assert "has no accuracy_predictor.safetensors; make it with: nas collect --supernet" in line


def test_a_damaged_supernet_is_named(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = tmp_path / "copy"
    shutil.copytree(tiny.supernet, folder)
    data = bytearray((folder / "supernet.safetensors").read_bytes())
    data[-100] ^= 1
    (folder / "supernet.safetensors").write_bytes(data)
    assert main(["collect", "--supernet", str(folder)]) == 2
    assert "supernet.safetensors: its content has not the recorded sha256" in capsys.readouterr().err


def test_a_supernet_of_another_space_is_refused(tiny: Tiny, capsys: pytest.CaptureFixture[str]) -> None:
    for command in ("search", "calibrate"):
        assert main([command, "--device", "cpu", "--supernet", str(tiny.supernet), "--space", "fashion-mbv3"]) == 2
        assert "is of space 'tiny' or another version of it, not 'fashion-mbv3'" in capsys.readouterr().err


def test_a_budget_that_no_measurement_meets_is_said_and_exits_with_one(
    tiny: Tiny, tmp_path: Path, simulated: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    hopeful = replace(invented_scorer(tiny.space), latency=Invented(tiny.space, 0.0, 1e-5, 0.0))
    monkeypatch.setattr("nas.export.pipeline.load_scorer", lambda *_: hopeful)
    monkeypatch.setenv("COLUMNS", "60")
    command = ["search", "--device", simulated, "--supernet", str(tiny.supernet), "--data", str(tiny.images)]
    out = tmp_path / "out"
    assert main([*command, "--budget", "300", "--latency", "0.001", "--quiet", "--out", str(out)]) == 1
    printed = capsys.readouterr()
    assert printed.err.startswith("error: no verified network is within 0.001 ms, the fastest measured ")
    assert "valid. %  test %      ms\n" in printed.out and "blocks" not in printed.out  # as narrow as the terminal
    assert json.loads((out / "result.json").read_text())["chosen"] is None
