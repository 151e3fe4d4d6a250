"""Calibrating a device: measured once, kept, found again, continued, and never believed when it does not fit."""

import json
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_space import tiny_space

from latency_tables import FULL, Measurement, SimulatedDevice
from latency_tables.builder import timing_model
from latency_tables.features import Images
from latency_tables.rows import read_rows
from latency_tables.simulated import CostModel
from nas.errors import DeviceError, FileFormatError, UsageError
from nas.lock import exclusive
from predictors import Calibration, CalibrationPlan, calibrate, calibration_changes, load_calibration
from predictors.calibration import calibration_folder
from search_spaces import Genes, MBConvSpace

SPACE = tiny_space()
IMAGES = {"channels": 1, "classes": 3}
MEASURING = replace(FULL, values=1, min_rounds=3, max_rounds=3, warm_seconds=0.01, seconds=1e6)
PLAN = CalibrationPlan(
    seconds=0.0, batch=15, min_batches=2, max_batches=2, held_out=6, measuring=MEASURING, judging=MEASURING
)


_BUILT: dict[tuple[bytes, tuple[str, ...]], bytes] = {}


def _build_once(space: MBConvSpace, row: Genes, images: Images) -> bytes:
    key = (row.tobytes(), space.precisions)
    if key not in _BUILT:
        _BUILT[key] = timing_model(space, row, images)
    return _BUILT[key]


