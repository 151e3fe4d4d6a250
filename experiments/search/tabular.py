"""NAS-Bench-201's cells as a search space, with published accuracies and latencies as its scores."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.search import Problem
from nas.search.problem import Genes, Scores
from nasbench import get_benchmark

EDGES, OPERATIONS = 6, 5
ACCURACY, DEVICE = "cifar100_test_200ep", "pixel3"
WITHIN = 0.5  # quantile of all latencies that the constrained problem allows


@dataclass(frozen=True)
class CellSpace:
    """Six edges of five operations: 15,625 cells, every row one of its own."""

    name: str = "nasbench201"
    digest: str = "6x5"
    num_genes: int = EDGES
    size: int = OPERATIONS**EDGES
    cardinalities: NDArray[np.int64] = field(default_factory=lambda: np.full(EDGES, OPERATIONS))

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        """Draw ``(n, 6)``."""
        return rng.integers(OPERATIONS, size=(n, EDGES), dtype=np.int8)

    def canonical(self, genes: Genes) -> Genes:
        """Return the rows as they are."""
        return np.array(genes, np.int8)

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        """Redraw each edge with probability ``rate``."""
        return np.where(rng.random(genes.shape) < rate, self.sample(len(genes), rng), genes)

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        """Take each edge from one of the two parents."""
        return np.where(rng.random(a.shape) < 0.5, a, b)

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        """Return the operations as one-hot features ``(n, 30)``."""
        return np.eye(OPERATIONS, dtype=np.float32)[genes].reshape(len(genes), -1)


@dataclass(frozen=True)
class Tables:
    """Everything known of every cell, by the number that its digits spell, ``(15625,)`` each."""

    accuracy: NDArray[np.float64]
    latency_ms: NDArray[np.float64]

    def evaluate(self, genes: Genes) -> Scores:
        """Look rows ``(n, 6)`` up."""
        place = genes.astype(np.int64) @ OPERATIONS ** np.arange(EDGES - 1, -1, -1)
        return {"accuracy": self.accuracy[place], "latency_ms": self.latency_ms[place]}

    @property
    def limit_ms(self) -> float:
        """The latency that half of the cells are within."""
        return float(np.quantile(self.latency_ms, WITHIN))

    def front_problem(self) -> Problem:
        """Accuracy against latency: the whole front."""
        return Problem(CellSpace(), {"accuracy": "max", "latency_ms": "min"}, {}, self.evaluate)

    def limited_problem(self) -> Problem:
        """The most accurate within the limit."""
        return Problem(CellSpace(), {"accuracy": "max"}, {"latency_ms": (None, self.limit_ms)}, self.evaluate)


def read_tables(data: Path) -> Tables:
    """Read both tables, which number the cells alike."""
    accuracies = get_benchmark("nasbench201", data)
    latencies = get_benchmark("help-nasbench201", data)
    place = np.array([int(cell, OPERATIONS) for cell in accuracies.networks])
    tables = Tables(np.empty(len(place)), np.empty(len(place)))
    tables.accuracy[place] = accuracies.accuracy[ACCURACY]
    again = np.array([int(cell, OPERATIONS) for cell in latencies.networks])
    tables.latency_ms[again] = latencies.latency_ms[DEVICE]
    return tables
