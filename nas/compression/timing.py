"""What quantization asks of whoever times graphs and listens to its progress; every device answers."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Protocol

from nas.compression.engine import Engine
from nas.errors import DeviceError


class Timing(Protocol):
    """A measured latency; ``latency_tables.Measurement`` is one."""

    @property
    def latency_ms(self) -> float:
        """Milliseconds."""

    @property
    def ci_low_ms(self) -> float:
        """Lower end of the 95 % interval."""

    @property
    def ci_high_ms(self) -> float:
        """Upper end."""

    @property
    def quality(self) -> str:
        """Whether it can be believed."""


class TimedEngine(Engine, Protocol):
    """An engine that says what it executes; every device is one."""

    @property
    def precisions(self) -> tuple[str, ...]:
        """What it executes."""


Measure = Callable[[Mapping[str, bytes]], Mapping[str, Timing]]
"""Times serialised graphs in one interleaved run."""


@dataclass(frozen=True)
class Reports:
    """Listeners: to (stage, done, total), and to lines worth showing."""

    stage: Callable[[str, int, int], None] = lambda stage, done, total: None
    note: Callable[[str], None] = lambda line: None

    def part(self, stage: str) -> Callable[[int, int], None]:
        """Return a callable (done, total) that reports on one stage."""
        return lambda done, total: self.stage(stage, done, total)


SILENT = Reports()
"""Nobody listens."""


def check_menu(device: TimedEngine, name: str) -> None:
    """Check that a device leaves something to choose.

    Raises:
        DeviceError: It does not execute int8 beside a float precision.
    """
    if "int8" not in device.precisions or len(device.precisions) < 2:
        raise DeviceError(
            f"device {name!r} executes {', '.join(device.precisions)}; allowed: one with int8 beside a float precision"
        )