@pytest.fixture(autouse=True, scope="module")
def built_once() -> Iterator[None]:
    """Calibrations of one seed measure the same networks: build each graph once."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("predictors.calibration_job.timing_model", _build_once)
        yield


class CountingDevice(SimulatedDevice):
    """Counts the networks it is asked for, and can be cut off."""

    def __init__(self, *, stop_after: int = 99, **options) -> None:
        super().__init__(**options)
        self.batches: list[int] = []
        self.stop_after = stop_after

    def measure_many(self, models, **options) -> dict[str, Measurement]:
        if len(self.batches) == self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(len(models))
        return super().measure_many(models, **options)


def run(device: SimulatedDevice, **options) -> Calibration:
    return calibrate(device, SPACE, plan=PLAN, **IMAGES, **options)


def test_a_first_calibration_measures_and_a_second_reuses_it() -> None:
    device, calls = CountingDevice(), []
    found = run(device, progress=lambda *call: calls.append(call))
    assert not found.reused and device.batches == [15, 15, 15, 18]
    assert calls[-1][0] == "calibrate" and calls[-1][1] == calls[-1][2]
    again = run(device)
    assert again.reused and len(device.batches) == 4
    genes = SPACE.sample(50, np.random.default_rng(0))
    assert np.allclose(again.predictor.predict(genes).mean, found.predictor.predict(genes).mean)
    assert again.report == found.report and again.reference_ms == found.reference_ms


def test_it_predicts_the_device_and_reports_its_error_beside_the_floor() -> None:
    device = SimulatedDevice()
    found = run(device)
    genes = SPACE.sample(20, np.random.default_rng(9))
    truth = [device.true_ms(timing_model(SPACE, row, Images(1, 3))) for row in genes]
    assert np.median(np.abs(found.predictor.predict(genes).mean / truth - 1)) < 0.05
    report = found.report
    assert report.random.networks == report.searched.networks == report.repeated == 6 and report.fitted == 45
    assert 0 < report.repeatability < 0.05 and report.random.median < 0.1
    text = "\n".join(report.lines())
    for part in ("SIMULATED", "held-out error, random (6 networks): median", "repeatability floor (6 networks", "tiny"):
        assert part in text
    assert json.loads(json.dumps(report.to_dict()))["random"]["kendall"] > 0.7


def test_it_stands_in_the_cache_as_a_table_with_units_in_its_columns() -> None:
    device = SimulatedDevice()
    folder = run(device).folder
    assert sorted(path.name for path in folder.iterdir()) == [
        "networks.csv", "predictor.json", "predictor_table.csv", "predictor_table.json", "report.json",
    ]  # fmt: skip
    identity = json.loads((folder / "predictor_table.json").read_text())
    assert identity["fingerprint"] == device.fingerprint and identity["device"] == device.describe()


@pytest.mark.parametrize("stop_after", [1, 3])
def test_an_interrupted_one_goes_on_where_it_was(stop_after: int) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(CountingDevice(stop_after=stop_after))
    assert load_calibration(CountingDevice(), SPACE, **IMAGES) is None
    device = CountingDevice()
    found = run(device)
    assert device.batches == [15, 15, 15, 18][stop_after:]
    assert found.report.fitted == 45


def test_fresh_throws_the_known_one_away() -> None:
    run(CountingDevice())
    device = CountingDevice()
    assert not run(device, fresh=True).reused and device.batches == [15, 15, 15, 18]


def test_more_time_measures_more_networks() -> None:
    device = CountingDevice()
    calibrate(device, SPACE, plan=replace(PLAN, seconds=1e6, max_batches=4), **IMAGES)
    assert device.batches == [15, 15, 15, 15, 15, 18]


def test_little_time_means_fewer_rounds() -> None:
    plan = replace(PLAN, seconds=6.0, measuring=replace(MEASURING, max_rounds=20, min_rounds=20, seconds=None))
    folder = calibrate(SimulatedDevice(), SPACE, plan=plan, **IMAGES).folder
    rows = read_rows(folder / "networks.csv")
    assert {row.rounds for row in rows if row.role == "spread"} <= set(range(1, 6))


def test_a_changed_device_is_noticed_and_what_changed_is_said() -> None:
    assert calibration_changes(SimulatedDevice(), SPACE, **IMAGES) == []
    run(SimulatedDevice())
    assert calibration_changes(SimulatedDevice(), SPACE, **IMAGES) == []

    class Updated(SimulatedDevice):
        def describe(self) -> dict[str, object]:
            return {**super().describe(), "runtime_version": "2"}

    assert load_calibration(Updated(), SPACE, **IMAGES) is None
    assert calibration_changes(Updated(), SPACE, **IMAGES) == ["runtime_version: '1' before, '2' now"]
    assert calibration_changes(SimulatedDevice(), SPACE, channels=3, classes=3) == ["channels: 1 before, 3 now"]


@pytest.mark.parametrize("name", ["report.json", "predictor.json", "predictor_table.json", "predictor_table.csv"])
@pytest.mark.parametrize("damage", ["cut", "absent", "other"])
def test_a_damaged_one_is_refused_by_name_and_fresh_mends_it(name: str, damage: str, finished: Path) -> None:
    path, device = finished / name, SimulatedDevice()
    if damage == "absent":
        path.unlink()
        if name == "report.json":  # without it, the calibration is not finished: it goes on from its rows
            assert load_calibration(device, SPACE, **IMAGES) is None
            return
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "cut" else b"{}\n")
    with pytest.raises(FileFormatError, match=rf"{name}: "):
        load_calibration(device, SPACE, **IMAGES)
    with pytest.raises(FileFormatError, match=rf"{name}: .*"):
        run(device)


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: dict[str, bytes]) -> Path:
    """A finished calibration in a cache of its own, copied from one made once."""
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path))
    folder = calibration_folder(SimulatedDevice(), SPACE, **IMAGES)
    folder.mkdir(parents=True)
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HWNAS_CACHE", str(tmp_path_factory.mktemp("made")))
        folder = run(SimulatedDevice()).folder
        return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_rows_of_another_shape_are_refused(finished: Path) -> None:
    (finished / "report.json").unlink()
    rows = finished / "networks.csv"
    header, first, *_ = rows.read_text().splitlines()
    rows.write_text(f"{header}\n{first} 0\n")
    with pytest.raises(FileFormatError, match=r"networks\.csv: a row has not the 21 genes of space 'tiny'; delete"):
        run(SimulatedDevice())


def test_two_at_once_are_refused(finished: Path) -> None:
    refused = pytest.raises(DeviceError, match="device 'simulated' is being measured by process")
    with exclusive(finished.parent / "simulated.lock", "it is being measured", DeviceError), refused:
        run(SimulatedDevice())


def test_a_precision_that_the_device_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="space 'tiny' with int8; device 'simulated' executes: fp32"):
        calibrate(SimulatedDevice(precisions=("fp32",)), SPACE, **IMAGES)


def test_a_device_with_one_precision_is_calibrated() -> None:
    device, space = SimulatedDevice(precisions=("fp32",)), tiny_space(("fp32",))
    found = calibrate(device, space, plan=PLAN, **IMAGES)
    assert found.report.random.median < 0.1


def test_a_dear_change_of_precision_shows_in_the_boundary_terms() -> None:
    dear = run(SimulatedDevice(name="dear", costs=CostModel(quantize_element_ns=60.0, noise=0.001)))
    cheap = run(SimulatedDevice(name="cheap", costs=CostModel(quantize_element_ns=0.01, noise=0.001)))
    assert dear.table.boundary_ms.sum() > 2 * cheap.table.boundary_ms.sum()
