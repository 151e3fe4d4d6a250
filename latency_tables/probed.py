"""A device whose precisions probes find out, described by its machine, its runtime and the options that are pinned."""

import hashlib
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from latency_tables.device import Device
from latency_tables.fingerprint import describe_cpu
from latency_tables.protocol import Runner
from latency_tables.reference_net import REFERENCE_VERSION, reference_model
from nas.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from nas.compression import Session


class ProbedDevice(Device):
    """A runtime, batch 1. It adds its sessions and runners, what it counts as integer kernels, and what it pins.

    Args:
        name: What ``--device`` calls it.
        package: The runtime.
        version: The runtime's version.
        threads: Threads that an inference may use.
        precisions: The menu, a part of what is executed; None for all of that.
    """

    def __init__(
        self, name: str, package: str, version: str, *, threads: int = 1, precisions: Sequence[str] | None = None
    ) -> None:
        self.name, self.threads, self._asked = name, threads, precisions
        self._library, self._version = package, version
        self.runtime = f"{package} {version}"
        self._reference = reference_model().SerializeToString()

    @abstractmethod
    def session(self, model: bytes) -> "Session":
        """Open a session as it is timed."""

    @abstractmethod
    def integer_kernels(self, model: bytes) -> Mapping[str, int]: ...

    @abstractmethod
    def options(self) -> dict[str, Any]:
        """Return what is pinned or was found of the runtime, as JSON."""

    def machine(self) -> dict[str, Any]:
        """Return what ``describe_cpu`` says of the machine that executes."""
        return describe_cpu()

    @cached_property
    def precisions(self) -> tuple[str, ...]:
        executed = (self.executed_float, *(["int8"] if self._form else []))
        if self._asked is None:
            return executed
        absent = [precision for precision in self._asked if precision not in executed]
        if absent:
            raise UsageError(
                f"device {self.name!r} does not execute {', '.join(absent)} here; allowed: {', '.join(executed)}"
            )
        return tuple(precision for precision in executed if precision in self._asked)

    @cached_property
    def executed_float(self) -> str:
        """The precision in which graphs in floats are computed."""
        from latency_tables.probes import executed_float

        found = executed_float(self.session)
        if found is None:
            raise DeviceError(
                f"device {self.name!r}: {self.runtime} computes convolutions or products of floats wrongly here"
            )
        return found

    @cached_property
    def _form(self) -> str | None:
        from latency_tables.probes import int8_form

        return int8_form(self.session, self.integer_kernels, str(self.machine()["machine"]))

    @property
    def quantization(self) -> str:
        return self._form or super().quantization

    def describe(self) -> dict[str, Any]:
        return {
            **self.machine(),
            "runtime": self._library,
            "runtime_version": self._version,
            **self.options(),
            "threads": self.threads,
            "batch": 1,
            "precisions": list(self.precisions),
            "executed_float": self.executed_float,
            "quantization": self._form,
            "reference_version": REFERENCE_VERSION,
            "reference_sha256": hashlib.sha256(self._reference).hexdigest()[:16],
            "simulated": False,
        }

    def reference(self) -> Runner:
        return self.load(self._reference)
