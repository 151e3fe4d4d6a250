"""A small space and its true front, for tests of strategies: yours as well as ours."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.search.problem import Genes, Problem, Scores
from nas.search.result import Scored, front_of
from nas.search.training import Actions, Paths, Schedule
from supernets.paths import Gate


@dataclass(frozen=True)
class ToySpace:
    """A chain of up to ``blocks`` blocks of ``choices`` kinds: gene 0 is how many are left out, the others are kinds.

    Genes of blocks left out are zero in canonical rows, as in the real spaces.
    """

    blocks: int = 6
    choices: int = 3
    name: str = "toy"

    @property
    def digest(self) -> str:
        """What distinguishes it."""
        return f"{self.blocks}x{self.choices}"

    @property
    def num_genes(self) -> int:
        """One for the depth, one for each block."""
        return self.blocks + 1

    @property
    def cardinalities(self) -> NDArray[np.int64]:
        """Depths, then kinds of each block."""
        return np.array([self.blocks, *[self.choices] * self.blocks])

    @property
    def size(self) -> int:
        """Number of distinct chains of one block or more."""
        return sum(self.choices**depth for depth in range(1, self.blocks + 1))

    def canonical(self, genes: NDArray[np.integer]) -> Genes:
        """Return the rows with genes of blocks left out zeroed."""
        rows = np.array(genes, np.int8)
        rows[:, 1:] *= np.arange(self.blocks) < self.blocks - rows[:, :1]
        return rows

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        """Draw ``(n, num_genes)``."""
        depths = rng.integers(self.blocks, size=(n, 1))
        return self.canonical(np.hstack([depths, rng.integers(self.choices, size=(n, self.blocks))]))

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        """Redraw each gene with probability ``rate``."""
        return self.canonical(np.where(rng.random(genes.shape) < rate, self.sample(len(genes), rng), genes))

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        """Take each gene from one of the two parents."""
        return self.canonical(np.where(rng.random(a.shape) < 0.5, a, b))

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        """Return each block's kind as one-hot features; a block left out is all zeros."""
        there = np.arange(self.blocks) < self.blocks - genes[:, :1]
        kinds = (genes[:, 1:, None] == np.arange(self.choices)) & there[:, :, None]
        return kinds.reshape(len(genes), -1).astype(np.float32)

    def entropy(self, genes: Genes) -> NDArray[np.float64]:
        """Return a stand-in for the networks' entropy: a term for each block, larger for later kinds."""
        there = np.arange(self.blocks) < self.blocks - genes[:, :1]
        return np.where(there, np.log(2.0 + genes[:, 1:]), 0).sum(axis=1)

    def everything(self) -> Genes:
        """Return every network once, ``(size, num_genes)``."""
        grid = np.indices((self.blocks, *[self.choices] * self.blocks)).reshape(self.num_genes, -1).T
        return np.unique(self.canonical(grid), axis=0)


def toy_problem(
    space: ToySpace,
    seed: int = 0,
    objectives: dict[str, str] | None = None,
    constraints: dict[str, tuple[float | None, float | None]] | None = None,
) -> Problem:
    """Return a problem whose accuracy has diminishing returns, whose latency adds up, and whose blocks interact."""
    rng = np.random.default_rng(seed)
    cost = rng.uniform(0.1, 1.0, (space.blocks, space.choices))
    worth = cost + rng.normal(0, 0.3, cost.shape)
    pairs = rng.normal(0, 0.2, (space.blocks, space.choices, space.choices))

    def evaluate(genes: Genes) -> dict[str, NDArray[np.float64]]:
        there = np.arange(space.blocks) < space.blocks - genes[:, :1]
        blocks = np.arange(space.blocks)
        chain = np.where(there, worth[blocks, genes[:, 1:]], 0).sum(axis=1)
        both = np.where(there[:, 1:], pairs[blocks[1:], genes[:, 1:-1], genes[:, 2:]], 0).sum(axis=1)
        latency = 0.5 + np.where(there, cost[blocks, genes[:, 1:]], 0).sum(axis=1)
        return {"accuracy": 1 - 0.5 * np.exp(-(chain + both)), "latency_ms": latency}

    training = ToyTraining(space, worth, pairs, evaluate)
    return Problem(
        space, objectives or {"accuracy": "max", "latency_ms": "min"}, constraints or {}, evaluate, training=training
    )


