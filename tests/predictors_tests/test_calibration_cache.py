"""The calibrations in the cache: found again, refused where they do not fit, and made by one process at a time."""

import hashlib
import json
from contextlib import AbstractContextManager, ExitStack
from pathlib import Path

import pytest
from tiny_calibration import IMAGES, SPACE, CountingDevice, run

from latency_tables import SimulatedDevice
from nas.errors import DeviceError, FileFormatError, OutputError, UsageError
from nas.files import cache_dir, sha256
from nas.lock import exclusive
from predictors import calibration_changes, load_calibration
from predictors.calibration_files import measured_so_far, read_report
from predictors.calibration_report import CalibrationReport
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


def refused(match: str) -> None:
    """Check that the calibration in the cache is refused, also by who would calibrate."""
    for use in (lambda: load_calibration(SimulatedDevice(), SPACE, **IMAGES), lambda: run(SimulatedDevice())):
        with pytest.raises(FileFormatError, match=match):
            use()


FILES = ["report.json", "predictor.json", "predictor_table.json", "predictor_table.csv"]
MEND = r"; delete its folder and run `nas calibrate` again$"


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("damage", ["cut", "absent", "other"])
def test_a_damaged_one_is_refused_by_name(name: str, damage: str, finished: Path) -> None:
    path = finished / name
    if damage == "absent":
        path.unlink()
        if name == "report.json":  # without it, the calibration is not finished: it goes on from its rows
            assert load_calibration(SimulatedDevice(), SPACE, **IMAGES) is None
            return
    else:
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] if damage == "cut" else b"{}\n")
    refused(rf"{name}: .*{MEND}")


@pytest.mark.parametrize("name", FILES)
def test_a_changed_digit_is_refused_with_both_hashes(name: str, finished: Path) -> None:
    path = finished / name
    text = path.read_text()
    place = max(at for at, character in enumerate(text) if character.isdigit())
    path.write_text(f"{text[:place]}{(int(text[place]) + 1) % 10}{text[place + 1 :]}")
    refused(rf"{name}: its SHA-256 is \w{{64}}, not the recorded \w{{64}}{MEND}")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"reference_ms": -1}, "reference_ms is -1; allowed: above 0"),
        ({"reference_ms": "x"}, "reference_ms is 'x'; allowed: a number"),
        ({"seconds": None}, "seconds is None; allowed: a number"),
        ({"seconds": True}, "seconds is True; allowed: a number"),
        ({"fitted": 10**400}, "fitted is 1000.*; allowed: a whole number"),
        ({"noisy": 10**400}, "noisy is 1000.*; allowed: a number"),
        ({"simulated": 1}, "simulated is 1; allowed: true or false"),
        ({"space": 7}, "space is 7; allowed: text"),
        ({"random": 5}, "random is 5; allowed: a table"),
        ({"searched": {}}, "networks is None; allowed: a whole number"),
    ],
)
def test_a_report_of_wrong_types_is_refused(finished: Path, change: dict[str, object], message: str) -> None:
    report = json.loads((finished / "report.json").read_text())["report"]
    with pytest.raises(FileFormatError, match=f"^here: {message}$"):
        CalibrationReport.from_dict({**report, **change}, "here")


@pytest.mark.parametrize("content", [{}, {"files": 5, "report": {}}, {"files": {}, "report": 5}])
def test_a_report_without_hashes_is_refused(finished: Path, content: dict[str, object]) -> None:
    path = finished / "report.json"
    head = {name: value for name, value in json.loads(path.read_text()).items() if name.startswith("schema")}
    path.write_text(json.dumps({**head, **content}))
    refused(rf"report\.json: it does not hold a report and the hashes of predictor\.json, .*{MEND}")


