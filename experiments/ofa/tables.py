"""The tables of the README, from the jobs' results: test accuracies, and differences paired over subnets."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from plans import METHODS
from subnets import SIZES

from nas.errors import FileFormatError
from nas.files import read_json

SCHEMA = ("hwnas.ofa_experiment", 1)
RESAMPLES = 10_000
REFERENCE = "shrinking"
ALONE = "alone"
ENDS = ("smallest", "largest")

Row = dict[str, Any]


@dataclass(frozen=True)
class Results:
    """Of each method, its subnets' rows by seed, plan and compute; of each subnet trained alone, its row by id."""

    methods: dict[str, dict[int, list[Row]]]
    plans: dict[str, dict[str, Any]]
    compute: dict[str, float]
    alone: dict[str, Row]

    def accuracies(
        self, method: str, sizes: Sequence[str] = SIZES, key: str = "test", seeds: Sequence[int] | None = None
    ) -> NDArray[np.float64]:
        """Return percentages ``(seeds, subnets)``; of every seed if none are named."""
        found = self.methods[method]
        runs = [found[seed] for seed in (sorted(found) if seeds is None else seeds)]
        return 100 * np.array([[row[key] for row in rows if row["size"] in sizes] for rows in runs])


def read_results(folder: Path) -> Results:
    """Read what the jobs wrote.

    Raises:
        FileFormatError: A file is of another schema, or two seeds of a method are of different plans.
    """
    found = Results({}, {}, {}, {})
    for path in sorted(folder.glob("*.json")):
        content = read_json(path, *SCHEMA)
        method, rows = content["method"], content["subnets"]
        if method == ALONE:
            found.alone[rows[0]["id"]] = rows[0]
        else:
            found.methods.setdefault(method, {})[content["seed"]] = rows
            found.compute[method] = content["compute"]
            if found.plans.setdefault(method, content["plan"]) != content["plan"]:
                raise FileFormatError(f"{path}: of another plan than another seed of {method}; train them all alike")
    return found


def tables(results: Results) -> str:
    """Return, as Markdown, each table whose results are there."""
    made: list[tuple[str, Callable[[Results], list[str]], bool]] = [
        ("From the supernet against trained alone", alone_table, bool(results.alone) and REFERENCE in results.methods),
        ("Ways to train the supernet", methods_table, REFERENCE in results.methods),
        ("Batch norms recalibrated or not", recalibration_table, REFERENCE in results.methods),
    ]
    return "\n\n".join("\n".join([f"## {title}", "", *make(results)]) for title, make, there in made if there)


def alone_table(results: Results) -> list[str]:
    """Return a row a subnet that was trained alone, and means by size."""
    lines = _head("subnet", "size", "M multiply-adds", "pixels", "alone", "in the supernet", "difference")
    pairs: dict[str, list[tuple[float, float]]] = {size: [] for size in SIZES}
    runs = results.methods[REFERENCE].values()
    for name, row in sorted(results.alone.items(), key=lambda item: item[1]["macs"]):
        inside = float(np.mean([one["test"] for rows in runs for one in rows if one["id"] == name]))
        pair = (100 * row["test"], 100 * inside)
        pairs[row["size"]].append(pair)
        figures = f"{row['macs'] / 1e6:.1f} | {row['resolution']} | {pair[0]:.2f} | {pair[1]:.2f}"
        lines.append(f"| `{name}` | {row['size']} | {figures} | {pair[1] - pair[0]:+.2f} |")
    groups = {**pairs, "all": [pair for some in pairs.values() for pair in some]}
    for size, some in groups.items():
        if some:
            alone, inside = np.array(some).T
            lines.append(f"| mean | {size} | | | {alone.mean():.2f} | {inside.mean():.2f} | {paired(inside - alone)} |")
    return lines


def methods_table(results: Results) -> list[str]:
    """Return a row a method, with its difference to progressive shrinking paired over subnets."""
    columns = [*ENDS, *SIZES]
    lines = _head("method", "seeds", "epochs", "compute", *columns, "all", "difference", "of each seed")
    for method in (name for name in METHODS if name in results.methods):
        found = results.accuracies(method)
        epochs = sum(stage["epochs"] for stage in results.plans[method]["stages"])
        relative = results.compute[method] / results.compute[REFERENCE]
        means = " | ".join(f"{results.accuracies(method, (size,)).mean():.2f}" for size in columns)
        shared = sorted(results.methods[method].keys() & results.methods[REFERENCE].keys())
        compared = " | "
        if method != REFERENCE and shared:
            differences = results.accuracies(method, seeds=shared) - results.accuracies(REFERENCE, seeds=shared)
            by_seed = ", ".join(f"{mean:+.2f}" for mean in differences.mean(1))
            compared = f"{paired(differences.mean(0))} | {by_seed}"
        cells = f"{len(found)} | {epochs} | {relative:.2f} | {means} | {with_error(found)} | {compared}"
        lines.append(f"| {METHODS[method]} | {cells} |")
    return lines


def recalibration_table(results: Results) -> list[str]:
    """Return a row a size of subnet: accuracy of the same weights with and without recalibration."""
    lines = _head("subnets", "recalibrated", "not", "difference")
    for name, sizes in (*((size, (size,)) for size in (*ENDS, *SIZES)), ("all but the ends", SIZES)):
        done = results.accuracies(REFERENCE, sizes).mean(0)
        raw = results.accuracies(REFERENCE, sizes, "test_raw").mean(0)
        lines.append(f"| {name} | {done.mean():.2f} | {raw.mean():.2f} | {paired(done - raw)} |")
    return lines


def paired(differences: NDArray[np.float64]) -> str:
    """Return the mean of differences ``(subnets,)`` with its 95 % bootstrap interval over subnets."""
    mean, count = f"{differences.mean():+.2f}", len(differences)
    if count < 2:
        return mean
    drawn = np.random.default_rng(0).integers(count, size=(RESAMPLES, count))
    low, high = np.quantile(differences[drawn].mean(1), (0.025, 0.975))
    return f"{mean} [{low:+.2f}, {high:+.2f}]"


def with_error(accuracies: NDArray[np.float64]) -> str:
    """Return the mean of ``(seeds, subnets)`` with the standard error over seeds."""
    seeds = accuracies.mean(1)
    error = f" ± {seeds.std(ddof=1) / len(seeds) ** 0.5:.2f}" if len(seeds) > 1 else ""
    return f"{seeds.mean():.2f}{error}"


def _head(*columns: str) -> list[str]:
    return ["| " + " | ".join(columns) + " |", "|" + "---|" * len(columns)]
