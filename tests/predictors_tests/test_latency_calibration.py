"""Calibrating a device: good at its networks, honest about its error, and continued where it was cut off."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_calibration import IMAGES, MEASURING, PLAN, SPACE, CountingDevice, run
from tiny_space import tiny_space

from latency_tables import FULL, Measurement, MeasuringPlan, SimulatedDevice
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.rows import append_rows, read_rows
from latency_tables.simulated import CostModel
from nas.errors import UsageError
from predictors import CalibrationPlan, calibrate, load_calibration
from predictors.calibration import calibration_folder
from predictors.calibration_job import JUDGING, CalibrationJob
from search_spaces import MBConvSpace

pytestmark = pytest.mark.usefixtures("built_once")


def test_a_first_calibration_measures_and_a_second_reuses_it() -> None:
    device, calls = CountingDevice(), []
    found = run(device, progress=lambda *call: calls.append(call))
    assert not found.reused and device.batches == [15, 15, 15, 12, 6]
    assert calls[-1][0] == "calibrate" and calls[-1][1] == calls[-1][2]
    again = run(device)
    assert again.reused and len(device.batches) == 5
    genes = SPACE.sample(50, np.random.default_rng(0))
    assert np.allclose(again.predictor.predict(genes).mean, found.predictor.predict(genes).mean)
    assert again.report == found.report and again.reference_ms == found.reference_ms


def test_it_predicts_the_device_and_reports_its_error_beside_the_noise() -> None:
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
        "random (6 networks)",
        "Kendall, fastest fifth",
        "repeatability (6 of them measured again",
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
    assert device.batches == [15, 15, 15, 12, 6][stop_after:]
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
    assert device.batches == [15, 12, 6]  # no time is left for a third batch
    assert found.report.seconds >= 3000


def test_fresh_goes_on_with_its_own(finished: Path) -> None:
    for stop_after in (1, 2):
        device = CountingDevice(stop_after=stop_after)
        with pytest.raises(KeyboardInterrupt):
            run(device, fresh=True)
        assert device.batches == [15] * stop_after
    device = CountingDevice()
    assert not run(device, fresh=True).reused and device.batches == [12, 6]
    assert [path.name for path in finished.parent.iterdir()] == [finished.name]


def test_networks_that_judge_are_none_that_were_fitted_to(kept: dict[str, bytes], finished: Path) -> None:
    rows = read_rows(finished / "networks.csv")
    once = [row.genes for row in rows if row.role != "repeat"]
    assert len(set(once)) == len(once) == 15 * 3 + 6 * 2
    assert {row.genes for row in rows if row.role == "repeat"} <= {
        row.genes for row in rows if row.role in ("random", "searched")
    }


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
    with pytest.raises(
        UsageError, match="too few to calibrate a device for; allowed: 24 or more; give its preset more choices"
    ):
        calibrate(SimulatedDevice(), space, plan=PLAN, **IMAGES)
    space = MBConvSpace(replace(preset, keeps=(0.5, 1.0)), ("fp32",))
    assert 24 <= space.size < 45
    with pytest.raises(UsageError, match=rf"space 'tiny' has {space.size} networks, too few to hold some out"):
        calibrate(SimulatedDevice(), space, plan=replace(PLAN, min_batches=4, max_batches=4), **IMAGES)


def test_more_time_measures_more_networks() -> None:
    device = CountingDevice()
    calibrate(device, SPACE, plan=replace(PLAN, seconds=1e6, max_batches=4), **IMAGES)
    assert device.batches == [15, 15, 15, 15, 15, 12, 6]


def test_little_time_means_fewer_rounds() -> None:
    plan = replace(PLAN, seconds=6.0, measuring=replace(MEASURING, max_rounds=20, min_rounds=20, seconds=None))
    folder = calibrate(SimulatedDevice(), SPACE, plan=plan, **IMAGES).folder
    rows = read_rows(folder / "networks.csv")
    assert {row.rounds for row in rows if row.role == "spread"} <= set(range(1, 6))


def test_a_precision_that_the_device_lacks_is_refused() -> None:
    with pytest.raises(UsageError, match="space 'tiny' with int8; device 'simulated' executes: fp32"):
        calibrate(SimulatedDevice(precisions=("fp32",)), SPACE, **IMAGES)


def test_a_device_with_one_precision_is_calibrated() -> None:
    device, space = SimulatedDevice(precisions=("fp32",)), tiny_space(("fp32",))
    found = calibrate(device, space, plan=PLAN, **IMAGES)
    assert found.report.random.median < 0.1


def test_a_dear_change_of_precision_shows_in_the_table() -> None:
    dear = run(SimulatedDevice(name="dear", costs=CostModel(quantize_element_ns=60.0, noise=0.001)))
    cheap = run(SimulatedDevice(name="cheap", costs=CostModel(quantize_element_ns=0.01, noise=0.001)))
    changes = [sum(np.ptp(costs, axis=1).sum() for costs in found.table.part_ms) for found in (dear, cheap)]
    assert changes[0] > 2 * changes[1]


def test_models_that_are_large_are_timed_a_few_at_a_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("predictors.calibration_job.MOST_BYTES", 60_000)
    device = CountingDevice()
    found = run(device)
    assert len(device.batches) > 10 and max(device.batches) < 15
    assert found.report.fitted + found.report.repeated == sum(device.batches) and found.report.random.median < 0.1


class Disturbed(CountingDevice):
    """Takes every fifth network for three times as slow, and says that it is noisy."""

    def measure_many(self, models, **options) -> dict[str, Measurement]:
        found = super().measure_many(models, **options)
        for one in [*found][::5]:
            found[one] = replace(found[one], latency_ms=3 * found[one].latency_ms, quality="noisy")
        return found


def test_noisy_networks_are_neither_fitted_to_nor_judge() -> None:
    report = run(Disturbed()).report
    noisy_when_judged = report.fitted_when_judged, report.random.networks + report.searched.networks
    assert noisy_when_judged[0] <= 45 - 9 and noisy_when_judged[1] <= 12 - 3
    assert report.fitted == sum(noisy_when_judged) == 57 - report.left_out
    assert report.random.worst < 0.2 and report.repeatability < 0.05
    assert f"{report.left_out} networks left out for that" in "\n".join(report.lines())


@pytest.mark.parametrize(("seconds", "plan"), [(70.0, JUDGING), (600.0, FULL)])
def test_networks_that_judge_are_measured_fully_where_the_time_allows(
    seconds: float, plan: MeasuringPlan, finished: Path
) -> None:
    asked = CalibrationPlan(seconds=seconds)
    job = CalibrationJob(SimulatedDevice(), SPACE, Images(1, 3), finished / "networks.csv", asked, lambda *_: None)
    assert job._judging_plan() == plan
