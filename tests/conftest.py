"""What every test may rely on: one thread, a cache and a data setting of its own, repeatable examples."""

import os
from pathlib import Path

import hypothesis
import pytest

for _variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")  # read once, when the libraries are first imported
hypothesis.settings.register_profile("repeatable", deadline=None, derandomize=True, max_examples=50, database=None)
hypothesis.settings.load_profile("repeatable")


@pytest.fixture(autouse=True)
def own_environment(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the user's calibrations, data and colours out of the tests."""
    monkeypatch.setenv("HWNAS_CACHE", str(tmp_path_factory.mktemp("cache")))
    machine = tmp_path_factory.mktemp("machine")  # of its own for each test: several run at once
    monkeypatch.setattr("latency_tables.device.machine_lock", lambda: machine)
    monkeypatch.delenv("HWNAS_DATA", raising=False)
    monkeypatch.setenv("MPLBACKEND", "agg")
    monkeypatch.setenv("COLUMNS", "160")


@pytest.fixture(scope="session")
def repository() -> Path:
    """Return the root of the working tree."""
    return Path(__file__).resolve().parent.parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip what needs a GPU where there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="no CUDA device"))
