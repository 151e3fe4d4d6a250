"""The figures of every device and space: errors beside their floor, few-shot with the device left out, and targets."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from calibration_cases import FEW, RANDOM, SCHEMA, SCHEMA_VERSION, Case, pairs_of

from latency_tables import LatencyTable
from latency_tables.measurement import Floats
from latency_tables.rows import genes_of, latencies_of
from nas.files import atomic_path, write_bytes, write_json
from predictors.calibration_report import LatencyErrors
from predictors.few_calibration import fit_few
from predictors.prediction import Prediction
from predictors.ranks import spearman

MAPE, BROWSER_MAPE, WITHIN_10, SPEARMAN, COVERED, FEW_MAPE = 0.04, 0.08, 0.97, 0.98, (0.86, 0.94), 0.08
COLD_SECONDS = {"fashion-mbv3": 90.0, "ofa-mbv3": 360.0}
COLUMNS = (
    "space", "device", "cold s", "MAPE", "floor", "table alone", "median", "bias", "within 10 %", "floor", "Spearman",
    "floor", "covered", "few-shot MAPE", "Spearman", "chosen", "targets missed",
)  # fmt: skip


@dataclass(frozen=True)
class Floor:
    """How well the same networks repeat in another session: no prediction can be judged more finely.

    Attributes:
        networks: How many were measured twice.
        mean: Mean absolute difference, relative.
        within_10: Share within 10 %.
        spearman: Rank correlation.
    """

    networks: int
    mean: float
    within_10: float
    spearman: float

    @staticmethod
    def of(first: Floats, second: Floats) -> "Floor":
        """Compare two sessions ``(n,)``."""
        change = np.abs(second / first - 1)
        return Floor(len(first), float(change.mean()), float((change <= 0.1).mean()), spearman(first, second))


@dataclass(frozen=True, eq=False)
class Judged:
    """One device and space.

    Attributes:
        case: Which.
        seconds: Wall time of the process that calibrated; None where it did not begin with nothing measured.
        errors: Of the calibration, on random networks.
        table: Mean absolute error of its table alone, without the correction: what ships.
        floor: Beside it.
        few: Errors of the fit to 20 networks and the other devices' tables, on the same random networks.
        chosen: What that fit chose.
        predicted: Of the random networks.
        measured_ms: Likewise.
    """

    case: Case
    seconds: float | None
    errors: LatencyErrors
    table: float
    floor: Floor
    few: LatencyErrors
    chosen: str
    predicted: Prediction
    measured_ms: Floats

    @property
    def missed(self) -> list[str]:
        """The targets that are missed, each with the floor where that alone forbids it."""
        browser = self.case.device_name == "browser"
        most, errors, floor = BROWSER_MAPE if browser else MAPE, self.errors, self.floor
        limit = COLD_SECONDS.get(self.case.space.name, np.inf)
        found = {
            f"cold ≤ {limit:g} s": self.seconds is not None and self.seconds <= limit,
            f"table alone: MAPE ≤ {most:.0%}{_forbidden(floor.mean > most)}": self.table <= most,
            f"MAPE ≤ {most:.0%}{_forbidden(floor.mean > most)}": errors.mean <= most,
            f"within 10 % ≥ {WITHIN_10:.0%}{_forbidden(floor.within_10 < WITHIN_10)}": errors.within_10 >= WITHIN_10,
            f"Spearman ≥ {SPEARMAN}{_forbidden(floor.spearman < SPEARMAN)}": errors.spearman >= SPEARMAN,
            f"covered {COVERED[0]:.0%} to {COVERED[1]:.0%}": COVERED[0] <= errors.coverage <= COVERED[1],
            f"few-shot MAPE ≤ {FEW_MAPE:.0%}{_forbidden(floor.mean > FEW_MAPE)}": self.few.mean <= FEW_MAPE,
        }
        return [name for name, met in found.items() if not met]

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        parts = {name: asdict(getattr(self, name)) for name in ("errors", "floor", "few")}
        own = {"space": self.case.space.name, "device": self.case.device_name, "seconds": self.seconds}
        own["table"] = self.table
        return {**own, "describe": self.case.device.describe(), **parts, "chosen": self.chosen, "missed": self.missed}


def _forbidden(forbidden: bool) -> str:
    return " (the floor forbids it)" if forbidden else ""


def judge(case: Case, tables: Mapping[str, LatencyTable]) -> Judged:
    """Judge a calibration, and a fit to few networks that knows the ``tables`` of the other devices."""
    calibration, rows, few = case.calibration(), case.rows(1, RANDOM), case.rows(1, FEW)
    genes, ms = genes_of(rows), latencies_of(rows)
    predicted = calibration.predictor.predict(genes)
    predictor, shot = fit_few(case.space, case.images, genes_of(few), latencies_of(few), tables)
    return Judged(
        case=case,
        seconds=case.cold_seconds(),
        errors=LatencyErrors.of(predicted, ms),
        table=float(np.abs(calibration.table.predict_ms(genes) / ms - 1).mean()),
        floor=Floor.of(*pairs_of(rows, case.rows(2, RANDOM))),
        few=LatencyErrors.of(predictor.predict(genes), ms),
        chosen=shot.chosen.name,
        predicted=predicted,
        measured_ms=ms,
    )


def judge_all(cases: Sequence[Case]) -> list[Judged]:
    """Judge every case; of few-shot fits the device itself is left out, and whatever else is of its runtime."""
    found = []
    for case in cases:
        alike = [one for one in cases if one.space.digest == case.space.digest]
        others = [one for one in alike if one is not case and one.device.runtime != case.device.runtime]
        tables = {one.device_name: one.calibration().table for one in others}
        found.append(judge(case, tables))
    return found


def write_report(out: Path, cases: Sequence[Case]) -> None:
    """Write ``result.json``, ``tables.md`` and ``predicted.png``."""
    found = judge_all(cases)
    write_json(out / "result.json", SCHEMA, SCHEMA_VERSION, {"cases": [one.to_dict() for one in found]})
    text = "\n".join(["| " + " | ".join(COLUMNS) + " |", "|" + "---|" * len(COLUMNS), *map(_line, found)]) + "\n"
    write_bytes(out / "tables.md", text.encode())
    draw(found, out / "predicted.png")
    print(text)


def _line(one: Judged) -> str:
    errors, floor, few = one.errors, one.floor, one.few
    cells = [
        one.case.space.name,
        one.case.device_name,
        "resumed" if one.seconds is None else f"{one.seconds:.0f}",
        *(f"{value:.1%}" for value in (errors.mean, floor.mean, one.table, errors.median)),
        f"{errors.bias:+.1%}",
        *(f"{value:.0%}" for value in (errors.within_10, floor.within_10)),
        *(f"{value:.3f}" for value in (errors.spearman, floor.spearman)),
        f"{errors.coverage:.0%}",
        f"{few.mean:.1%}",
        f"{few.spearman:.3f}",
        one.chosen,
        "; ".join(one.missed) or "none",
    ]
    return "| " + " | ".join(cells) + " |"


def draw(found: Sequence[Judged], path: Path) -> None:
    """Draw predicted against measured latency, a row a space and a column a device."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    spaces = list(dict.fromkeys(one.case.space.name for one in found))
    devices = list(dict.fromkeys(one.case.device_name for one in found))
    figure = Figure(figsize=(3 * len(devices), 3 * len(spaces)), dpi=150, layout="constrained")
    for one in found:
        place = spaces.index(one.case.space.name) * len(devices) + devices.index(one.case.device_name)
        axes = figure.add_subplot(len(spaces), len(devices), place + 1)
        ms, predicted = one.measured_ms, one.predicted
        ends = [ms.min() / 1.1, ms.max() * 1.1]
        axes.plot(ends, ends, color="#c9d3d9", linewidth=1)
        spread = [predicted.mean - predicted.low, predicted.high - predicted.mean]
        axes.errorbar(ms, predicted.mean, yerr=spread, fmt=".", color="#0b6e99", elinewidth=0.4, markersize=4)
        axes.set(xscale="log", yscale="log", xlabel="measured [ms]", ylabel="predicted [ms]")
        axes.set_title(f"{one.case.space.name}, {one.case.device_name}: {one.errors.mean:.1%}", fontsize=8)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
