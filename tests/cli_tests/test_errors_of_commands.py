"""What a user does wrong ends in one line on standard error and exit code 2, failed work in 1; nothing is written."""

from pathlib import Path

import pytest
from tiny_job import make_images

from nas.cli.main import main
from nas.errors import DeviceError


def failed(arguments: list[str], capsys: pytest.CaptureFixture[str], code: int = 2) -> str:
    """Run a command that must fail and return its one line."""
    assert main(arguments) == code
    printed = capsys.readouterr()
    assert printed.out == ""
    lines = printed.err.splitlines()
    assert len(lines) == 1, printed.err
    return lines[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["serch"], "error: No such command 'serch'"),
        (["search"], "error: Missing option '--device'; see nas search --help"),
        (["search", "--device", "cpu", "--bugdet", "5"], "--bugdet"),
        (["search", "--device", "cpu", "--budget", "many"], "Invalid value for '--budget'"),
        (["search", "--device", "cpu", "--budget", "0"], "Invalid value for '--budget'"),
        (["search", "--device", "gpuu"], "error: unknown device 'gpuu'; there is: "),
        (["search", "--device", "cpu", "--space", "fashion-mbv"], "Did you mean 'fashion-mbv3'?"),
        (["search", "--device", "cpu", "--strategy", "evolutoin"], "Did you mean 'evolution'?"),
        (["search", "--device", "cpu", "--supernet", "nowhere"], "error: unknown supernet 'nowhere'; there is:"),
        (
            ["search", "--device", "bitfusion"],
            "device 'bitfusion' executes w8a8, w6a6, w4a4; networks of",
        ),
        (["search", "--device", "cpu", "--latency", "-1"], "error: latency budget -1.0 ms; allowed: a number above 0"),
        (["search", "--device", "cpu", "--latency", "nan"], "error: latency budget nan ms; allowed: a number above 0"),
        (["search", "--device", "cpu", "--latency", "inf"], "error: latency budget inf ms; allowed: a number above 0"),
        (["search", "--device", "cpu", "--finalists", "65"], "Invalid value for '--finalists'"),
        (["evaluate", "nowhere"], "error: nowhere: no bundle there; allowed: a folder that holds model.onnx"),
        (["train", "--out", "new", "--space", "x.toml"], "error: x.toml: cannot be read"),
        (["train", "--out", "new", "--resume"], "error: --resume: there is no run in new; leave --resume out"),
        (["train", "--out", "new", "--data", "nowhere"], "error: data folder nowhere is not there"),
        (
            ["train", "--out", "new", "--torch-device", "warp"],
            "error: --torch-device 'warp': not known; allowed: cpu, or ",
        ),
        (["collect", "--supernet", "nowhere"], "error: unknown supernet 'nowhere'"),
        (["collect", "--supernet", "fashion-mbv3"], "ships with its pairs and predictor; name a folder for yours with"),
        (
            ["collect", "--supernet", "fashion-mbv3", "--out", "new", "--torch-device", "warp"],
            "error: --torch-device 'warp': not known",
        ),
        (["calibrate", "--device", "gpuu"], "error: unknown device 'gpuu'; there is: "),
    ],
)
def test_wrong_use_is_one_line_and_two(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert message in failed(arguments, capsys)
    assert list(tmp_path.iterdir()) == []


def test_an_output_folder_in_use_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "mine.txt").touch()
    line = failed(["search", "--device", "cpu", "--out", str(tmp_path)], capsys)
    assert line == f"error: output {tmp_path} exists and is not an empty folder; name another with --out"
    assert failed(["train", "--out", str(tmp_path)], capsys) == line


def test_an_output_folder_that_cannot_be_made_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "file").touch()
    line = failed(["search", "--device", "cpu", "--out", str(tmp_path / "file" / "out")], capsys, code=1)
    assert line.startswith(f"error: output {tmp_path}/file/out cannot be written (")


@pytest.mark.parametrize("content", [b"", b"a foreign file", b"PK\x03\x04 cut short"])
def test_a_state_that_is_none_is_refused_before_the_device_is_measured(
    content: bytes, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("state.npz").write_bytes(content)
    line = failed(["search", "--device", "cpu", "--storage", "state.npz"], capsys)
    assert line.startswith("error: state.npz: not a readable search state (")
    assert [path.name for path in tmp_path.iterdir()] == ["state.npz"]


def test_failed_work_is_one_line_and_one(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(name: str) -> None:
        raise DeviceError("the device\nis gone")

    monkeypatch.setattr("latency_tables.get_device", absent)
    assert failed(["search", "--device", "cpu"], capsys, code=1) == "error: the device is gone"


def test_a_fault_of_ours_is_not_hidden(monkeypatch: pytest.MonkeyPatch) -> None:
    def broken() -> None:
        raise ZeroDivisionError

    monkeypatch.setattr("search_spaces.list_spaces", broken)
    with pytest.raises(ZeroDivisionError):
        main(["spaces"])


def test_images_without_classes_are_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    images = make_images(tmp_path / "images", ("only",))
    line = failed(["train", "--out", str(tmp_path / "run"), "--data", str(images)], capsys)
    assert "1 class folders (only); allowed: two or more" in line
    assert not (tmp_path / "run").exists()


def test_a_folder_without_a_run_is_not_resumed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    line = failed(["train", "--out", str(tmp_path), "--resume"], capsys)
    assert line == f"error: --resume: there is no run in {tmp_path}; leave --resume out to start one"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--from", "fashion-mbv3", "--space", "cifar10-mbv3"], "--from fashion-mbv3 is of space fashion-mbv3, whose"),
        (["--from", "nowhere"], "unknown supernet 'nowhere'"),
    ],
)
def test_training_says_what_it_cannot_begin_with(
    options: list[str], reason: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reason in failed(["train", "--out", str(tmp_path / "new"), *options], capsys)
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            ["--objective", "speed"],
            "error: unknown objective 'speed'; there is: accuracy, latency, macs, memory, size.",
        ),
        (["--size", "0"], "error: size budget 0.0 MB; allowed: a number above 0"),
        (["--confident"], "error: confident without a latency budget; name one with --latency"),
        (["--strategy", "optuna:tqe"], "error: unknown sampler of Optuna 'tqe'; there is: "),
        (["--from-scratch"], "error: from scratch with strategy 'evolution'; allowed: proxyless, "),
        (["--storage", "foo://x"], "error: storage foo://x: cannot be opened ("),
    ],
)
def test_a_goal_strategy_or_storage_that_cannot_be_is_refused(
    options: list[str],
    message: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    assert failed(["search", "--device", "cpu", *options], capsys).startswith(message)
    assert list(tmp_path.iterdir()) == []
