"""``path.png``: the configurations that a quantization tried, in their order, and what it measured."""

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from nas.compression.mixed import MixedResult
from nas.export.plot import CHOSEN, FRONT, INK, QUIET
from nas.files import atomic_path

FILE_NAME = "path.png"


def draw_path(result: MixedResult, device: str, data: str) -> Figure:
    """Return the picture: predicted latency across, change of accuracy up with its 95 % interval, measured on top."""
    figure = Figure(figsize=(7.2, 4.6), dpi=160, layout="constrained")
    axes = figure.add_subplot()
    tried = result.attempts
    across = [result.latency.predict(one.mask) for one in tried]
    axes.plot(across, [100 * one.change.value for one in tried], color=QUIET, linewidth=0.8, alpha=0.5, zorder=1)
    for meets, color, label in ((True, FRONT, "meets the target"), (False, QUIET, "does not")):
        points = [(x, one) for x, one in zip(across, tried, strict=True) if one.meets is meets]
        if points:
            values = [100 * one.change.value for _, one in points]
            below = [100 * (one.change.value - one.change.low) for _, one in points]
            above = [100 * (one.change.high - one.change.value) for _, one in points]
            axes.errorbar(
                [x for x, _ in points], values, yerr=[[max(0.0, one) for one in side] for side in (below, above)],
                fmt="o", color=color, markersize=4, elinewidth=0.6, alpha=0.85, label=f"tried, {label}", zorder=2,
            )  # fmt: skip
    measured = [(one.timing.latency_ms, one.attempt.change.value if one.attempt else 0.0) for one in result.measured
                if one.attempt is not None or not any(one.mask)]  # fmt: skip
    axes.plot(
        [x for x, _ in measured], [100 * y for _, y in measured], "D", color=INK, mfc="none", markersize=8,
        label="measured", zorder=4,
    )  # fmt: skip
    chosen = result.chosen
    height = 100 * chosen.attempt.change.value if chosen.attempt else 0.0
    axes.plot(chosen.timing.latency_ms, height, "o", color=CHOSEN, mfc="none", markersize=15, mew=1.6, label="chosen")
    axes.axhline(-100 * result.target.allowed, color=CHOSEN, linewidth=1, linestyle=(0, (4, 3)), label="target")
    axes.set_xlabel(f"latency on {device}, batch 1 [ms]; predicted where not measured", color=INK)
    axes.set_ylabel(f"change of accuracy, {data} validation [points]", color=INK)
    axes.grid(color="#e8ecee", linewidth=0.8)
    axes.set_axisbelow(True)
    for side in ("top", "right"):
        axes.spines[side].set_visible(False)
    axes.legend(frameon=False, fontsize=8.5, labelcolor=INK)
    return figure


def save_path(folder: Path, result: MixedResult, device: str, data: str) -> None:
    """Write ``path.png`` into ``folder``."""
    figure = draw_path(result, device, data)
    with atomic_path(folder / FILE_NAME) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