def test_one_that_is_measured_anew_stays_until_the_new_one_is_whole(finished: Path) -> None:
    before = {path.name: path.read_bytes() for path in finished.iterdir()}
    assert measured_so_far(finished) is None
    with pytest.raises(KeyboardInterrupt):
        run(CountingDevice(stop_after=1), fresh=True)
    assert {path.name: path.read_bytes() for path in finished.iterdir()} == before
    assert run(SimulatedDevice()).reused
    kept = measured_so_far(finished)
    assert kept is not None and kept.exists() and kept.parent != finished
    with pytest.raises(UsageError, match=r"calibration of inf seconds; allowed: 0 to 1e\+06"):
        run(SimulatedDevice(), fresh=True, seconds=float("inf"))
    (finished / "predictor.json").unlink()  # also one that is damaged
    found = run(SimulatedDevice(), fresh=True)
    assert not found.reused and found.folder == finished and run(SimulatedDevice()).reused
    assert [path.name for path in finished.parent.iterdir()] == [finished.name]


def test_one_that_was_killed_between_the_old_and_the_new_is_there(finished: Path) -> None:
    finished.rename(finished.with_name(f".{finished.name}.new"))
    assert run(SimulatedDevice()).reused
    assert [path.name for path in finished.parent.iterdir()] == [finished.name]


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
    content = json.loads(path.read_text())
    inner = content["report"] if name == "report.json" else content
    inner.update(change)
    path.write_text(json.dumps(content))
    seal(finished)
    expected = rf"predictor_table\.json: not of this device and these images \(.*{message}.*\); delete its folder"
    with pytest.raises(FileFormatError, match=expected):
        load_calibration(SimulatedDevice(), SPACE, **IMAGES)


def seal(folder: Path) -> None:
    """Record the hashes of a calibration's files, as its writer does."""
    path = folder / "report.json"
    content = json.loads(path.read_text())
    content["files"] = {name: sha256(folder / name) for name in FILES[1:]}
    sealed = {name: content[name] for name in ("files", "report")}
    digest = hashlib.sha256(json.dumps(sealed, sort_keys=True).encode()).hexdigest()
    path.write_text(json.dumps({**content, "sha256": digest}))


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("genes", "0", "has not the 21 genes of a network of space 'tiny'"),
        ("genes", "99" + " 0" * 20, "has not the 21 genes"),
        ("genes", "300" + " 0" * 20, "has not the 21 genes"),
        ("genes", "-1" + " 0" * 20, "has not the 21 genes"),
        ("role", "rival", "has the role 'rival'; allowed: spread, proposed, random, searched, repeat"),
        ("role", "repeat", "repeats a network that was not measured before as random or searched"),
        ("latency_ms", "1e300", r"does not fit \(latency_ms is 1e\+300; allowed: above 0, at most 1e\+07\)"),
        ("latency_ms", "nan", r"does not fit \(latency_ms is nan; allowed: above 0"),
        ("rounds", "0", r"does not fit \(0 rounds; allowed: 1 or more\)"),
        ("quality", "fine", r"does not fit \(quality is 'fine'; allowed: ok, noisy\)"),
    ],
)
def test_rows_that_no_calibration_has_measured_are_refused(
    finished: Path, field: str, value: str, message: str
) -> None:
    (finished / "report.json").unlink()
    rows = finished / "networks.csv"
    header, first, *_ = rows.read_text().splitlines()
    fields = {**dict(zip(header.split(","), first.split(","), strict=True)), field: value}
    rows.write_text(f"{header}\n{','.join(fields.values())}\n")
    with pytest.raises(FileFormatError, match=rf"networks\.csv: line 2 {message}.*; delete its folder and run"):
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


def test_one_that_another_took_the_place_of_while_it_was_read_is_read_again(
    finished: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reads: list[Path] = []

    def replaced_meanwhile(folder: Path, *schema: object) -> dict[str, object]:
        reads.append(folder)
        if len(reads) == 1:
            (folder / "another").write_bytes((folder / "report.json").read_bytes())
            (folder / "another").rename(folder / "report.json")
            raise FileFormatError("half of the one and half of the other")
        return read_report(folder, *schema)  # type: ignore[arg-type]

    monkeypatch.setattr("predictors.calibration.read_report", replaced_meanwhile)
    assert load_calibration(SimulatedDevice(), SPACE, **IMAGES) is not None
    assert reads == [finished, finished]
