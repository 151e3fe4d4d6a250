"""The picture of a calibration: predicted against measured with intervals, and errors by stratum beside the noise."""

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nas.files import atomic_path
from predictors.calibration_report import CalibrationReport
from predictors.held_out import GroupErrors, errors_by_stratum, errors_of_plainer

INK, GRID, QUIET, PLAIN = "#222222", "#e8ecee", "#7d868c", "#c3a05c"
COLOURS = {"random": "#0b6e99", "searched": "#d1495b"}
BAND = 0.10  # around equality
HALO = [withStroke(linewidth=2, foreground="white")]


def draw_calibration(report: CalibrationReport) -> Figure:
    """Return the picture of a calibration's held-out networks."""
    figure = Figure(figsize=(10.4, 4.8), dpi=150)
    points, bars = figure.subplots(1, 2, gridspec_kw={"width_ratios": [1, 0.9]})
    _draw_points(points, report)
    _draw_errors(bars, report)
    how = "simulated, nothing was measured" if report.simulated else f"{report.runtime}, batch 1"
    figure.suptitle(f"{report.space} on {report.device} ({how})", color=INK, fontsize=11, x=0.01, ha="left")
    figure.subplots_adjust(left=0.065, right=0.985, top=0.9, bottom=0.12, wspace=0.5)
    return figure


def save_calibration_picture(report: CalibrationReport, path: Path) -> None:
    """Write the picture as a PNG."""
    figure = draw_calibration(report)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def _draw_points(axes: Axes, report: CalibrationReport) -> None:
    """Draw each network: measured across, predicted up, both logarithmic."""
    networks = report.held_out
    ends = np.array([[one.measured_ms, one.low_ms, one.high_ms, one.macs_ms] for one in networks])
    low, high = ends.min() / 1.08, ends.max() * 1.08
    line = np.array([low, high])
    axes.fill_between(line, line * (1 - BAND), line * (1 + BAND), color=GRID, zorder=0, label=f"within {BAND:.0%}")
    axes.plot(line, line, color=QUIET, linewidth=0.9, zorder=1)
    measured = [one.measured_ms for one in networks]
    axes.plot(
        measured, [one.macs_ms for one in networks], "x", color=PLAIN, markersize=4.5, mew=1, zorder=2,
        label="by multiply-adds only",
    )  # fmt: skip
    for role, colour in COLOURS.items():
        own = [one for one in networks if one.role == role]
        spread = [[one.predicted_ms - one.low_ms for one in own], [one.high_ms - one.predicted_ms for one in own]]
        axes.errorbar(
            [one.measured_ms for one in own], [one.predicted_ms for one in own], yerr=spread, fmt="o", color=colour,
            markersize=4, elinewidth=0.9, capsize=1.5, mec="white", mew=0.4, zorder=3,
            label=f"{role}, with 90 % interval",
        )  # fmt: skip
    axes.set_xlabel("measured [ms]", color=INK)
    axes.set_ylabel("predicted [ms]", color=INK)
    for axis, name in ((axes.xaxis, "x"), (axes.yaxis, "y")):
        getattr(axes, f"set_{name}scale")("log")
        getattr(axes, f"set_{name}lim")(low, high)
        axis.set_major_locator(LogLocator(subs=(1, 2, 3, 5, 7)))
        axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axis.set_minor_formatter(NullFormatter())
    axes.set_aspect("equal", adjustable="box")
    axes.legend(loc="upper left", frameon=False, fontsize=8, labelcolor=INK)
    _plain(axes)


def _draw_errors(axes: Axes, report: CalibrationReport) -> None:
    """Draw the mean error of each stratum and of plainer predictors, beside the noise of a measurement."""
    networks = report.held_out
    own = ((one.predicted_ms for one in networks), networks)
    rows: list[tuple[str, GroupErrors, str]] = [("all held out", GroupErrors.of(*own), INK)]
    for kind, groups in errors_by_stratum(networks).items():
        rows += [(f"{kind}: {label}", one, COLOURS["random"]) for label, one in groups.items()]
    rows += [(name, one, PLAIN) for name, one in errors_of_plainer(networks).items()]
    rows.reverse()
    means = [100 * one.mean for _, one, _ in rows]
    axes.barh(range(len(rows)), means, color=[colour for _, _, colour in rows], height=0.62, zorder=2)
    for place, (mean, (_, one, _)) in enumerate(zip(means, rows, strict=True)):
        axes.text(
            mean,
            place,
            f"  {mean:.1f} ({one.networks})",
            va="center",
            fontsize=8,
            color=INK,
            path_effects=HALO,
            zorder=4,
        )
    axes.set_yticks(range(len(rows)), [name for name, _, _ in rows])
    axes.set_xlim(0, 1.22 * max(*means, 100 * report.repeatability))
    noise = f"noise of a measurement, {report.repeatability:.1%}"
    axes.axvline(100 * report.repeatability, color=COLOURS["searched"], linewidth=1.2, ls="--", zorder=3, label=noise)
    axes.set_xlabel("mean error [%] (networks)", color=INK)
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), frameon=False, fontsize=8, labelcolor=INK, borderaxespad=0.2)
    _plain(axes)


def _plain(axes: Axes) -> None:
    axes.tick_params(axis="both", which="both", labelsize=8.5, colors=INK)
    axes.grid(which="major", axis="x", color=GRID, linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
