"""Calibrating a device: measured once, kept, found again, continued, and never believed when it does not fit."""

import json
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_space import tiny_space

from latency_tables import FULL, Measurement, SimulatedDevice
from latency_tables.builder import timing_model
from latency_tables.features import Images
from latency_tables.rows import append_rows, read_rows
from latency_tables.simulated import CostModel
from nas.errors import DeviceError, FileFormatError, OutputError, UsageError
from nas.files import cache_dir
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
    assert report.random.networks == report.searched.networks == report.repeated == 6
    assert (report.fitted, report.fitted_when_judged) == (57, 45)
    assert 0 < report.repeatability < 0.05 and report.random.median < 0.1
    text = "\n".join(report.lines())
    for part in (
        "SIMULATED",
        "fitted to 57 networks",
        "judged by a fit to 45 of them",
        "held-out error, random (6 networks): median",
        "repeatability floor (6 networks",
        "tiny",
    ):
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
    assert found.report.fitted == 57


def test_the_time_before_an_interruption_counts() -> None:
    plan = replace(PLAN, seconds=3100.0, max_batches=3)
    with pytest.raises(KeyboardInterrupt):
        calibrate(CountingDevice(stop_after=2), SPACE, plan=plan, **IMAGES)
    path = calibration_folder(SimulatedDevice(), SPACE, **IMAGES) / "networks.csv"
    rows = [replace(row, seconds=100.0) for row in read_rows(path)]
    path.unlink()
    append_rows(path, rows)
    device = CountingDevice()
    found = calibrate(device, SPACE, plan=plan, **IMAGES)
    assert device.batches == [15, 18]  # no time is left for a third batch
    assert found.report.seconds >= 3000


def test_fresh_throws_a_finished_one_away_and_goes_on_with_its_own(finished: Path) -> None:
    for stop_after in (1, 2):
        device = CountingDevice(stop_after=stop_after)
        with pytest.raises(KeyboardInterrupt):
            run(device, fresh=True)
        assert device.batches == [15] * stop_after
    device = CountingDevice()
    assert not run(device, fresh=True).reused and device.batches == [18]
    assert [path.name for path in finished.parent.iterdir()] == [finished.name]


def test_networks_that_judge_are_none_that_were_fitted_to(kept: dict[str, bytes], finished: Path) -> None:
    rows = read_rows(finished / "networks.csv")
    once = [row.genes for row in rows if row.role != "repeat"]
    assert len(set(once)) == len(once) == 15 * 3 + 6 * 2
    assert {row.genes for row in rows if row.role == "repeat"} <= {row.genes for row in rows if row.role == "spread"}


def test_another_seed_measures_other_networks(finished: Path) -> None:
    device = CountingDevice(name="other", stop_after=1)
    with pytest.raises(KeyboardInterrupt):
        calibrate(device, SPACE, plan=replace(PLAN, seed=1), **IMAGES)
    other = calibration_folder(device, SPACE, **IMAGES)
    first, second = ({row.genes for row in read_rows(path / "networks.csv")} for path in (finished, other))
    assert len(second - first) > 5


def test_a_space_with_too_few_networks_is_refused() -> None:
    preset = replace(SPACE.preset, resolutions=(12,), kernels=(3,), expands=(2,), keeps=(1.0,))
    space = MBConvSpace(preset, ("fp32",))
    assert space.size < 20
    with pytest.raises(UsageError, match="allowed: one each, for 20 networks or more"):
        calibrate(SimulatedDevice(), space, plan=PLAN, **IMAGES)
    space = MBConvSpace(replace(preset, keeps=(0.5, 1.0)), ("fp32",))
    assert 20 <= space.size < 45
    with pytest.raises(UsageError, match=rf"space 'tiny' has {space.size} networks, too few to hold some out"):
        calibrate(SimulatedDevice(), space, plan=replace(PLAN, min_batches=4, max_batches=4), **IMAGES)


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


def test_a_device_is_the_same_for_other_images_and_other_spaces(finished: Path) -> None:
    assert calibration_changes(SimulatedDevice(), SPACE, channels=3, classes=3) == []
    other = finished.with_name(finished.name.replace("tiny", "tiny-large"))
    finished.rename(other)
    slower = SimulatedDevice(precisions=("fp32",))
    assert calibration_changes(slower, MBConvSpace(SPACE.preset, ("fp32",)), **IMAGES) == []
    other.rename(finished)
    assert calibration_changes(slower, MBConvSpace(SPACE.preset, ("fp32",)), **IMAGES) == [
        "precisions: ['fp32', 'int8'] before, ['fp32'] now"
    ]


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


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("predictor_table.json", {"channels": 3}, "channels: 3 before, 1 now"),
        ("predictor_table.json", {"classes": 9}, "classes: 9 before, 3 now"),
        ("predictor_table.json", {"fingerprint": "x"}, "fingerprint: 'x' before"),
        ("predictor_table.json", {"device": {}}, "cpu: 'unknown' before, 'simulated by simulated' now"),
        ("report.json", {"fingerprint": "x"}, "report of: 'x' before"),
    ],
)
def test_one_of_another_device_or_of_other_images_is_refused(
    finished: Path, name: str, change: dict[str, object], message: str
) -> None:
    path = finished / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    expected = rf"predictor_table\.json: not of this device and these images \(.*{message}.*\); delete its folder"
    with pytest.raises(FileFormatError, match=expected):
        load_calibration(SimulatedDevice(), SPACE, **IMAGES)


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


def busy_elsewhere() -> AbstractContextManager[None]:
    """Hold the device's lock as another process does."""
    return exclusive(cache_dir() / "simulated.lock", "it is being measured", DeviceError)


def test_who_measures_while_another_does_is_refused_after_a_while() -> None:
    device = SimulatedDevice()
    device.wait_seconds = 0.0
    with busy_elsewhere(), pytest.raises(DeviceError, match="device 'simulated' is being measured by process"):
        run(device)


def test_a_finished_one_is_reused_while_another_measures(finished: Path) -> None:
    device = SimulatedDevice()
    device.wait_seconds = 0.0
    with busy_elsewhere():
        assert run(device).reused


def test_one_that_another_finishes_meanwhile_is_reused(finished: Path) -> None:
    hidden = finished.rename(finished.with_name("hidden"))
    with ExitStack() as busy:
        busy.enter_context(busy_elsewhere())

        def finish(line: str) -> None:
            assert "device 'simulated' is being measured by process" in line
            hidden.rename(finished)
            busy.close()

        assert run(SimulatedDevice(), note=finish).reused


def test_a_cache_that_cannot_be_written_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_CACHE", "/proc/nope")
    with pytest.raises(OutputError, match=r"^/proc/nope/simulated\.lock: cannot be written \(No such file"):
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
