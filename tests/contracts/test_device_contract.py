"""What every device owes its user. A new device is one more line in DEVICES."""

import json
import os
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from browser_here import needs_browser, shared_browser
from ssh_server import shared_server
from tiny_space import tiny_space

from latency_tables import FULL, Device, Measurement, SimulatedDevice, get_device, list_devices
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.protocol import Runner
from nas.compression import FORMS, HOST
from nas.errors import DeviceError
from nas.files import cache_dir
from nas.lock import exclusive
from search_spaces import FLOATS


def present(name: str) -> Callable[[], Device]:
    """Return what makes the device of that name, or skips the test where the device is not here."""

    def make() -> Device:
        try:
            return get_device(name)
        except DeviceError as error:
            pytest.skip(str(error))

    return make


DEVICES: dict[str, Callable[[], Device]] = {
    "browser": shared_browser,
    "cpu": present("cpu"),
    "cpu-2t": present("cpu-2t"),
    "openvino": present("openvino"),
    "openvino-bf16": present("openvino-bf16"),
    "torch": present("torch"),
    "torch-cuda": present("torch-cuda"),
    "simulated": SimulatedDevice,
    "bitfusion": lambda: get_device("bitfusion"),
    "ssh": lambda: shared_server().device(),
}
MODELLED = ("simulated", "bitfusion")  # computed, never shown as measured
INTEGERS = ("bitfusion",)  # no floats: their menus are not of precisions that graphs are written in
WIDEST = {"bitfusion": "w8a8", "openvino-bf16": "bf16"}  # else fp32
TOLERANCE = {"fp32": {"rtol": 1e-4, "atol": 1e-5}, "bf16": {"rtol": 0.02, "atol": 0.02}}

SPACE = tiny_space()
QUICK = replace(FULL, min_rounds=3, max_rounds=3, warm_seconds=0.02, settle_seconds=0.05, value_seconds=0.005)

NEEDS = {"browser": needs_browser}  # what is skipped where it cannot run
every_device = pytest.mark.parametrize("name", [pytest.param(name, marks=NEEDS.get(name, ())) for name in DEVICES])


@pytest.fixture(scope="module")
def models() -> dict[str, bytes]:
    rows = {"large": SPACE.largest(), "small": SPACE.smallest()}
    return {name: timing_model(SPACE, row, Images(1, 3)) for name, row in rows.items()}


def test_every_registered_device_is_held_to_the_contract() -> None:
    assert set(list_devices()) <= set(DEVICES)
    assert all(summary and "\n" not in summary for summary in list_devices().values())


@every_device
def test_it_has_a_name_a_runtime_and_a_menu_that_begins_with_the_widest(name: str) -> None:
    device = DEVICES[name]()
    assert device.name == name and device.runtime
    assert device.precisions[0] == WIDEST.get(name, "fp32")
    assert device.executed_float == ("fp32" if name in INTEGERS else device.precisions[0])
    assert len(set(device.precisions)) == len(device.precisions)
    assert device.simulated == (name in MODELLED)


@every_device
def test_its_description_is_json_and_its_fingerprint_stable(name: str) -> None:
    first, second = DEVICES[name](), DEVICES[name]()
    assert json.loads(json.dumps(first.describe())) == second.describe()
    assert first.fingerprint == second.fingerprint and len(first.fingerprint) == 16
    assert {"runtime", "runtime_version", "threads", "batch", "precisions"} <= set(first.describe())
    assert first.describe()["simulated"] == first.simulated


@every_device
def test_a_larger_network_takes_longer(name: str, models: dict[str, bytes]) -> None:
    found = DEVICES[name]().measure_many(models, plan=QUICK)
    assert list(found) == list(models)
    assert found["large"].latency_ms > found["small"].latency_ms > 0
    for measurement in found.values():
        assert measurement.ci_low_ms <= measurement.latency_ms <= measurement.ci_high_ms
        assert measurement.quality in ("ok", "noisy") and measurement.reference_ms > 0


class CountingRunner:
    """Counts the inferences of the runner within."""

    def __init__(self, runner: Runner) -> None:
        self.runner, self.inferences = runner, 0

    def run(self, count: int) -> float:
        self.inferences += count
        return self.runner.run(count)


