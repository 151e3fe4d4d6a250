"""Whether a latency in the reward finds faster networks at equal accuracy than multiply-adds do. See README.md.

    python experiments/search/reward/run.py DATA [--seeds 5] [--device cpu] [--write]

DATA has the folders ``nasbench201`` and ``help_latency``. ``--device`` also searches ``fashion-mbv3`` for a device of
this machine, which is calibrated if it is not yet, and measures what was found; each pair of searches is two lines of
``searches.csv``, and what is there is not done again. ``--write`` puts the tables into README.md.
"""

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from on_device import device_table

from experiments.search.tabular import CellSpace
from nas.search import Problem, search
from nas.search.problem import Genes, Scores
from nasbench import Benchmark, get_benchmark

HERE = Path(__file__).parent
BEGIN, END = "<!-- figures: begin. Made by run.py. -->", "<!-- figures: end -->"
ACCURACY = "cifar100_test_200ep"
LEVELS = (0.64, 0.67, 0.69)  # of accuracy; the best cell has 0.735, half of all cells 0.653
BUDGET = 500  # cells scored in a search
DEVICES = ("pixel3", "samsung_a50", "gold_6226", "1080ti_1", "titanx_256", "eyeriss")

Floats = NDArray[np.float64]


def by_digits(benchmark: Benchmark, values: Floats) -> Floats:
    """Return values of a benchmark's cells in the order of what their digits spell."""
    ordered = np.empty(len(values))
    ordered[[int(cell, 5) for cell in benchmark.networks]] = values
    return ordered


def multiply_adds() -> Floats:
    """Return the multiply-adds of the convolutions of every cell, of which one of 1x1 is the unit, in that order."""
    digits = np.stack(np.unravel_index(np.arange(5**6), [5] * 6), axis=1)
    return np.asarray((digits == 2).sum(axis=1) + 9.0 * (digits == 3).sum(axis=1))


def scored(accuracy: Floats, cost: Floats, seed: int) -> NDArray[np.int64]:
    """Return the cells that ``rl`` scores with the soft reward, as places in the tables."""

    def places(genes: Genes) -> NDArray[np.int64]:
        return np.asarray(genes.astype(np.int64) @ 5 ** np.arange(5, -1, -1))

    def evaluate(genes: Genes) -> Scores:
        return {"accuracy": accuracy[places(genes)], "cost": cost[places(genes)]}

    problem = Problem(CellSpace(), {"accuracy": "max", "cost": "min"}, {}, evaluate)
    return places(search(problem, "rl", BUDGET, seed).history.genes)


def published_lines(data: Path, devices: Sequence[str], seeds: int) -> Iterator[str]:
    """Yield a line a device: how much faster what its latency rewards is, by the accuracy asked for."""
    known, measured = get_benchmark("nasbench201", data), get_benchmark("help-nasbench201", data)
    accuracy, macs = by_digits(known, known.accuracy[ACCURACY]), multiply_adds()

    def least(cells: NDArray[np.int64], cost: Floats, level: float) -> int:
        return int(min(cells[accuracy[cells] >= level], key=lambda cell: cost[cell]))

    blind = [scored(accuracy, macs, seed) for seed in range(seeds)]
    yield f"| device | {' | '.join(f'at {100 * level:g} %' for level in LEVELS)} |"
    yield "|---" * (1 + len(LEVELS)) + "|"
    for device in devices:
        latency = by_digits(measured, measured.latency_ms[device])
        aware = [scored(accuracy, latency, seed) for seed in range(seeds)]
        entries = []
        for level in LEVELS:
            slow = [latency[least(cells, macs, level)] for cells in blind]
            fast = [latency[least(cells, latency, level)] for cells in aware]
            faster = [100 * (1 - b / a) for a, b in zip(slow, fast, strict=True)]
            low, middle, high = np.quantile(faster, (0.25, 0.5, 0.75))
            entries.append(f"{middle:.0f} % [{low:.0f}, {high:.0f}]")
        yield f"| {device} | {' | '.join(entries)} |"


def main(arguments: Sequence[str] | None = None) -> None:
    """Search and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--devices", default=",".join(DEVICES))
    parser.add_argument("--device", default="")
    parser.add_argument("--write", action="store_true")
    chosen = parser.parse_args(arguments)
    parts = ["\n".join(published_lines(chosen.data, chosen.devices.split(","), chosen.seeds))]
    if chosen.device:
        parts.append(device_table(chosen.device, HERE / "searches.csv", chosen.seeds))
    text = "\n\n".join(parts)
    print(text)
    if chosen.write:
        readme = HERE / "README.md"
        head, _, rest = readme.read_text().partition(BEGIN)
        readme.write_text(f"{head}{BEGIN}\n{text}\n{END}{rest.partition(END)[2]}")


if __name__ == "__main__":
    main()
