"""The tables and the picture of ``results.csv``."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from nas.files import read_csv, write_bytes

COLUMNS = ("measure", "method", "seed", "queries", "value")
WHAT = {
    "regret": "Regret: points of accuracy below the best cell within the median latency",
    "hypervolume": "Hypervolume: per cent of the true front's that is missing, accuracy against log latency",
}
HEAD = """# Regret and hypervolume against queries

NAS-Bench-201's 15,625 cells: CIFAR-100 accuracy after 200 epochs (published) and latency on a Pixel 3 (measured by the
authors of HELP). Medians of {seeds} seeds, interquartile range in brackets; less is better, the best median of a column
is bold. Ours are told the budget; Optuna's samplers and pymoo's NSGA-II run as they come. Made by
`python experiments/search/run.py --data DIR --seeds {seeds}`, which also writes `results.csv`. Stopped early, for
what their proposals cost: {stopped}. `linas` was developed on other data sets' accuracies and other devices'
latencies of the same cells.

![Medians against queries](queries.png)
"""
BESIDE = """The last line is the best of ours by its median less the best of the others, with a 95 % bootstrap
interval of the difference: below 0 ours is better, and where the interval holds 0 they are tied.
"""
RESAMPLES = 2_000

Values = dict[str, dict[str, dict[int, list[float]]]]


def read_values(folder: Path) -> Values:
    """Return measure, method and queries to the values of all seeds."""
    values: Values = defaultdict(lambda: defaultdict(lambda: defaultdict(list)))
    for row in read_csv(folder / "results.csv", COLUMNS):
        values[row["measure"]][row["method"]][int(row["queries"])].append(float(row["value"]))
    return values


def write_report(folder: Path, ours: Sequence[str]) -> None:
    """Write ``README.md`` and ``queries.png``."""
    values = read_values(folder)
    ends = {method: max(found) for method, found in values["regret"].items()}
    stopped = ", ".join(f"{method} at {count}" for method, count in ends.items() if count < max(ends.values()))
    seeds = min(len(found) for methods in values.values() for one in methods.values() for found in one.values())
    lines = [HEAD.format(seeds=seeds, stopped=stopped)]
    for measure, what in WHAT.items():
        lines += [f"## {what}", "", *table(values[measure], ours), ""]
    write_bytes(folder / "README.md", "\n".join([*lines, BESIDE]).encode())
    plot(values, folder / "queries.png")


def table(methods: dict[str, dict[int, list[float]]], ours: Sequence[str]) -> list[str]:
    """Return a table in Markdown: a row a method, a column a number of queries."""
    budgets = sorted({budget for found in methods.values() for budget in found})
    best = {
        budget: min(np.median(found[budget]) for found in methods.values() if budget in found) for budget in budgets
    }
    lines = ["| queries | " + " | ".join(map(str, budgets)) + " |", "|---|" + "---|" * len(budgets)]
    for method, found in methods.items():
        cells = [_cell(found[budget], best[budget]) if budget in found else "" for budget in budgets]
        lines.append(f"| {method} | " + " | ".join(cells) + " |")
    sides = [{method: methods[method] for method in methods if (method in ours) == own} for own in (True, False)]
    if all(sides):
        differences = [_difference(*(_best(side, budget) for side in sides)) for budget in budgets]
        lines.append("| *ours − others* | " + " | ".join(differences) + " |")
    return lines


def _best(methods: Mapping[str, Mapping[int, list[float]]], budget: int) -> list[float]:
    """Return the values of the method whose median is least, of those that went so far."""
    return min((found[budget] for found in methods.values() if budget in found), key=np.median)


def _difference(ours: list[float], others: list[float]) -> str:
    rng = np.random.default_rng(0)
    medians = [np.median(rng.choice(side, (RESAMPLES, len(side))), axis=1) for side in (ours, others)]
    low, high = np.quantile(medians[0] - medians[1], [0.025, 0.975])
    return f"{np.median(ours) - np.median(others):+.2f} [{low:+.2f}, {high:+.2f}]"


def _cell(values: list[float], best: float) -> str:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    mark = "**" if middle <= best else ""
    return f"{mark}{middle:.2f}{mark} [{low:.2f}, {high:.2f}]"


def plot(values: Values, path: Path) -> None:
    """Draw the medians."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, len(WHAT), figsize=(11, 4), layout="constrained")
    for axis, measure in zip(axes, WHAT, strict=True):
        for method, found in values[measure].items():
            medians = [max(float(np.median(found[budget])), 1e-3) for budget in sorted(found)]
            axis.plot(sorted(found), medians, marker=".", linestyle=":" if " " in method else "-", label=method)
        axis.set(xscale="log", yscale="log", xlabel="queries", title=measure)
    axes[-1].legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
