"""``nas calibrate``: the report, printed and as JSON, and the picture that it names."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
from tiny_calibration import IMAGES, SPACE, run

from latency_tables import SimulatedDevice
from nas.cli.main import main


def test_the_command_prints_errors_by_stratum_and_names_the_picture(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_tables.get_device", SimulatedDevice)
    monkeypatch.setattr("supernets.get_supernet", lambda name, **options: SimpleNamespace(space=SPACE, **IMAGES))
    folder = run(SimulatedDevice("pretended")).folder
    arguments = ["calibrate", "--device", "pretended", "--quiet"]
    assert main(arguments) == 0
    text = capsys.readouterr().out
    for part in ("depth: ", "resolution: 12 px", "int8 share: ", "multiply-adds only", "table, no correction"):
        assert part in text
    picture = folder / "calibration.png"
    assert text.splitlines()[-1] == f"picture: {picture}" and picture.read_bytes().startswith(b"\x89PNG")
    assert main([*arguments, "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["reused"] and Path(found["picture"]) == picture
    assert {"depth", "resolution", "int8 share"} == set(found["strata"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--device", "cpu", "--seconds", "9", "--few", "20"], "--seconds with --few, which measures 20 networks"),
        (["--device", "bitfusion", "--seconds", "9"], "--seconds with device 'bitfusion', which is computed"),
        (["--device", "bitfusion", "--few", "20"], "--few with device 'bitfusion', which is computed, not measured;"),
    ],
)
def test_options_that_would_do_nothing_are_refused(
    arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["calibrate", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_a_time_limit_that_was_not_needed_is_noted(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("latency_tables.get_device", SimulatedDevice)
    monkeypatch.setattr("supernets.get_supernet", lambda name, **options: SimpleNamespace(space=SPACE, **IMAGES))
    run(SimulatedDevice("pretended"))
    assert main(["calibrate", "--device", "pretended", "--seconds", "9"]) == 0
    assert "--seconds 9 is not used, as nothing was measured; --recalibrate measures anew" in capsys.readouterr().err