@dataclass(frozen=True)
class ToyTraining:
    """For strategies that train: a loss that is linear in the log of 1 − accuracy, and one weight.

    Attributes:
        space: The chains.
        worth: Of each block and kind, ``(blocks, choices)``.
        pairs: Of each block's kind and the next one's, ``(blocks, choices, choices)``, the first unused.
        evaluate: Scores.
        schedule: How long to train.
    """

    space: ToySpace
    worth: NDArray[np.float64]
    pairs: NDArray[np.float64]
    evaluate: Callable[[Genes], Scores]
    schedule: Schedule = field(default=Schedule(warmup=4, steps=40, every=1, learning_rate=0.1))

    def actions(self, rng: np.random.Generator) -> Actions:
        """Return the steps from a chain to smaller ones."""
        return ToyActions(self.space)

    def paths(self) -> Paths:
        """Return the chain's paths."""
        return ToyPaths(self)


@dataclass(frozen=True)
class ToyActions:
    """One block less, or a block of the kind before."""

    space: ToySpace

    def starts(self) -> Genes:
        """Return the chain of all blocks, each of the last kind."""
        return np.array([[0, *[self.space.choices - 1] * self.space.blocks]], np.int8)

    def smaller(self, row: Genes) -> Genes:
        """Return what each action makes of a chain."""
        change = np.eye(self.space.num_genes, dtype=np.int8) * ([1] + [-1] * self.space.blocks)
        rows = row + change
        valid = ((rows >= 0) & (rows < self.space.cardinalities)).all(axis=1)
        distinct = np.unique(self.space.canonical(rows[valid]), axis=0)
        return distinct[(distinct != row).any(axis=1)]


class ToyPaths:
    """The paths of a chain: how many blocks are left out, then the kind of each block."""

    def __init__(self, training: ToyTraining):
        self._training, self._space = training, training.space
        self.schedule = training.schedule
        self.counts: tuple[int, ...] = tuple(training.space.cardinalities.tolist())
        self.weight = nn.Parameter(torch.zeros(()))

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return the one weight, which is best at 1."""
        return [self.weight]

    def loss(self, gates: Sequence[Gate], rng: np.random.Generator, *, held_out: bool) -> tuple[Tensor, float]:
        """Return the loss and the accuracy of gated kinds and depths."""
        depths, *kinds = (_dense(gate, count) for gate, count in zip(gates, self.counts, strict=True))
        worth, pairs = torch.from_numpy(self._training.worth), torch.from_numpy(self._training.pairs)
        total, ends = torch.zeros((), dtype=torch.float64), []
        for block, kind in enumerate(kinds):
            total = total + kind @ worth[block]
            if block:
                total = total + kinds[block - 1] @ pairs[block] @ kind
            ends.append(total)
        value = depths @ torch.stack(ends[::-1])
        return (1 - self.weight) ** 2 - value / 4, 1 - 0.5 * float(torch.exp(-value.detach()))

    def genes(self, picks: NDArray[np.integer]) -> Genes:
        """Return the rows of options: the genes themselves."""
        return self._space.canonical(picks)

    def costs(self, genes: Genes) -> Mapping[str, NDArray[np.float64]]:
        """Return the scores."""
        return self._training.evaluate(genes)


def _dense(gate: Gate, count: int) -> Tensor:
    """Return the weight of every option of a gate, ``(count,)``."""
    zero = torch.zeros((), dtype=torch.float64)
    return torch.stack([torch.as_tensor(gate.get(option, zero), dtype=torch.float64) for option in range(count)])


def true_front(problem: Problem, space: ToySpace) -> Scored:
    """Return the front of the whole space, by scoring every network."""
    genes = space.everything()
    return front_of(problem, Scored(genes, problem.score(genes)))
