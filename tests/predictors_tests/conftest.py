"""Calibrations that tests share."""

from pathlib import Path

import pytest
from tiny_calibration import IMAGES, SPACE, build_once, run

from latency_tables import SimulatedDevice
from predictors.calibration import calibration_folder


@pytest.fixture
def built_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Build each graph once, whichever test asks."""
    monkeypatch.setattr("predictors.calibration_job.timing_model", build_once)


@pytest.fixture
def finished(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, kept: dict[str, bytes]) -> Path:
    """A finished calibration in a cache of its own, copied from one made once."""
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path))
    folder = calibration_folder(SimulatedDevice(), SPACE, **IMAGES)
    folder.mkdir(parents=True)
    for name, data in kept.items():
        (folder / name).write_bytes(data)
    return folder


@pytest.fixture(scope="session")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, bytes]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("predictors.calibration_job.timing_model", build_once)
        patch.setenv("HWNAS_CACHE", str(tmp_path_factory.mktemp("made")))
        folder = run(SimulatedDevice()).folder
        return {path.name: path.read_bytes() for path in folder.iterdir()}