@every_device
def test_it_measures_what_its_menu_lists(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    if name in INTEGERS:
        pytest.skip(f"no graph is written in the precisions of {name!r} yet")
    device, runners = DEVICES[name](), {}
    space = tiny_space(device.precisions)
    models = {precision: timing_model(space, space.largest(precision), Images(1, 3)) for precision in device.precisions}
    for precision, model in models.items():
        kinds = {node.op_type for node in onnx.load_from_string(model).graph.node}
        assert ("QuantizeLinear" in kinds) == (precision not in FLOATS)

    def load(model: bytes) -> Runner:
        return runners.setdefault(model, CountingRunner(type(device).load(device, model)))

    monkeypatch.setattr(device, "load", load)
    found = device.measure_many(models, plan=QUICK)
    assert list(found) == list(device.precisions)
    for precision, measurement in found.items():
        assert runners[models[precision]].inferences >= QUICK.warm_runs + QUICK.min_rounds
        assert 0 < measurement.values <= QUICK.min_rounds * QUICK.values
        assert 0 < measurement.min_ms <= measurement.latency_ms < float("inf")


@every_device
def test_who_measures_has_it_alone_may_nest_and_leaves_it_free(name: str, models: dict[str, bytes]) -> None:
    device = DEVICES[name]()
    device.wait_seconds = 0.0
    path, notes = cache_dir() / f"{device.occupies or device.name}.lock", []
    with exclusive(path, "elsewhere", DeviceError), pytest.raises(DeviceError, match="is being measured by process"):
        device.measure_many(models, plan=QUICK, note=notes.append)
    with device.exclusively():
        taken = pytest.raises(DeviceError, match=rf"elsewhere by process {os.getpid()}")
        assert list(device.measure_many(models, plan=QUICK)) == list(models)
        with taken, exclusive(path, "elsewhere", DeviceError):
            pass
    with exclusive(path, "elsewhere", DeviceError):
        pass
    assert notes == []  # refused at once, there was nothing to wait for


@every_device
def test_one_file_is_measured_by_the_full_protocol(
    name: str, models: dict[str, bytes], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, device = tmp_path / "model.onnx", DEVICES[name]()
    path.write_bytes(models["small"])
    asked = []

    def watched(files: dict[str, bytes], **options: object) -> dict[str, Measurement]:
        asked.append(options.get("plan", FULL))
        return type(device).measure_many(device, files, plan=QUICK)

    monkeypatch.setattr(device, "measure_many", watched)
    assert device.measure(path).latency_ms > 0 and asked == [FULL]


@every_device
def test_nonsense_is_refused_in_one_line(name: str) -> None:
    with pytest.raises(DeviceError, match=r"^model: [^\n]+$"):
        DEVICES[name]().load(b"no model at all")


@every_device
def test_its_session_computes_what_the_graph_says_for_any_number_of_images(name: str, models: dict[str, bytes]) -> None:
    device, images = DEVICES[name](), np.random.default_rng(0).standard_normal((3, 1, 12, 12), dtype=np.float32)
    [found] = device.session(models["small"]).run(None, {"input": images})
    [expected] = HOST.session(models["small"]).run(None, {"input": images})
    np.testing.assert_allclose(found, expected, **TOLERANCE[device.executed_float])


@every_device
def test_int8_units_run_in_integers_and_only_they(name: str) -> None:
    if name in INTEGERS:
        pytest.skip(f"no graph is written in the precisions of {name!r} yet")
    device = DEVICES[name]()
    assert device.quantization in FORMS
    space = tiny_space(device.precisions)
    for precision in device.precisions:
        model = timing_model(space, space.largest(precision), Images(1, 3), device.quantization)
        convs, products = (2 + 3 * 4, 1) if precision == "int8" else (0, 0)
        assert Counter(device.integer_kernels(model)) == Counter(Conv=convs, Gemm=products)


@every_device
def test_time_does_not_run_backwards(name: str, models: dict[str, bytes]) -> None:
    device = DEVICES[name]()
    runner, before = device.load(models["small"]), device.clock()
    assert runner.run(3) > 0
    assert device.clock() > before
