"""Whether a latency in the reward finds faster networks at equal accuracy than multiply-adds do. See README.md.

    python experiments/search/reward/run.py DATA [--seeds 5] [--device cpu] [--write]

DATA has the folders ``nasbench201`` and ``help_latency``. ``--device`` also searches ``fashion-mbv3`` for a device of
this machine, which is calibrated if it is not yet, and measures what was found; each pair of searches is two lines of
``searches.csv``, and what is there is not done again. ``--write`` puts the tables into README.md.
"""

import argparse
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from on_device import device_table
from pairs import find_blind, find_pair

from experiments.search.tabular import CellSpace
from nas.search.problem import Genes, Scores
from nasbench import Benchmark, get_benchmark

HERE = Path(__file__).parent
BEGIN, END = "<!-- figures: begin. Made by run.py. -->", "<!-- figures: end -->"
ACCURACY = "cifar100_test_200ep"
WITHIN = (0.25, 0.5, 0.75)  # quantiles of the multiply-adds of all cells: the limits
BUDGET = 400  # cells scored in a search
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


def published_lines(data: Path, devices: Sequence[str], seeds: int) -> Iterator[str]:
    """Yield a line a device: how much faster what sees its latency finds, by the limit of multiply-adds."""
    known, measured = get_benchmark("nasbench201", data), get_benchmark("help-nasbench201", data)
    accuracy, macs, space = by_digits(known, known.accuracy[ACCURACY]), multiply_adds(), CellSpace()

    def scores(latency: Floats, genes: Genes) -> Scores:
        at = genes.astype(np.int64) @ 5 ** np.arange(5, -1, -1)
        return {"accuracy": accuracy[at], "macs_m": macs[at], "latency_ms": latency[at]}

    unseen = partial(scores, macs)  # what is blind to latency may be told anything
    limits = [float(np.quantile(macs, share)) for share in WITHIN]
    blind = [[find_blind(space, unseen, limit, BUDGET, seed) for seed in range(seeds)] for limit in limits]
    yield f"| device | {' | '.join(f'{100 * share:.0f} % of the cells' for share in WITHIN)} |"
    yield "|---" * (1 + len(WITHIN)) + "|"
    for device in devices:
        evaluate = partial(scores, by_digits(measured, measured.latency_ms[device]))
        entries = []
        for rows in blind:
            pairs = [find_pair(space, evaluate, row, BUDGET, seed) for seed, row in enumerate(rows)]
            ratios = [pair.aware.scores["latency_ms"] / pair.blind.scores["latency_ms"] for pair in pairs]
            low, middle, high = np.quantile([100 * (1 - ratio) for ratio in ratios], (0.25, 0.5, 0.75))
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
