"""The runtimes of this machine: they are here or can be installed, share its cores, and are never timed at once."""

import importlib
from collections.abc import Sequence

from latency_tables.fingerprint import usable_cores
from latency_tables.probed import ProbedDevice
from nas.errors import DeviceError

THIS_MACHINE = "this-machine"


class LocalDevice(ProbedDevice):
    """A runtime on this machine.

    Args:
        name: What ``--device`` calls it.
        threads: Threads that an inference may use.
        precisions: The menu, a part of what is executed; None for all of that.

    Attributes:
        package: What the runtime is imported and installed as.

    Raises:
        DeviceError: The runtime is not installed, or this process may use fewer cores than ``threads``.
    """

    package: str
    occupies = THIS_MACHINE

    def __init__(self, name: str, *, threads: int = 1, precisions: Sequence[str] | None = None) -> None:
        cores = usable_cores()
        if not 1 <= threads <= cores:
            raise DeviceError(f"device {name!r} asks for {threads} threads; allowed on this machine: 1 to {cores}")
        version = installed_version(name, self.package)
        super().__init__(name, self.package, version, threads=threads, precisions=precisions)


def installed_version(name: str, package: str) -> str:
    """Import a runtime and return its version.

    Raises:
        DeviceError: It is not installed; the message says which line installs it.
    """
    try:
        return str(importlib.import_module(package).__version__)
    except ImportError as error:
        why = f"device {name!r} needs {package}, which cannot be imported here ({error})"
        raise DeviceError(f"{why}; install it: pip install {package}") from error


def refused(what: str, runtime: str, verb: str, error: Exception) -> DeviceError:
    """Return the error, of one line, for a model that a runtime cannot load or run."""
    lines = str(error).strip().splitlines()
    return DeviceError(f"{what}: {runtime} cannot {verb} it: {lines[0] if lines else type(error).__name__}")
