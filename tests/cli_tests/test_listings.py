"""The help, the version, and what there is: devices, spaces, strategies, as tables and as JSON."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from nas import __version__
from nas.cli.main import app, main

COMMANDS = (
    "search",
    "evaluate",
    "calibrate",
    "train",
    "collect",
    "import-ofa",
    "quantize",
    "devices",
    "spaces",
    "strategies",
)


def printed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 0
    output = capsys.readouterr()
    assert output.err == ""
    return output.out


def test_the_help_names_every_command_and_the_first_thing_to_type(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["--help"], ["-h"], []):
        text = printed(arguments, capsys)
        assert all(name in text for name in COMMANDS) and "nas search --device cpu" in text


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_is_explained(command: str) -> None:
    run = CliRunner().invoke(app, [command, "--help"])
    assert run.exit_code == 0
    for parameter in next(c for c in _commands() if c.name == command).params:
        assert parameter.name == "help" or getattr(parameter, "help", None), f"{command} {parameter.name}"


def _commands() -> list:
    import typer.main

    return list(typer.main.get_command(app).commands.values())


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert printed(["--version"], capsys) == f"hwnas {__version__}\n"


def test_devices_with_what_they_execute(capsys: pytest.CaptureFixture[str]) -> None:
    [cpu] = [device for device in json.loads(printed(["devices", "--json"], capsys)) if device["name"] == "cpu"]
    assert cpu["precisions"][0] == "fp32" and cpu["runtime"].startswith("onnxruntime ") and cpu["fingerprint"]
    assert "cpu" in printed(["devices"], capsys)


def test_a_modelled_device_is_calibrated_without_measuring(capsys: pytest.CaptureFixture[str]) -> None:
    found = json.loads(printed(["calibrate", "--device", "bitfusion", "--json"], capsys))
    assert found["simulated"] and found["energy_mj"]["w4a4"]["median"] < found["energy_mj"]["w8a8"]["median"]
    text = printed(["calibrate", "--device", "bitfusion"], capsys)
    assert "modelled, not measured" in text and "cannot be trained, exported or verified yet" in text


def test_spaces_with_their_exact_size(capsys: pytest.CaptureFixture[str]) -> None:
    [space] = [s for s in json.loads(printed(["spaces", "--json"], capsys)) if s["name"] == "fashion-mbv3"]
    assert isinstance(space["networks"], int) and space["networks"] > 10**20
    assert "fashion-mbv3" in printed(["spaces"], capsys)


def test_strategies_with_what_they_are_for(capsys: pytest.CaptureFixture[str], repository: Path) -> None:
    found = {row["name"]: row["summary"] for row in json.loads(printed(["strategies", "--json"], capsys))}
    assert {"evolution", "random"} <= set(found)
    text = printed(["strategies"], capsys)
    assert found["evolution"] in text
    assert (repository / text.split()[-1]).read_text().count("| evolution | ")  # where they are compared


def test_the_installed_command_exits_as_documented() -> None:
    def exit_code(*arguments: str) -> int:
        return subprocess.run([sys.executable, "-m", "nas.cli.main", *arguments], capture_output=True).returncode

    assert exit_code("strategies") == 0 and exit_code("strategis") == 2
