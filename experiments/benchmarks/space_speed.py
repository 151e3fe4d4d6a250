"""Rows a second of a search space's operations on one core: ``python experiments/benchmarks/space_speed.py [SPACE]``.

Seconds are processor time, so that a busy machine does not count against the code; the figure is the median of rounds.
"""

import argparse
import os
import statistics
import time
from collections.abc import Callable

os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # read when numpy is first imported

import numpy as np

from search_spaces import get_space

ROUNDS = 15


def rows_per_second(operation: Callable[[], object], rows: int) -> float:
    """Return the median of ``ROUNDS`` rounds, after one that is not counted."""
    seconds = []
    for _ in range(ROUNDS + 1):
        start = time.process_time()
        operation()
        seconds.append(time.process_time() - start)
    return rows / statistics.median(seconds[1:])


def main() -> None:
    """Print one line an operation."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("space", nargs="?", default="fashion-mbv3")
    parser.add_argument("--rows", type=int, default=100_000, help="rows a round")
    arguments = parser.parse_args()
    space, rows = get_space(arguments.space), arguments.rows
    rng = np.random.default_rng(0)
    a, b = space.sample(rows, rng), space.sample(rows, rng)
    operations: dict[str, Callable[[], object]] = {
        "sample and encode": lambda: space.encode(space.sample(rows, rng)),
        "sample": lambda: space.sample(rows, rng),
        "encode": lambda: space.encode(a),
        "mutate": lambda: space.mutate(a, rng, 0.1),
        "crossover": lambda: space.crossover(a, b, rng),
        "canonical": lambda: space.canonical(a),
    }
    print(f"{space.name}: {space.num_genes} genes, {space.num_features} features, {rows} rows a round, {ROUNDS} rounds")
    for name, operation in operations.items():
        print(f"{name:<18} {rows_per_second(operation, rows):>12,.0f} rows/s")


if __name__ == "__main__":
    main()
