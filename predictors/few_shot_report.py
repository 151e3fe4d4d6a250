"""What a calibration from a few networks knows of itself."""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latency_tables.measurement import Floats
from latency_tables.table import MEND
from nas.errors import FileFormatError
from predictors.ranks import kendall, spearman

SHOWN = 4  # weights of a mixture that a line names


@dataclass(frozen=True)
class LeftOutErrors:
    """Errors on networks left out, fractions of the measured latency.

    How often the interval covers them is not among them: it is as wide as these very errors.

    Attributes:
        mean: Mean absolute error.
        median: Median absolute error.
        worst: Largest absolute error.
        spearman: Rank correlation.
        kendall: Likewise, by pairs in the right order.
    """

    mean: float
    median: float
    worst: float
    spearman: float
    kendall: float

    @staticmethod
    def of(predicted_ms: Floats, measured_ms: Floats) -> "LeftOutErrors":
        """Compare predicted with measured milliseconds, ``(n,)`` each."""
        size = np.abs(predicted_ms / measured_ms - 1)
        ranks = spearman(predicted_ms, measured_ms), kendall(predicted_ms, measured_ms)
        return LeftOutErrors(float(size.mean()), float(np.median(size)), float(size.max()), *ranks)

    def line(self) -> str:
        """Return the figures on one line."""
        return (
            f"left-out error, choice included: median {self.median:.1%}, mean {self.mean:.1%}, worst {self.worst:.1%}; "
            f"Spearman {self.spearman:.3f}, Kendall {self.kendall:.3f}"
        )


@dataclass(frozen=True)
class FewShotReport:
    """Errors of predictions of networks left out, and what they were predicted from.

    Attributes:
        device: Name of the device.
        runtime: Its runtime and version.
        fingerprint: Of the device.
        simulated: True where nothing was measured.
        space: Name of the space.
        networks: How many were measured.
        noisy: Share of them whose measurement is ``noisy``, though it was repeated.
        known: The other devices whose tables were at hand.
        chosen: The candidate that was taken; ``few_shot`` says what there is.
        weights: Of its columns, those above 0.
        exponent: Of their sum.
        errors: Mean absolute log error on networks left out one at a time, by candidate; the least was chosen by it.
        left_out: Errors on networks that were left out of the choice too.
        interval: Relative half-width of the interval, made of those; ``few_shot`` says what it promises.
        reference_ms: What the reference net took; latencies are corrected to it.
        seconds: What it took.
    """

    device: str
    runtime: str
    fingerprint: str
    simulated: bool
    space: str
    networks: int
    noisy: float
    known: tuple[str, ...]
    chosen: str
    weights: Mapping[str, float]
    exponent: float
    errors: Mapping[str, float]
    left_out: LeftOutErrors
    interval: float
    reference_ms: float
    seconds: float

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        how = "SIMULATED, nothing was measured" if self.simulated else "measured"
        heaviest = sorted(self.weights, key=self.weights.__getitem__, reverse=True)[:SHOWN]
        power = f", to the power of {self.exponent:.3g}" if self.exponent != 1 else ""
        weights = ", ".join(f"{self.weights[name]:.3g} x {name}" for name in heaviest)
        more = f" and {len(self.weights) - SHOWN} more" if len(self.weights) > SHOWN else ""
        return [
            f"device {self.device}, {self.runtime}, {self.fingerprint}, {how}; space {self.space}",
            f"few-shot: {self.networks} networks in {self.seconds:.0f} s, {self.noisy:.0%} of them noisy; prediction "
            f"interval ±{self.interval:.1%}, as wide as 90 % of the errors on networks left out; "
            f"known devices: {', '.join(self.known) or 'none, so a table of its own is all there is'}",
            f"chosen by networks left out: {self.chosen} ({weights}{more}{power}); mean error of each: "
            + ", ".join(f"{name} {error:.1%}" for name, error in self.errors.items()),
            self.left_out.line(),
            f"without --few the device is calibrated whole: nas calibrate --device {self.device}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any], source: str) -> "FewShotReport":
        """Return the report that ``to_dict`` wrote.

        Raises:
            FileFormatError: An entry is missing or of another type; the message begins with ``source``.
        """
        left_out: Any = content.get("left_out")
        _check(content, {**dict.fromkeys(NUMBERS, _is_number), **OTHERS}, source)
        _check(left_out, dict.fromkeys(LeftOutErrors.__dataclass_fields__, _is_number), f"{source}: left_out")
        entries = {name: content[name] for name in FewShotReport.__dataclass_fields__}
        errors = LeftOutErrors(**{name: left_out[name] for name in LeftOutErrors.__dataclass_fields__})
        return FewShotReport(**{**entries, "known": tuple(entries["known"]), "left_out": errors})


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _are_numbers(value: Any) -> bool:
    return isinstance(value, dict) and all(map(_is_number, value.values()))


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


NUMBERS = ("noisy", "exponent", "interval", "reference_ms", "seconds")
OTHERS: dict[str, Callable[[Any], bool]] = {
    **dict.fromkeys(("device", "runtime", "fingerprint", "space", "chosen"), _is_text),
    **dict.fromkeys(("weights", "errors"), _are_numbers),
    "simulated": lambda value: isinstance(value, bool),
    "networks": lambda value: isinstance(value, int) and not isinstance(value, bool),
    "known": lambda value: isinstance(value, list) and all(map(_is_text, value)),
}


def _check(content: Any, wanted: Mapping[str, Callable[[Any], bool]], source: str) -> None:
    entries = content if isinstance(content, Mapping) else {}
    for name, right in wanted.items():
        if not right(entries.get(name)):
            raise FileFormatError(f"{source}: {name} is {entries.get(name)!r:.60}; {MEND}")
