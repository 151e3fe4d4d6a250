"""``nas search`` for several devices, as a person types it."""

import json
from pathlib import Path

import pytest
from tiny_job import Tiny, invented_scorer, make_tiny

from latency_tables.simulated import SimulatedDevice
from nas.cli.fleet import latency_limits
from nas.cli.main import main
from nas.errors import UsageError
from nas.export.shared import read_shared


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(autouse=True)
def two_devices(monkeypatch: pytest.MonkeyPatch, tiny: Tiny) -> None:
    monkeypatch.setattr("latency_tables.get_device", SimulatedDevice)
    for module in ("pipeline", "one_for_all"):
        monkeypatch.setattr(f"nas.export.{module}.load_scorer", lambda *_: invented_scorer(tiny.space))


def command(tiny: Tiny, *more: str) -> list[str]:
    own = ["search", "--device", "here,there", "--supernet", str(tiny.supernet), "--data", str(tiny.images)]
    return [*own, "--budget", "300", "--finalists", "1", "--quiet", *more]


def test_each_device_is_printed_and_has_its_folder(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(command(tiny, "--out", str(tmp_path / "out"))) == 0
    printed = capsys.readouterr().out
    for name in ("here", "there"):
        assert f"tiny on {name} (simulated" in printed
        assert (tmp_path / "out" / name / "result.json").exists()


def test_one_for_all_says_how_it_is_meant(tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(command(tiny, "--one-for-all", "--out", str(tmp_path / "out"))) == 0
    printed, content = capsys.readouterr().out, read_shared(tmp_path / "out")
    assert printed.startswith("tiny, one for all of here, there") and f"Chosen: {content['chosen']}" in printed
    assert "own best network of equal accuracy" in printed and "here is simulated, not measured" in printed


def test_budgets_that_nothing_measures_within_fail_after_the_result(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    limit, rest = ["--latency", "0.05,0.001"], ["--one-for-all", "--json", "--out", str(tmp_path / "out")]
    assert main(command(tiny, *limit, *rest)) == 2  # predicted out of reach
    assert "error: device 'there': none of" in capsys.readouterr().err
    assert main(command(tiny, "--latency", "0.017,0.05", *rest)) == 1
    printed = capsys.readouterr()
    assert json.loads(printed.out)["chosen"] is None
    assert "no verified network is within the latency budget of every device, the least ratio" in printed.err


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("fast", r"--latency 'fast'; allowed: a number above 0, or 2 with commas between"),
        ("1,2,3", r"--latency '1,2,3' for 2 devices; allowed: a number above 0, or 2 with commas between"),
    ],
)
def test_what_is_no_budget_is_refused(text: str, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        latency_limits(text, ["here", "there"])


def test_one_budget_is_that_of_every_device() -> None:
    assert latency_limits("2.5", ["here", "there"]) == {"here": 2.5, "there": 2.5}
    assert latency_limits("2,3", ["here", "there"]) == {"here": 2.0, "there": 3.0}
    assert latency_limits(None, ["here"]) == {}
