"""Every strategy, a study and every budget, from the command line on the default space."""

import json
from pathlib import Path

import pytest

from latency_tables.device import DEVICES
from nas.cli.main import main
from nas.registry import Entry
from nas.search import list_strategies
from nas.search.training import Schedule


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch, cache: Path) -> str:
    monkeypatch.setenv("HWNAS_CACHE", str(cache))  # one calibration for all
    monkeypatch.setattr("nas.export.pipeline.TRAINED", Schedule(0, 10, 1, 0.01, batch_size=8))
    entry = Entry("latency_tables.simulated:SimulatedDevice", "for tests")
    monkeypatch.setitem(DEVICES.entries, "simulated", entry)
    return "simulated"


def found(options: list[str], out: Path, capsys: pytest.CaptureFixture[str]) -> dict:
    code = main(["search", "--device", "simulated", "--finalists", "2", "--json", "--out", str(out), *options])
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return json.loads(printed.out)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", list_strategies())
def test_it_searches_the_default_space(
    strategy: str, tmp_path: Path, simulated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    result = found(["--strategy", strategy, "--budget", "30"], tmp_path / "out", capsys)
    assert result["space"] == "fashion-mbv3" and result["strategy"] == strategy and result["evaluated"] == 30


@pytest.mark.slow
def test_a_study_is_gone_on_with_and_budgets_hold(
    tmp_path: Path, simulated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    limits = ["--size", "0.8", "--macs", "12", "--memory", "0.15", "--latency", "2", "--confident"]
    options = [*limits, "--objective", "accuracy", "--objective", "size", "--budget", "60"]
    options += ["--storage", f"journal://{tmp_path}/search.log"]
    first, again = (found(options, tmp_path / name, capsys) for name in ("a", "b"))
    assert [one["id"] for one in first["front"]] == [one["id"] for one in again["front"]]
    chosen = next(one for one in first["front"] + first["dominated"] if one["id"] == first["chosen"])
    assert chosen["counted"]["size_mb"] <= 0.8 and chosen["counted"]["macs_m"] <= 12
    assert chosen["counted"]["memory_mb"] <= 0.15
