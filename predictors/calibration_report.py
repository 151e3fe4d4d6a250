"""How good a calibration is: errors on networks it was not fitted to, beside the noise of what judges."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np

from latency_tables.measurement import Floats
from nas.errors import FileFormatError
from predictors.held_out import JudgedNetwork, errors_by_stratum, errors_of_plainer, held_out_table
from predictors.judged_figures import figures_table, judged_figures
from predictors.prediction import Prediction
from predictors.ranks import kendall, spearman

JUDGED = ("random", "searched")
LARGEST = 1e15  # of any number in a report
ALLOWED: dict[Any, str] = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}
ALLOWED[tuple[JudgedNetwork, ...]] = "a list of networks"


@dataclass(frozen=True)
class LatencyErrors:
    """Predicted against measured on networks that were not fitted to; errors are fractions of the measured latency.

    Attributes:
        networks: How many.
        mean: Mean absolute error (MAPE).
        median: Median absolute error.
        worst: Largest absolute error.
        bias: Median signed error.
        within_5: Share within 5 %.
        within_10: Share within 10 %.
        spearman: Rank correlation.
        kendall: Likewise, by pairs in the right order.
        coverage: Share inside the predicted 90 % interval.
    """

    networks: int
    mean: float
    median: float
    worst: float
    bias: float
    within_5: float
    within_10: float
    spearman: float
    kendall: float
    coverage: float

    @staticmethod
    def of(predicted: Prediction, measured_ms: Floats) -> "LatencyErrors":
        """Compare predictions with measured milliseconds ``(n,)``, n at least 2."""
        error = predicted.mean / measured_ms - 1
        size = np.abs(error)
        inside = (predicted.low <= measured_ms) & (measured_ms <= predicted.high)
        return LatencyErrors(
            networks=len(measured_ms),
            mean=float(size.mean()),
            median=float(np.median(size)),
            worst=float(size.max()),
            bias=float(np.median(error)),
            within_5=float((size <= 0.05).mean()),
            within_10=float((size <= 0.10).mean()),
            spearman=spearman(predicted.mean, measured_ms),
            kendall=kendall(predicted.mean, measured_ms),
            coverage=float(inside.mean()),
        )


@dataclass(frozen=True)
class CalibrationReport:
    """What a calibration knows of itself.

    Attributes:
        device: Name of the device.
        runtime: Its runtime and version.
        fingerprint: Of the device.
        simulated: True where nothing was measured.
        space: Name of the space.
        fitted: Networks that the predictor is fitted to, those held out while judging included.
        fitted_when_judged: Networks behind the errors below, which are of the same fit without those held out.
        noisy: Share of all measurements whose quality is ``noisy``.
        left_out: Networks that are neither fitted to nor judge because they are noisy.
        reference_ms: What the reference net took; latencies are corrected to it.
        interval: Relative half-width of the predictor's 90 % interval.
        corrected: Whether the predictor's table has earned a correction.
        random: Errors on random networks.
        searched: Errors on networks such as a search returns, the harder kind.
        repeatability: How far a measurement is off in the mean, from the differences between two of one network in two
            sessions by the protocol that judges: about what the mean error of a perfect predictor would be.
        repeatability_worst: Likewise of the network whose measurements differed most.
        repeated: Networks measured twice.
        held_out: The networks behind the errors, one by one.
        seconds: What the calibration took; of an interrupted one, all its parts together.
    """

    device: str
    runtime: str
    fingerprint: str
    simulated: bool
    space: str
    fitted: int
    fitted_when_judged: int
    noisy: float
    left_out: int
    reference_ms: float
    interval: float
    corrected: bool
    random: LatencyErrors
    searched: LatencyErrors
    repeatability: float
    repeatability_worst: float
    repeated: int
    held_out: tuple[JudgedNetwork, ...]
    seconds: float

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        how = "SIMULATED, nothing was measured" if self.simulated else "measured"
        return [
            f"device {self.device}, {self.runtime}, {self.fingerprint}, {how}; space {self.space}",
            f"fitted to {self.fitted} networks in {self.seconds:.0f} s; {self.noisy:.0%} of the timings are noisy, "
            f"{self.left_out} networks left out for that; "
            f"prediction interval ±{self.interval:.1%}; correction {'kept' if self.corrected else 'not earned'}",
            f"judged by a fit to {self.fitted_when_judged} of them, without those held out:",
            *figures_table(self._groups()),
            f"repeatability ({self.repeated} of them measured again in a fresh session): one measurement is off by "
            f"{self.repeatability:.1%} in the mean, {self.repeatability_worst:.1%} at worst, a perfect predictor too",
            *held_out_table(self.held_out, self.repeatability, self.repeated),
        ]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON, with what follows from its networks: intervals, strata and plainer fits."""
        strata = {
            kind: {label: asdict(one) for label, one in groups.items()}
            for kind, groups in errors_by_stratum(self.held_out).items()
        }
        plainer = {name: asdict(one) for name, one in errors_of_plainer(self.held_out).items()}
        figures = {
            group: {name: asdict(one) for name, one in judged_figures(networks).items()}
            for group, networks in self._groups().items()
        }
        derived = {"intervals": figures, "strata": strata, "baselines": plainer}
        return {**asdict(self), "held_out": [*map(asdict, self.held_out)], **derived}

    def _groups(self) -> dict[str, Sequence[JudgedNetwork]]:
        return {**{role: [one for one in self.held_out if one.role == role] for role in JUDGED}, "all": self.held_out}

    @staticmethod
    def from_dict(content: Mapping[str, Any], source: str) -> "CalibrationReport":
        """Return the report that ``to_dict`` wrote.

        Raises:
            FileFormatError: An entry is missing or of another type; the message begins with ``source``.
        """
        entries = _entries(CalibrationReport, content, source)
        errors = {name: LatencyErrors(**_entries(LatencyErrors, entries[name], source)) for name in JUDGED}
        held_out = tuple(JudgedNetwork(**_entries(JudgedNetwork, one, source)) for one in entries["held_out"])
        report = CalibrationReport(**{**entries, **errors, "held_out": held_out})
        if report.reference_ms <= 0:
            raise FileFormatError(f"{source}: reference_ms is {report.reference_ms}; allowed: above 0")
        return report


def _entries(kind: type, content: Any, source: str) -> dict[str, Any]:
    """Return the entries of a dataclass after checking their types."""
    if not isinstance(content, Mapping):
        raise FileFormatError(f"{source}: {content!r:.60} among its networks; allowed: tables")
    for field in fields(kind):
        value = content.get(field.name)
        if not _fits(value, field.type):
            allowed = ALLOWED.get(field.type, "a table")
            raise FileFormatError(f"{source}: {field.name} is {value!r:.60}; allowed: {allowed}")
    return {field.name: content[field.name] for field in fields(kind)}


def _fits(value: Any, kind: Any) -> bool:
    if kind in (int, float):
        numbers = (int, float) if kind is float else int
        return isinstance(value, numbers) and not isinstance(value, bool) and abs(value) < LARGEST
    if kind == tuple[JudgedNetwork, ...]:
        return isinstance(value, list) and len(value) > 0
    return isinstance(value, dict if kind is LatencyErrors else kind)
