"""What a calibration from a few networks knows of itself."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from nas.errors import FileFormatError
from predictors.calibration_report import LatencyErrors

SHOWN = 4  # weights of a mixture that a line names


@dataclass(frozen=True)
class FewShotReport:
    """Errors of predictions of networks left out one at a time, and what they were predicted from.

    Attributes:
        device: Name of the device.
        runtime: Its runtime and version.
        fingerprint: Of the device.
        simulated: True where nothing was measured.
        space: Name of the space.
        networks: How many were measured.
        known: The other devices whose tables were at hand.
        chosen: The candidate that was taken; ``few_shot`` says what there is.
        weights: Of its columns, those above 0.
        exponent: Of their sum.
        errors: Mean absolute log error on networks left out, by candidate.
        left_out: Of the chosen one.
        interval: Relative half-width of the 90 % interval.
        reference_ms: What the reference net took; latencies are corrected to it.
        seconds: What it took.
    """

    device: str
    runtime: str
    fingerprint: str
    simulated: bool
    space: str
    networks: int
    known: tuple[str, ...]
    chosen: str
    weights: Mapping[str, float]
    exponent: float
    errors: Mapping[str, float]
    left_out: LatencyErrors
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
            f"few-shot: {self.networks} networks in {self.seconds:.0f} s, prediction interval ±{self.interval:.1%}; "
            f"known devices: {', '.join(self.known) or 'none, so a table of its own is all there is'}",
            f"chosen by networks left out: {self.chosen} ({weights}{more}{power}); mean error of each: "
            + ", ".join(f"{name} {error:.1%}" for name, error in self.errors.items()),
            self.left_out.line("left-out error"),
            f"without --few the device is calibrated whole: nas calibrate --device {self.device}",
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return asdict(self)

    @staticmethod
    def from_dict(content: Mapping[str, Any], source: str) -> "FewShotReport":
        """Return the report that ``to_dict`` wrote.

        Raises:
            FileFormatError: An entry is missing; the message begins with ``source``.
        """
        try:
            entries = {name: content[name] for name in FewShotReport.__dataclass_fields__}
            left_out = LatencyErrors(**entries["left_out"])
            return FewShotReport(**{**entries, "known": tuple(entries["known"]), "left_out": left_out})
        except (KeyError, TypeError) as error:
            raise FileFormatError(f"{source}: it is no report of a few-shot calibration ({error})") from error
