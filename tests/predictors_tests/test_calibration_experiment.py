"""The experiment that judges calibrations: from nothing to figures and to tables that ship, and resumed."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
from tiny_presets import PRESET
from tiny_space import tiny_space

from latency_tables import FULL, LatencyTable
from latency_tables.costs import Images
from latency_tables.simulated import CostModel, SimulatedDevice
from nas.errors import DeviceError
from predictors.known_devices import known_tables
from search_spaces import get_space

COSTS = {"here": CostModel(), "there": CostModel(mac_fp32_ns=0.1), "far": CostModel(element_ns=1.0)}


def device(name: str) -> SimulatedDevice:
    return SimulatedDevice(name, costs=COSTS[name])


@pytest.fixture
def run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module, its devices simulated and its calibrations short."""
    folder = repository / "experiments" / "calibration"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("calibration_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "calibration_experiment", module)
    spec.loader.exec_module(module)
    import calibration_cases as cases

    quick = replace(FULL, values=1, min_rounds=3, max_rounds=3, warm_seconds=0.01)
    for name, value in {
        "get_device": device,
        "JUDGING": quick,
        "SECONDS": {"tiny": 0.5},
        "PIXELS": {"tiny": 16},
    }.items():
        monkeypatch.setattr(cases, name, value)
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path / "out" / "cache"))
    return module


@pytest.mark.slow
def test_it_ends_in_figures_and_in_tables_that_are_sources_of_the_next_device(run: ModuleType, tmp_path: Path) -> None:
    preset, out, shipped = tmp_path / "tiny.toml", tmp_path / "out", tmp_path / "tables"
    preset.write_text(PRESET)
    command = [str(out), "--devices", "here,there", "--spaces", str(preset), "--networks", "12", "--ship"]
    done: list[str] = []

    def launch(step: list[str]) -> None:
        done.append(step[step.index("--step") + 1])
        run.main(step)

    run.main(command, launch, shipped)
    assert done == ["calibrate"] * 2 + ["session-1"] * 2 + ["session-2"] * 2
    found = json.loads((out / "result.json").read_text())["cases"]
    assert [one["device"] for one in found] == ["here", "there"]
    for one in found:
        assert one["errors"]["networks"] == one["few"]["networks"] == one["floor"]["networks"] == 12
        assert one["seconds"] > 0 and one["table"] < 0.1
        assert one["errors"]["mean"] < 0.1 and one["floor"]["mean"] < 0.05 and one["describe"]["simulated"]
    assert (out / "tables.md").read_text().count("\n") == 4 and (out / "predicted.png").exists()

    space = get_space(preset)
    tables = known_tables(device("far"), space, Images(1, 3), shipped)
    assert [name.split()[0] for name in tables if name.split()[0] in COSTS] == ["here", "there"]
    genes = space.sample(50, np.random.default_rng(0))
    for path in (shipped / "tiny").glob("*.csv"):
        again, identity = LatencyTable.load(path, space)
        assert identity.device["cpu"] == f"simulated by {path.stem}" and again.predict_ms(genes).min() > 0

    before = {path: path.read_bytes() for path in out.rglob("*.csv")}
    (out / "tiny" / "here-cold.json").unlink()
    run.main(command, launch, shipped)  # nothing is measured again
    found = json.loads((out / "result.json").read_text())["cases"]
    assert found[0]["seconds"] is None and found[0]["missed"][0].startswith("cold") and found[1]["seconds"] > 0
    assert "| resumed |" in (out / "tables.md").read_text()
    assert {path: path.read_bytes() for path in out.rglob("*.csv")} == before


def test_neither_a_device_nor_another_of_its_runtime_is_a_source_of_it(
    run: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    import calibration_judged

    runtimes = {"cpu": "onnxruntime 1", "cpu-2t": "onnxruntime 1", "openvino": "openvino 2"}
    cases = [
        SimpleNamespace(
            device_name=name,
            device=SimpleNamespace(runtime=runtime),
            space=SimpleNamespace(digest="d"),
            calibration=lambda: SimpleNamespace(table=None),
        )
        for name, runtime in runtimes.items()
    ]
    monkeypatch.setattr(calibration_judged, "judge", lambda case, tables: set(tables))
    assert calibration_judged.judge_all(cases) == [{"openvino"}, {"openvino"}, {"cpu", "cpu-2t"}]


def test_a_session_of_another_device_is_refused(run: ModuleType, tmp_path: Path) -> None:
    from calibration_cases import Case

    space = tiny_space()
    Case(tmp_path, device("here"), space).same_device(1)
    Case(tmp_path, device("here"), space).same_device(1)
    other = SimulatedDevice("here", precisions=("fp32",))
    with pytest.raises(DeviceError, match=r"here-session-1.json: of the device \w+; device 'here' is \w+ now; name"):
        Case(tmp_path, other, space).same_device(1)


def test_the_floor_is_what_two_sessions_differ_by(run: ModuleType) -> None:
    from calibration_judged import Floor

    floor = Floor.of(np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.2, 1.9, 3.15, 4.0]))
    assert floor.networks == 4 and floor.mean == pytest.approx(0.075)
    assert floor.within_10 == 0.75 and floor.spearman == 1
