"""``nas quantize`` from the command line: what it prints and writes, and what it refuses."""

import json
from pathlib import Path

import pytest
from small_classifier import foreign, small_classifier, steep_device
from test_errors_of_commands import failed
from tiny_job import make_images

from nas.cli.main import main

SHORT = ["--mean", "0.5", "--std", "0.25", "--attempts", "10", "--sensitivity", "measured", "--quiet"]


@pytest.fixture
def model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Return an ONNX file beside its images, on a simulated device."""
    make_images(tmp_path / "images", per_class=30)
    foreign(small_classifier().network, tmp_path / "net.onnx")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("latency_tables.get_device", lambda name: steep_device())
    return "net.onnx"


def test_it_prints_what_was_measured_and_writes_it(model: str, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["quantize", model, "--device", "cpu", "--data", "images", "--max-drop", "0.3", *SHORT]
    assert main([*arguments, "--plain"]) == 0
    printed = capsys.readouterr().out
    assert "| fp32 |" in printed and "times as fast as fp32 with" in printed and "nas-quantize/" in printed
    assert main([*arguments, "--strategy", "clado", "--out", "again", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["search"]["strategy"] == "clado" and report["target"]["max_drop"] == 0.3
    assert main([*arguments, "--sensitivity", "random", "--out", "chance", "--json"]) == 0
    assert not json.loads(capsys.readouterr().out)["search"]["augmented"]
    assert report["chosen"] == json.loads(Path("again/report.json").read_text())["chosen"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--sensitivity", "fischer"],
            "error: unknown sensitivity 'fischer'; there is: fisher, hessian, me",
        ),
        (["--strategy", "bisect"], "error: unknown strategy 'bisect'; there is: bisection, clado, greedy."),
        (
            ["--mean", "half", "--std", "1"],
            "error: --mean 'half'; allowed: one number a channel, 0.485,0",
        ),
        (["--learning-rate", "0.1"], "error: --learning-rate is of the fine-tuning; add --fine-tune EPOCHS or"),
        (["--mean", "0.5"], "error: --mean and --std belong together; give both or neither"),
        (["--data", "nowhere"], "error: data folder nowhere is not there"),
        (["--weights", "w.pth"], "error: net.onnx: an ONNX file has its weights inside; leave --weights out"),
        (["--max-drop", "2"], "error: max drop 2.0; allowed: from 0 to below 1"),
        (["--out", "images"], "error: output images exists and is not an empty folder; name another with --out"),
    ],
)
def test_what_cannot_be_is_one_line(
    options: list[str], message: str, model: str, capsys: pytest.CaptureFixture[str]
) -> None:
    before = sorted(Path().iterdir())
    assert failed(["quantize", model, "--device", "cpu", *options], capsys).startswith(message)
    assert sorted(Path().iterdir()) == before
