"""Calibrating a device from a few networks and the tables of others."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_calibration import IMAGES, SPACE, CountingDevice, run
from tiny_space import tiny_space

from latency_tables import LatencyTable, Measurement, SimulatedDevice
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.features import cost_features, weighted_sum
from latency_tables.rows import read_rows
from latency_tables.simulated import CostModel
from latency_tables.table import TableIdentity
from nas.errors import FileFormatError, UsageError
from predictors import LatencyPredictor
from predictors.calibration_files import measured_so_far
from predictors.few_calibration import FewShotCalibration, calibrate_few, few_shot_folder, fit_few, load_few_shot
from predictors.few_shot_report import FewShotReport
from predictors.known_devices import known_tables
from search_spaces import Genes, SearchSpace, get_space, make_space

FAST = CostModel(mac_fp32_ns=0.03, mac_int8_ns=0.02, element_ns=0.2, noise=0.005)
NEW = CostModel(mac_fp32_ns=0.06, mac_int8_ns=0.03, element_ns=0.5, noise=0.005)


def new_device() -> SimulatedDevice:
    return SimulatedDevice("new", costs=NEW, seed=5)


def few(device: SimulatedDevice, networks: int = 20, **options) -> FewShotCalibration:
    return calibrate_few(device, SPACE, networks=networks, **IMAGES, **options)


def test_a_new_device_is_known_from_twenty_networks_and_another_s_calibration() -> None:
    run(SimulatedDevice("known", costs=FAST, seed=1))
    device = new_device()
    found = few(device)
    assert len(found.report.known) == 1 and found.report.known[0].startswith("known ")
    assert set(found.report.errors) == {"proxy", "sources", "fresh table"}
    rows = SPACE.sample(60, np.random.default_rng(9))
    truth = np.array([device.true_ms(timing_model(SPACE, row, Images(1, 3))) for row in rows])
    prediction = found.predictor.predict(rows)
    assert np.abs(prediction.mean / truth - 1).mean() < 0.08
    assert ((prediction.low <= truth) & (truth <= prediction.high)).mean() > 0.7
    text = "\n".join(found.report.lines())
    assert "SIMULATED" in text and "few-shot: 20 networks" in text and "chosen by networks left out: " in text


def test_without_another_device_its_own_table_is_all_there_is() -> None:
    found = few(new_device())
    assert found.report.known == () and list(found.report.errors) == ["fresh table"]
    assert "known devices: none, so a table of its own" in "\n".join(found.report.lines())


def test_it_is_kept_found_again_and_made_anew_when_asked() -> None:
    device = new_device()
    assert load_few_shot(device, SPACE, **IMAGES) is None
    first, again, more = few(device), few(device), few(device, 24)
    assert (first.reused, again.reused, more.reused) == (False, True, False)
    assert again.report == first.report and again.reference_ms == first.reference_ms > 0
    rows = SPACE.sample(9, np.random.default_rng(0))
    assert np.allclose(first.predictor.predict(rows).mean, again.predictor.predict(rows).mean, rtol=1e-5)
    assert not few(device, 24, fresh=True).reused


def test_networks_are_in_the_form_of_int8_that_the_device_wants(monkeypatch: pytest.MonkeyPatch) -> None:
    class Signed(SimulatedDevice):
        quantization = "s8s8"

    forms: list[str] = []

    def watched(space: SearchSpace, row: Genes, images: Images, form: str) -> bytes:
        forms.append(form)
        return timing_model(space, row, images, form)

    monkeypatch.setattr("predictors.few_calibration.timing_model", watched)
    few(Signed("arm"), 12)
    assert forms == ["s8s8"] * 12


def test_one_that_is_cut_short_keeps_what_it_measured_and_goes_on() -> None:
    with pytest.raises(KeyboardInterrupt):
        few(CountingDevice(stop_after=1))
    folder = few_shot_folder(CountingDevice(), SPACE, **IMAGES)
    kept = measured_so_far(folder)
    assert kept is not None and len(read_rows(kept)) == 10
    before = kept.read_bytes()
    resumed = CountingDevice()
    found = few(resumed)
    assert resumed.batches == [10] and found.report.networks == 20
    assert (found.folder / "networks.csv").read_bytes().startswith(before)


def test_one_made_anew_leaves_the_other_in_use_until_it_is_whole() -> None:
    first = few(CountingDevice())
    with pytest.raises(KeyboardInterrupt):
        few(CountingDevice(stop_after=1), fresh=True)
    again = load_few_shot(CountingDevice(), SPACE, **IMAGES)
    assert again is not None and again.report == first.report and measured_so_far(first.folder) is not None


class Unsteady(CountingDevice):
    """Calls the first ``noisy`` networks of its first run noisy, and them twice as slow."""

    def __init__(self, noisy: int, *, ever: bool = False) -> None:
        super().__init__()
        self.noisy, self.ever = noisy, ever

    def measure_many(self, models, **options) -> dict[str, Measurement]:
        found = super().measure_many(models, **options)
        if self.ever or len(self.batches) == 1:
            for name in list(found)[: self.noisy]:
                slow = 2 * found[name].latency_ms
                found[name] = replace(found[name], quality="noisy", latency_ms=slow, ci_high_ms=slow)
        return found


def test_a_noisy_measurement_is_repeated_and_what_stays_noisy_is_said() -> None:
    device = Unsteady(3)
    found = few(device)
    assert device.batches == [10, 10, 3] and found.report.noisy == 0
    stubborn = few(Unsteady(2, ever=True), fresh=True)
    assert stubborn.report.noisy == pytest.approx(2 / 20) and "10% of them noisy" in stubborn.report.lines()[1]


@pytest.mark.parametrize(("name", "value"), [("networks", "20"), ("errors", {"a": None}), ("known", [1])])
def test_a_report_of_other_types_is_refused(name: str, value: object) -> None:
    content = json.loads(json.dumps(few(new_device()).report.to_dict()))
    assert FewShotReport.from_dict(content, "r").to_dict() == few(new_device()).report.to_dict()
    with pytest.raises(FileFormatError, match=f"^r: {name} is .*; delete"):
        FewShotReport.from_dict({**content, name: value}, "r")
    with pytest.raises(FileFormatError, match=r"^r: left_out: mean is None; delete"):
        FewShotReport.from_dict({**content, "left_out": {}}, "r")


def test_what_is_damaged_is_refused() -> None:
    found = few(new_device())
    report = found.folder / "report.json"
    content = json.loads(report.read_text())
    report.write_text(json.dumps({**content, "report": {}}))
    with pytest.raises(FileFormatError, match=r"report\.json: its SHA-256 is \w+, not the recorded \w+; delete"):
        few(new_device())
    report.write_text(json.dumps(content))
    (found.folder / "predictor.json").write_text("{}")
    with pytest.raises(FileFormatError, match=r"predictor\.json: its SHA-256 is \w+, not the recorded \w+; delete"):
        few(new_device())


@pytest.mark.parametrize("networks", [9, 101])
def test_too_few_and_too_many_networks_are_refused(networks: int) -> None:
    with pytest.raises(UsageError, match=f"{networks} networks of space 'tiny'; allowed: 10 to 100"):
        few(new_device(), networks)


def test_a_proxy_is_a_power_of_its_table_and_survives_a_round_trip(tmp_path: Path) -> None:
    images = Images(1, 3)
    features = cost_features(SPACE, images)
    source = weighted_sum(features, np.random.default_rng(0).uniform(0, 0.1, len(features)))
    rows = SPACE.sample(20, np.random.default_rng(1))
    ms = 3 * source.predict_ms(rows).astype(np.float64) ** 0.5
    predictor, shot = fit_few(SPACE, images, rows, ms, {"other": source})
    assert shot.chosen.name == "proxy other" and predictor.exponent == pytest.approx(0.5, rel=0.01)
    predictor.save(tmp_path / "few.json")
    loaded = LatencyPredictor.load(tmp_path / "few.json", SPACE)
    others = SPACE.sample(50, np.random.default_rng(2))
    wanted = 3 * source.predict_ms(others) ** 0.5
    for one in (predictor, loaded):
        np.testing.assert_allclose(one.predict(others).mean, wanted, rtol=0.01)
    assert predictor.fit(SPACE.sample(40, np.random.default_rng(3)), np.linspace(1, 2, 40)).exponent == 1


def saved(folder: Path, name: str, **changes: object) -> None:
    fields = {
        "space": SPACE.name, "space_digest": SPACE.preset.digest, "precisions": SPACE.precisions, "channels": 1,
        "classes": 3, "device": {"simulated": True}, "fingerprint": f"of {name}", **changes,
    }  # fmt: skip
    LatencyTable.zeros(SPACE).save(folder / f"{name}.csv", TableIdentity(**fields))  # type: ignore[arg-type]


def test_tables_that_ship_are_known_if_they_are_of_the_same_networks(tmp_path: Path) -> None:
    device = new_device()
    saved(tmp_path, "right")
    saved(tmp_path, "space", space_digest="another")
    saved(tmp_path, "menu", precisions=("fp32",))
    saved(tmp_path, "images", classes=10)
    saved(tmp_path, "measured", device={"simulated": False})
    saved(tmp_path, "itself", fingerprint=device.fingerprint)
    saved(tmp_path, "damaged")
    (tmp_path / "damaged.json").write_text("{}")
    (tmp_path / "foreign.csv").write_text("no table\n")
    assert list(known_tables(device, SPACE, Images(1, 3), tmp_path)) == ["right of rig"]
    assert list(known_tables(device, tiny_space(("fp32",)), Images(1, 3), tmp_path)) == ["right of rig"]
    assert known_tables(device, tiny_space(("fp32", "w4a4")), Images(1, 3), tmp_path) == {}


def test_a_table_that_ships_is_known_for_a_part_of_its_space(tmp_path: Path) -> None:
    whole = get_space("fashion-mbv3")
    features = cost_features(whole, Images(1, 10))
    table = weighted_sum(features, np.random.default_rng(0).uniform(0, 0.1, len(features)))
    device = {"simulated": True}
    identity = TableIdentity(whole.name, whole.preset.digest, whole.precisions, 1, 10, device, "of a device")
    table.save(tmp_path / "rig.csv", identity)
    part = make_space(replace(whole.preset, resolutions=(28,)), ("int8",))
    [found] = known_tables(new_device(), part, Images(1, 10), tmp_path).values()
    rows = part.sample(30, np.random.default_rng(0))
    same = np.stack([whole.genes(part.candidate(row)) for row in rows])
    np.testing.assert_allclose(found.predict_ms(rows), table.predict_ms(same), rtol=1e-5)
    other = make_space(replace(whole.preset, resolutions=(28,), kernels=(3, 5)), ("int8",))
    assert known_tables(new_device(), other, Images(1, 10), tmp_path) == {}
    with pytest.raises(ValueError, match=r"fashion-mbv3 is no part of fashion-mbv3: it has stem 20 "):
        found.part(whole)


def test_a_table_in_fp32_stands_for_one_in_other_floats(tmp_path: Path) -> None:
    device = SimulatedDevice("half", precisions=("bf16", "int8"))
    space = tiny_space(device.precisions)
    saved(tmp_path, "right")
    [table] = known_tables(device, space, Images(1, 3), tmp_path).values()
    assert table.space is space and table.predict_ms(space.sample(5, np.random.default_rng(0))).shape == (5,)
    assert known_tables(device, tiny_space(("fp32", "bf16")), Images(1, 3), tmp_path) == {}
