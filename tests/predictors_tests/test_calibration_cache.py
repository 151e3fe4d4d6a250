"""The calibrations in the cache: found again, refused where they do not fit, and made by one process at a time."""

import json
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from tiny_calibration import IMAGES, SPACE, CountingDevice, run

from latency_tables import SimulatedDevice
from nas.errors import DeviceError, FileFormatError, OutputError
from nas.files import cache_dir
from nas.lock import exclusive
from predictors import calibration_changes, load_calibration
from search_spaces import MBConvSpace

pytestmark = pytest.mark.usefixtures("built_once")


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
    with pytest.raises(KeyboardInterrupt):  # it begins to measure
        run(CountingDevice(stop_after=0), fresh=True)
    assert load_calibration(device, SPACE, **IMAGES) is None


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
