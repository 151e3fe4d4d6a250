"""``pareto.png``: what was measured, with its intervals, over what was predicted."""

from collections.abc import Sequence
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patheffects import withStroke
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

from nas.export.finalists import Verified
from nas.export.outcome import Outcome
from nas.files import atomic_path

FILE_NAME = "pareto.png"
INK, FRONT, CLOUD, QUIET, CHOSEN = "#222222", "#0b6e99", "#c9d3d9", "#7d868c", "#d1495b"
BASELINE_MARKERS = {"fp32": "s", "fp16": "s", "bf16": "s", "int8": "D"}
CLOUD_POINTS = 4000
MEASURED, OTHERS, BUDGET, SEEN, PICKED = "front, measured", "other finalists", "budget", "predicted", "chosen"
BASELINE = "largest and smallest subnet, {}"
LEGEND = [MEASURED, PICKED, OTHERS, *(BASELINE.format(name) for name in BASELINE_MARKERS), BUDGET, SEEN]


def draw_front(outcome: Outcome) -> Figure:
    """Return the picture: latency (logarithmic) across, validation accuracy up, measured points with 95 % intervals."""
    figure = Figure(figsize=(7.2, 4.6), dpi=200, layout="constrained")
    axes = figure.add_subplot()
    step = max(1, len(outcome.predicted_ms) // CLOUD_POINTS)
    axes.plot(
        outcome.predicted_ms[::step], 100 * outcome.predicted_accuracy[::step], ".", color=CLOUD, markersize=2.5,
        markeredgewidth=0, label=SEEN, zorder=1, rasterized=True,
    )  # fmt: skip
    _draw_points(axes, outcome)
    _label_axes(axes, outcome)
    return figure


def save_front(outcome: Outcome, folder: Path) -> None:
    """Write ``pareto.png`` into ``folder``."""
    figure = draw_front(outcome)
    with atomic_path(folder / FILE_NAME) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))


def _draw_points(axes: Axes, outcome: Outcome) -> None:
    front = outcome.front
    _errorbar(axes, outcome.dominated, fmt="o", color=QUIET, markersize=4.5, hollow=True, label=OTHERS)
    for precision, marker in BASELINE_MARKERS.items():
        points = [one for one in outcome.baselines if one.entry.candidate.stem == precision]
        _errorbar(axes, points, fmt=marker, color=QUIET, markersize=8, hollow=True, label=BASELINE.format(precision))
    latency = [one.latency.latency_ms for one in front]
    accuracy = [100 * one.accuracy for one in front]
    axes.step(latency, accuracy, where="post", color=FRONT, linewidth=1.2, alpha=0.6, zorder=3)
    _errorbar(axes, front, fmt="o", color=FRONT, markersize=6, label=MEASURED)
    if (chosen := outcome.chosen) is not None:
        axes.plot(
            chosen.latency.latency_ms, 100 * chosen.accuracy, "o", markersize=13, mfc="none", mec=CHOSEN, mew=1.6,
            label=PICKED, zorder=5,
        )  # fmt: skip
        axes.annotate(
            f"{100 * chosen.accuracy:.1f} %, {chosen.latency.latency_ms:.3g} ms",
            (chosen.latency.latency_ms, 100 * chosen.accuracy),
            xytext=(10, -17), textcoords="offset points", color=CHOSEN, fontsize=9, zorder=6,
            path_effects=[withStroke(linewidth=2.5, foreground="white")],
        )  # fmt: skip


def _errorbar(
    axes: Axes, points: Sequence[Verified], *, fmt: str, color: str, markersize: float, label: str, hollow: bool = False
) -> None:
    if not points:
        return
    latency = [one.latency.latency_ms for one in points]
    low = [one.latency.latency_ms - one.latency.ci_low_ms for one in points]
    high = [one.latency.ci_high_ms - one.latency.latency_ms for one in points]
    axes.errorbar(
        latency, [100 * one.accuracy for one in points], xerr=[low, high], fmt=fmt, color=color,
        mfc="none" if hollow else color, mec=color if hollow else "white", mew=1.0 if hollow else 0.6,
        markersize=markersize, elinewidth=1, capsize=2, label=label, zorder=4,
    )  # fmt: skip


def _label_axes(axes: Axes, outcome: Outcome) -> None:
    simulated = " (simulated)" if outcome.device["simulated"] else ""
    measured = [one.latency.latency_ms for one in outcome.distinct]
    accuracies = [100 * one.accuracy for one in outcome.distinct]
    margin = max(0.3, 0.12 * (max(accuracies) - min(accuracies)))
    axes.set_xscale("log")
    axes.set_xlim(min(measured) / 1.15, max(measured) * 1.15)
    axes.set_ylim(min(accuracies) - margin, max(accuracies) + margin)
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())
    axes.tick_params(axis="both", which="both", labelsize=8.5, colors=INK)
    device = f"{outcome.device['name']}{simulated}, {outcome.device['runtime']}"
    axes.set_xlabel(f"latency on {device}, batch 1 [ms]", color=INK)
    counted = f"accuracy, {outcome.dataset} validation [%]"
    axes.set_ylabel("predicted accuracy [%], untrained weights" if outcome.warning else counted, color=INK)
    if outcome.limit_ms is not None:
        axes.axvline(outcome.limit_ms, color=CHOSEN, linewidth=1, linestyle=(0, (4, 3)), zorder=2, label=BUDGET)
    axes.grid(which="major", color="#e8ecee", linewidth=0.8, zorder=0)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    handles, labels = axes.get_legend_handles_labels()
    order = sorted(range(len(labels)), key=lambda index: LEGEND.index(labels[index]))
    legend = axes.legend(
        [handles[index] for index in order], [labels[index] for index in order],
        loc="lower right", frameon=False, fontsize=8.5, labelcolor=INK,
    )  # fmt: skip
    legend.legend_handles[-1].set_markersize(5)  # type: ignore[union-attr]
