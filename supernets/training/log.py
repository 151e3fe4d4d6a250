"""The log of a training run: a CSV line an epoch, and a picture of it."""

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.files import write_csv
from nas.writing import atomic_path

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG_NAME, CURVES_NAME = "train_log.csv", "curves.png"
ACCURACIES = ("largest", "smallest", "random", "only")
COLUMNS = ("stage", "epoch", "epochs", "learning_rate", "loss", "images_per_second", *ACCURACIES)

Line = Mapping[str, Any]
"""``COLUMNS`` of one epoch. Images a second count each image once, however many subnets it goes through. Accuracies are
fractions of the validation images, absent in most epochs."""


def write_log(out: Path, lines: Sequence[Line]) -> None:
    """Write the log of a run into its folder."""
    write_csv(out / LOG_NAME, COLUMNS, [[line.get(column) for column in COLUMNS] for line in lines])


def draw_curves(out: Path, lines: Sequence[Line]) -> None:
    """Draw loss and validation accuracies over the epochs, a band a stage, into the folder of a run."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 4.5), layout="constrained")
    loss, accuracy = figure.subplots(1, 2)
    loss.plot(range(1, len(lines) + 1), [line["loss"] for line in lines], color="C7", linewidth=1.2)
    loss.set(xlabel="epoch", ylabel="training loss")
    for number, name in enumerate(ACCURACIES):
        points = [(epoch, 100 * line[name]) for epoch, line in enumerate(lines, start=1) if line.get(name) is not None]
        if points:
            accuracy.plot(*zip(*points, strict=True), marker=".", color=f"C{number}", label=name)
    accuracy.set(xlabel="epoch", ylabel="validation accuracy, %")
    accuracy.legend(loc="lower right")
    for axes in (loss, accuracy):
        _mark_stages(axes, [line["stage"] for line in lines])
    with atomic_path(out / CURVES_NAME) as temporary:
        figure.savefig(temporary, format="png", dpi=110)


def _mark_stages(axes: "Axes", stages: Sequence[str]) -> None:
    """Shade every other stage and name each above it, in two rows, as short stages are next to one another."""
    starts = [0] + [n for n in range(1, len(stages)) if stages[n] != stages[n - 1]] + [len(stages)]
    above = axes.get_xaxis_transform()
    for number, (begin, end) in enumerate(pairwise(starts)):
        if number % 2:
            axes.axvspan(begin + 0.5, end + 0.5, color="0.94", zorder=0)
        place = ((begin + end + 1) / 2, 1.01 + 0.035 * (number % 2))
        axes.text(*place, stages[begin], transform=above, ha="center", fontsize=7)
    axes.set_xlim(0.5, len(stages) + 0.5)
