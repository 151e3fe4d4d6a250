"""Wherever tasks run, their results come in order; what cannot run is said in one line."""

import functools
import importlib.util
import math
from pathlib import Path

import pytest

import nas.files
from nas.errors import DeviceError, FileFormatError, UsageError
from predictors.spread import Spread

FACTORIAL = functools.partial(getattr, math, "factorial")  # what any process can import


def importorskip(backend: str) -> None:
    """Skip the test where the backend's package is not installed."""
    pytest.importorskip({"dask": "distributed"}.get(backend, backend), reason=f"pip install 'hwnas[{backend}]'")


@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_one_job_runs_in_this_process(backend: str) -> None:
    asked: list[int] = []
    assert list(Spread(1, backend).run(lambda: asked.append, range(3))) == [None] * 3
    assert asked == [0, 1, 2]


@pytest.mark.parametrize("jobs", [2, 3])
@pytest.mark.parametrize("backend", ["loky", "threading"])
def test_results_come_in_order(jobs: int, backend: str) -> None:
    assert list(Spread(jobs, backend).run(FACTORIAL, range(7))) == [1, 1, 2, 6, 24, 120, 720]


@pytest.mark.slow
@pytest.mark.parametrize("jobs", [1, 2])
@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_results_of_a_cluster_come_in_order(backend: str, jobs: int) -> None:
    importorskip(backend)
    assert list(Spread(jobs, backend).run(FACTORIAL, range(7))) == [1, 1, 2, 6, 24, 120, 720]


@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_one_job_of_a_cluster_does_not_run_in_this_process(backend: str) -> None:
    assert not Spread(1, backend).here


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_what_a_task_raises_is_one_line(backend: str, tmp_path: Path) -> None:
    if backend != "loky":
        importorskip(backend)
    with pytest.raises(FileFormatError) as raised:
        list(Spread(2, backend).run(functools.partial(getattr, nas.files, "read_bytes"), [tmp_path / "none"] * 2))
    assert str(raised.value).startswith(str(tmp_path / "none")) and len(str(raised.value)) < 300


@pytest.mark.parametrize(("backend", "package"), [("ray", "ray"), ("dask", "'dask\\[distributed\\]'")])
def test_a_backend_that_is_not_installed_says_what_to_install(
    backend: str, package: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=f"^backend {backend} is not installed; pip install {package}$"):
        list(Spread(2, backend).run(FACTORIAL, range(3)))


def test_wrong_names_and_combinations_are_refused() -> None:
    with pytest.raises(UsageError, match="unknown backend 'rays'; there is: dask, loky, ray, threading"):
        Spread(2, "rays")
    with pytest.raises(UsageError, match="cluster host:1 with backend loky; allowed: ray or dask"):
        Spread(2, "loky", "host:1")


@pytest.mark.parametrize(("backend", "cluster"), [("ray", "ray://127.0.0.1:9"), ("dask", "tcp://127.0.0.1:9")])
def test_a_cluster_that_cannot_be_reached_is_said_in_one_line(backend: str, cluster: str) -> None:
    importorskip(backend)
    with pytest.raises(DeviceError, match=f"the {backend} cluster {cluster} cannot be reached: .+") as raised:
        list(Spread(2, backend, cluster).run(FACTORIAL, range(3)))
    assert len(str(raised.value)) < 300
