"""Latency on published devices from 10 or 20 networks, every other kind of device known. See README.md.

python experiments/few_shot/run.py DATA     # the folder with HELP's latencies and NAS-Bench-201's table; minutes
python experiments/few_shot/run.py DATA --write     # and puts the tables into README.md
"""

import argparse
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from latency_tables.measurement import Floats
from latency_tables.regression import robust_weights
from nasbench import Benchmark, get_benchmark
from predictors import LatencyErrors
from predictors.few_shot import FewShot, Known, few_shot
from predictors.prediction import Prediction

BENCHMARKS = ("help-nasbench201", "help-fbnet", "help-ofa")
NETWORKS, SEEDS = (10, 20), 5  # the last is what the tables by device are of
BOUND = 0.08  # mean error; devices above it are named
JUDGED, FITTED = 3000, 900  # networks that judge, and those that a known device's table is fitted to
README = Path(__file__).with_name("README.md")
BEGIN, END = "<!-- figures: begin. Made by run.py. -->", "<!-- figures: end -->"


@dataclass(frozen=True)
class Result:
    """One new device, one draw of networks."""

    device: str
    chosen: str
    errors: LatencyErrors
    alone: Mapping[str, float]  # mean error of each candidate, had it been taken


def graphs(benchmark: Benchmark) -> dict[str, dict[str, Floats]]:
    """Return what networks compute, by the graph that may run: of cells every edge, or the live ones."""
    columns = dict(zip(benchmark.amount_names, benchmark.amounts.T, strict=True))
    if not any(name.startswith("live ") for name in columns):
        return {"table": columns}
    return {
        graph: {name: values for name, values in columns.items() if name.startswith((graph, "cell"))}
        for graph in ("every", "live")
    }


def runnable(benchmark: Benchmark) -> np.ndarray:
    """Return the numbers of networks whose output depends on their input."""
    live = [number for number, name in enumerate(benchmark.amount_names) if name.startswith("live ")]
    return np.flatnonzero(benchmark.amounts[:, live].sum(1) > 0) if live else np.arange(len(benchmark))


def kind(device: str) -> str:
    """Return a device without its batch: settings of one device are no strangers to each other."""
    return re.sub(r"_\d+$", "", device)


def table_of(amounts: Mapping[str, Mapping[str, Floats]], ms: Floats, fitted: np.ndarray) -> Floats:
    """Return what a known device's table says of all networks: the better of its graphs on ``fitted`` networks."""
    found = []
    for columns in amounts.values():
        matrix = np.column_stack(list(columns.values()))
        predicted = matrix @ robust_weights(matrix[fitted], ms[fitted])
        found.append((np.abs(predicted[fitted] / ms[fitted] - 1).mean(), predicted))
    return min(found, key=lambda one: one[0])[1]


def results(benchmark: Benchmark, networks: int, *, tables: bool) -> Iterator[Result]:
    """Yield a result for each new device and seed; known devices by their tables, or as measured."""
    amounts, candidates = graphs(benchmark), runnable(benchmark)
    for seed in range(SEEDS):
        order = np.random.default_rng(seed).permutation(candidates)
        few, judged, fitted = np.split(order, [networks, networks + JUDGED])
        said = {
            device: table_of(amounts, ms, fitted[:FITTED]) if tables else ms
            for device, ms in benchmark.latency_ms.items()
        }
        for device, ms in benchmark.latency_ms.items():
            others = {name: values for name, values in said.items() if kind(name) != kind(device)}
            known = Known(others, amounts)
            fit = few_shot(known.rows(few), ms[few])
            errors = LatencyErrors.of(fit.predict(known.rows(judged)), ms[judged])
            yield Result(device, fit.chosen.name, errors, _alone(fit, known, few, judged, ms))


def _alone(fit: FewShot, known: Known, few: np.ndarray, judged: np.ndarray, ms: Floats) -> dict[str, float]:
    parts = {"proxy or sources": Known(known.sources, {})}
    parts |= {f"fresh {graph}": Known({}, {graph: columns}) for graph, columns in known.amounts.items()}
    alone = {name: few_shot(part.rows(few), ms[few]).predict(part.rows(judged)) for name, part in parts.items()}
    return {name: _mape(found, ms[judged]) for name, found in alone.items()}


def _mape(found: Prediction, ms: Floats) -> float:
    return float(np.abs(found.mean / ms - 1).mean())


def device_rows(found: list[Result]) -> Iterator[str]:
    """Yield a row a device, and the mean of them."""
    alone = list(found[0].alone)
    yield "| device | MAPE | median | within 10 % | Spearman | Kendall | covered | chosen | " + " | ".join(alone) + " |"
    yield "|" + "---|" * (8 + len(alone))
    for device, own in {**by_device(found), "mean": found}.items():
        sorts = [one.chosen.split()[0] for one in own]
        counts = ", ".join(f"{sort} {sorts.count(sort)}" for sort in ("proxy", "sources", "fresh") if sort in sorts)
        cells = [
            *(f"{_mean(own, name):.1%}" for name in ("mean", "median", "within_10")),
            *(f"{_mean(own, name):.3f}" for name in ("spearman", "kendall")),
            f"{_mean(own, 'coverage'):.0%}",
            counts,
            *(f"{np.mean([one.alone[name] for one in own]):.1%}" for name in alone),
        ]
        yield f"| {device} | " + " | ".join(cells) + " |"


def by_device(found: list[Result]) -> dict[str, list[Result]]:
    """Return the results by their device."""
    devices = dict.fromkeys(one.device for one in found)
    return {device: [one for one in found if one.device == device] for device in devices}


def _mean(found: list[Result], name: str) -> float:
    return float(np.mean([getattr(one.errors, name) for one in found]))


def report(data: Path) -> str:
    """Return the tables as Markdown."""
    head = "| benchmark | networks | known devices | MAPE | Spearman | Kendall | covered |"
    parts, summary = [], [head, "|---" * 7 + "|"]
    means: dict[str, float] = {}
    for name in BENCHMARKS:
        benchmark = get_benchmark(name, data)
        for networks, tables in product(NETWORKS, (False, True)):
            found = list(results(benchmark, networks, tables=tables))
            how = "by their tables" if tables else "as measured"
            figures = f"{_mean(found, 'mean'):.1%} | {_mean(found, 'spearman'):.3f} | {_mean(found, 'kendall'):.3f}"
            summary.append(f"| {name} | {networks} | {how} | {figures} | {_mean(found, 'coverage'):.0%} |")
        means |= {f"{device} ({name})": _mean(own, "mean") for device, own in by_device(found).items()}
        title = f"### {name}, {networks} networks, known devices by their tables"
        parts.append("\n".join([title, "", *device_rows(found)]))
    return "\n\n".join(["\n".join(summary), above(means), *parts])


def above(means: Mapping[str, float]) -> str:
    """Return which devices' mean errors are above the bound, as a sentence."""
    wrong = sorted((name for name in means if means[name] > BOUND), key=means.__getitem__, reverse=True)
    named = ", ".join(f"{name} {means[name]:.1%}" for name in wrong) or "none"
    how = f"With {NETWORKS[-1]} networks and known devices by their tables"
    return f"{how}, {len(wrong)} of {len(means)} settings are more than {BOUND:.0%} off on average: {named}."


def main() -> None:
    """Run all of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path, help="the folder of the published latencies")
    parser.add_argument("--write", action="store_true", help="put the tables into README.md")
    options = parser.parse_args()
    text = report(options.data)
    print(text)
    if options.write:
        head, _, rest = README.read_text().partition(BEGIN)
        README.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
