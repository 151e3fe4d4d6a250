"""What a calibration tells of the networks that judge it: by stratum, beside plainer predictors, and in a picture."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_calibration import IMAGES, SPACE

from latency_tables import SimulatedDevice
from nas.errors import FileFormatError
from predictors import load_calibration
from predictors.calibration_picture import draw_calibration
from predictors.calibration_report import CalibrationReport
from predictors.held_out import (
    MACS,
    TABLE,
    JudgedNetwork,
    errors_by_stratum,
    errors_of_plainer,
    held_out_table,
)


def network(blocks: int, resolution: int, int8: float, error: float = 0.0) -> JudgedNetwork:
    """Return a network of 2 ms that was predicted ``error`` too high, by its table alone twice that, by MACs 1 ms."""
    predicted = 2 * (1 + error)
    return JudgedNetwork("random", blocks, resolution, int8, 2.0, predicted, 1.9, 2.1, 2 * (1 + 2 * error), 1.0)


def report() -> CalibrationReport:
    found = load_calibration(SimulatedDevice(), SPACE, **IMAGES)
    assert found is not None
    return found.report


def test_networks_that_are_alike_are_judged_together() -> None:
    networks = [
        *(network(blocks, 20, 0.0, 0.01) for blocks in (8, 9)),
        *(network(blocks, 24, 0.5, 0.03) for blocks in (12, 13)),
        *(network(blocks, 28, 0.6, -0.05) for blocks in (15, 16)),
        network(16, 28, 1.0, -0.05),
    ]
    strata = errors_by_stratum(networks)
    assert {kind: list(groups) for kind, groups in strata.items()} == {
        "depth": ["8 to 9 blocks", "12 to 13 blocks", "15 to 16 blocks"],
        "resolution": ["20 px", "24 px", "28 px"],
        "int8 share": ["none", "to half", "more", "all"],
    }
    for groups in strata.values():
        assert sum(one.networks for one in groups.values()) == len(networks)
    assert strata["resolution"]["24 px"].mean == pytest.approx(0.03)
    assert strata["depth"]["15 to 16 blocks"].bias == pytest.approx(-0.05)
    assert strata["int8 share"]["none"].within_10 == 1


def test_plainer_predictors_are_judged_on_the_same_networks() -> None:
    networks = [network(8, 20, 0.0, 0.03), network(9, 24, 0.5, -0.03)]
    plainer = errors_of_plainer(networks)
    assert plainer[TABLE].mean == pytest.approx(0.06) and plainer[MACS].mean == pytest.approx(0.5)
    assert plainer[MACS].bias == pytest.approx(-0.5) and plainer[MACS].spearman == 0


def test_the_table_has_a_line_for_each_of_them_and_for_the_noise() -> None:
    networks = [network(8, 20, 0.0, 0.03), network(9, 24, 1.0, -0.03)]
    lines = held_out_table(networks, 0.012, 5)
    names = [line.split("  ")[0] for line in lines[1:]]
    assert names == [
        *("all", "depth: 8 blocks", "depth: 9 blocks", "resolution: 20 px", "resolution: 24 px"),
        *("int8 share: none", "int8 share: all", TABLE, MACS, "noise of a measurement"),
    ]
    assert lines[1].split()[1:4] == ["2", "3.0%", "3.0%"] and lines[-1].split()[-2:] == ["5", "1.2%"]


def test_a_calibration_knows_its_networks_and_multiply_adds_say_less(finished: Path) -> None:
    found = report()
    assert [one.role for one in found.held_out] == ["random"] * 6 + ["searched"] * 6
    assert {one.resolution for one in found.held_out} <= {12, 16}
    assert all(one.low_ms < one.predicted_ms < one.high_ms for one in found.held_out)
    assert np.mean([abs(one.predicted_ms / one.measured_ms - 1) for one in found.held_out]) == pytest.approx(
        (found.random.mean + found.searched.mean) / 2
    )
    plainer = errors_of_plainer(found.held_out)
    assert plainer[MACS].mean > 2 * found.random.mean
    content = json.loads((finished / "report.json").read_text())["report"]
    assert content["baselines"][MACS]["mean"] == plainer[MACS].mean and len(content["held_out"]) == 12


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"held_out": []}, r"held_out is \[\]; allowed: a list of networks"),
        ({"held_out": {}}, r"held_out is \{\}; allowed: a list of networks"),
        ({"held_out": [3]}, "3 among its networks; allowed: tables"),
        ({"held_out": [{"role": "random"}]}, "blocks is None; allowed: a whole number"),
    ],
)
def test_networks_of_wrong_types_are_refused(finished: Path, change: dict[str, object], message: str) -> None:
    content = json.loads((finished / "report.json").read_text())["report"]
    with pytest.raises(FileFormatError, match=f"^here: {message}$"):
        CalibrationReport.from_dict({**content, **change}, "here")


def test_the_picture_has_every_network_every_stratum_and_the_noise(finished: Path) -> None:
    found = report()
    points, bars = draw_calibration(found).axes
    assert sum(len(line.get_xdata()) for line in points.lines if line.get_marker() == "o") == len(found.held_out)
    names = [label.get_text() for label in bars.get_yticklabels()]
    strata = sum(len(groups) for groups in errors_by_stratum(found.held_out).values())
    assert len(bars.patches) == len(names) == 1 + strata + 2
    assert names[-1] == "all held out" and names[:2] == [MACS, TABLE]
    assert f"noise of a measurement, {found.repeatability:.1%}" in bars.get_legend().get_texts()[0].get_text()
    assert "simulated, nothing was measured" in points.figure.get_suptitle()


def test_a_picture_is_drawn_once_and_anew_with_its_calibration(finished: Path) -> None:
    found = load_calibration(SimulatedDevice(), SPACE, **IMAGES)
    assert found is not None
    path = found.picture()
    assert path == finished / "calibration.png"
    path.write_bytes(b"kept")
    assert found.picture().read_bytes() == b"kept"
    other = replace(found, folder=finished.with_name("elsewhere"))
    assert other.picture().read_bytes()[:4] == b"\x89PNG"
