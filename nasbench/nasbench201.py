"""NAS-Bench-201's cells (Dong and Yang, 2020): how they are spelled, what of them runs, and their accuracies.

A cell is six digits, one an edge, in the order of the published spelling ``|op~0|+|op~0|op~1|+|op~0|op~1|op~2|``; each
digit says what the edge computes (``OPERATIONS``). Networks are in the order of the benchmark's own numbers.

Two graphs of a cell may run. PyTorch executes every edge, even one whose result reaches nothing; a runtime that removes
dead code executes the *live* ones only, those on a path from the input to the output. ``cell_amounts`` counts both.
"""

import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nas.errors import FileFormatError
from nasbench.benchmark import Benchmark, Floats
from nasbench.columns import Columns, find, read_columns

OPERATIONS = ("none", "skip_connect", "nor_conv_1x1", "nor_conv_3x3", "avg_pool_3x3")
EDGES = ((0, 1), (0, 2), (1, 2), (0, 3), (1, 3), (2, 3))
OUTPUT = 3
FILES = ("nb201.csv.gz", "nb201.csv")
SOURCE = (
    "it is made from NATS-Bench, github.com/D-X-Y/NATS-Bench (NATS-tss-v1_0): columns index, ops (six digits), and "
    "{cifar10,cifar100,in16}_ with test_acc_200ep, val_acc_12ep, test_acc_12ep in per cent"
)
SETS, RUNS = ("cifar10", "cifar100", "in16"), ("test_acc_200ep", "val_acc_12ep", "test_acc_12ep")
AMOUNTS = (
    "cell",
    *(f"every {operation}" for operation in OPERATIONS[1:]),
    *(f"live {operation}" for operation in OPERATIONS[1:]),
    "live sum",
)


def read_accuracies(folder: Path) -> Benchmark:
    """Read ``nb201.csv.gz``: accuracy after 200 epochs (test) and after 12 (validation, test), means over seeds."""
    table = read_columns(find(folder, FILES, SOURCE))
    cells, order = _ordered(table)
    names = [f"{data}_{run}" for data in SETS for run in RUNS]
    accuracy = {name.replace("_acc_", "_"): table.numbers(name)[order] / 100 for name in names}
    return Benchmark("nasbench201", table.path, cells, accuracy, {}, amounts_of(cells), AMOUNTS)


def read_cells(folder: Path) -> tuple[str, ...]:
    """Return the cells of ``nb201.csv.gz``, by number."""
    return _ordered(read_columns(find(folder, FILES, SOURCE)))[0]


def _ordered(table: Columns) -> tuple[tuple[str, ...], np.ndarray]:
    """Return the cells by their number, and where each stands in the file."""
    cells, numbers = table.text("ops"), table.numbers("index")
    order = np.argsort(numbers)
    if not np.array_equal(numbers[order], np.arange(len(numbers))):
        raise FileFormatError(f"{table.path}: column 'index' is not 0, 1, 2 and so on, each once; fetch it again")
    for line, cell in enumerate(cells, start=2):
        if not re.fullmatch(f"[0-{len(OPERATIONS) - 1}]{{{len(EDGES)}}}", cell):
            raise FileFormatError(f"{table.path}: line {line}: cell {cell[:40]!r}; allowed: six digits of 0 to 4")
    return tuple(cells[place] for place in order), order


def cell_digits(spelling: str) -> str:
    """Return the six digits of ``|nor_conv_3x3~0|+|skip_connect~0|none~1|+|...|``.

    Raises:
        ValueError: It is not so spelled.
    """
    edges = [edge.partition("~") for node in spelling.split("+") for edge in node.strip("|").split("|")]
    if [source for _, _, source in edges] != [str(source) for source, _ in EDGES]:
        raise ValueError(f"cell {spelling[:120]!r}; allowed: |op~0|+|op~0|op~1|+|op~0|op~1|op~2|")
    return "".join(str(OPERATIONS.index(operation)) for operation, _, _ in edges)


def live_edges(cell: str) -> list[int]:
    """Return the numbers of the edges on a path from the cell's input to its output."""
    there = [(edge, *EDGES[edge]) for edge, digit in enumerate(cell) if digit != "0"]
    reached, needed = {0}, {OUTPUT}
    for _, source, target in sorted(there, key=lambda edge: edge[2]):
        reached |= {target} if source in reached else set()
    for _, source, target in sorted(there, key=lambda edge: -edge[1]):
        needed |= {source} if target in needed else set()
    return [edge for edge, source, target in there if source in reached and target in needed]


def cell_amounts(cell: str) -> list[float]:
    """Return the operations of a cell, of every edge and of the live ones, by ``AMOUNTS``."""
    live = live_edges(cell)
    every, running = Counter(cell), Counter(cell[edge] for edge in live)
    sums = len(live) - len({EDGES[edge][1] for edge in live})
    digits = [str(digit) for digit in range(1, len(OPERATIONS))]
    return [1.0, *(float(every[digit]) for digit in digits), *(float(running[digit]) for digit in digits), float(sums)]


def amounts_of(cells: Sequence[str]) -> Floats:
    """Return ``cell_amounts`` of each cell, ``(n, amounts)``."""
    return np.array([cell_amounts(cell) for cell in cells])
