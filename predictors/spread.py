"""Where tasks run: in this process, or spread by joblib over processes, threads, or a Ray or Dask cluster.

The results come in the order of the tasks whatever runs them.
"""

import contextlib
import functools
import importlib
import importlib.util
import socket
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

from nas.errors import DeviceError, NasError, UsageError
from nas.registry import unknown_name
from predictors.workers import work_for_parent

Item = TypeVar("Item")
Result = TypeVar("Result")
BACKENDS = ("loky", "threading", "ray", "dask")
PACKAGES = {"ray": ("ray",), "dask": ("dask", "distributed")}
INSTALL = {"ray": "ray", "dask": "'dask[distributed]'"}
CONNECT_SECONDS = 20


@dataclass(frozen=True)
class Spread:
    """How many tasks run at once, and where.

    Attributes:
        jobs: Tasks at once; a Dask cluster takes as many as it has cores.
        backend: ``loky`` (processes), ``threading``, ``ray`` or ``dask``.
        cluster: Address of a Ray or Dask cluster; None starts one on this machine.
    """

    jobs: int = 1
    backend: str = "loky"
    cluster: str | None = None

    def __post_init__(self) -> None:
        if self.backend not in BACKENDS:
            raise unknown_name("backend", self.backend, BACKENDS)
        if self.cluster is not None and self.backend not in PACKAGES:
            raise UsageError(f"cluster {self.cluster} with backend {self.backend}; allowed: {' or '.join(PACKAGES)}")

    @property
    def here(self) -> bool:
        """Whether tasks run one after another in this process: one job, and no cluster named."""
        return self.jobs == 1 and self.backend not in PACKAGES

    def check(self) -> None:
        """Check that the backend is installed.

        Raises:
            UsageError: It is not; the message says what to install.
        """
        for package in PACKAGES.get(self.backend, ()):
            if importlib.util.find_spec(package) is None:
                raise UsageError(f"backend {self.backend} is not installed; pip install {INSTALL[self.backend]}")

    def run(self, make: Callable[[], Callable[[Item], Result]], items: Sequence[Item]) -> Iterator[Result]:
        """Yield what the function that ``make`` returns gives for each of ``items``, in order.

        Args:
            make: Called once in each process; it can be pickled and hashed.
            items: What the function is called with.

        Raises:
            UsageError: The backend is not installed, or the cluster has fewer processors than ``jobs``.
            DeviceError: The cluster cannot be reached.
        """
        if self.here:
            yield from map(make(), items)
            return
        self.check()
        from joblib import Parallel, delayed, parallel_config

        as_list = self.backend == "ray"  # all that its joblib backend can
        group = self.jobs if as_list else max(1, len(items))
        with _BACKENDS.get(self.backend, _plain)(self), parallel_config(backend=self.backend):
            parallel = Parallel(n_jobs=self.jobs, return_as="list" if as_list else "generator")
            try:
                for start in range(0, len(items), group):
                    yield from parallel(delayed(_in_worker)(make, item) for item in items[start : start + group])
            except Exception as error:  # Ray wraps what a task raised
                cause = getattr(error, "cause", None)
                raise cause if isinstance(cause, NasError) else error from None


@functools.lru_cache(maxsize=1)
def _made(make: Callable[[], Callable[[Any], Any]]) -> Callable[[Any], Any]:
    return make()


def _in_worker(make: Callable[[], Callable[[Any], Any]], item: Any) -> Any:
    work_for_parent()
    return _made(make)(item)


@contextlib.contextmanager
def _plain(spread: Spread) -> Iterator[None]:
    try:
        yield
    finally:
        _made.cache_clear()  # threads' is this process's


@contextlib.contextmanager
def _ray(spread: Spread) -> Iterator[None]:
    ray: Any = importlib.import_module("ray")
    importlib.import_module("ray.util.joblib").register_ray()
    local = {"num_cpus": spread.jobs, "include_dashboard": False} if spread.cluster is None else {}
    with _reaching(spread):
        ray.init(address=spread.cluster or "local", log_to_driver=False, logging_level="ERROR", **local)
    try:
        there = int(ray.cluster_resources().get("CPU", 0))
        if there < spread.jobs:
            raise UsageError(f"{spread.jobs} jobs on {spread.cluster}; allowed: up to its {there} processors")
        yield
    finally:
        ray.shutdown()


@contextlib.contextmanager
def _dask(spread: Spread) -> Iterator[None]:
    dask: Any = importlib.import_module("dask.distributed")
    with contextlib.ExitStack() as stack:
        with _reaching(spread):
            cluster: Any = spread.cluster
            if cluster is None:
                local = dask.LocalCluster(n_workers=spread.jobs, threads_per_worker=1, dashboard_address=None)
                cluster = stack.enter_context(local)
            stack.enter_context(dask.Client(cluster, timeout=CONNECT_SECONDS))
        yield


@contextlib.contextmanager
def _reaching(spread: Spread) -> Iterator[None]:
    """Turn what a package raises where it cannot reach its cluster into one line; Ray alone would try for minutes."""
    try:
        host, _, port = (spread.cluster or "").rpartition("://")[2].rpartition(":")
        if host and port.isdigit():
            socket.create_connection((host, int(port)), CONNECT_SECONDS).close()
        yield
    except (OSError, ValueError, RuntimeError) as error:
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        where = spread.cluster or "on this machine"
        raise DeviceError(f"the {spread.backend} cluster {where} cannot be reached: {reason}") from error


_BACKENDS = {"ray": _ray, "dask": _dask}
