"""What strategies that train while they search work on: a supernet's paths, images, and what a network costs.

Where a problem has no such thing (scores from a table, say), those strategies refuse it.
"""

import copy
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from nas.errors import UsageError
from nas.search.problem import Genes, Problem
from nas.search.strategy import TRAINING
from search_spaces import MBConvSpace, SearchSpace
from search_spaces.slimming import SlimmingActions
from supernets import Supernet
from supernets.datasets import ImageSet
from supernets.importance import block_importance
from supernets.mbconv import MBConvSupernet
from supernets.paths import Gate, MBConvPaths

Costs = Callable[[Genes], Mapping[str, NDArray[np.floating]]]
"""Canonical rows ``(n, num_genes)`` to predicted figures ``(n,)``; the names of latencies begin with ``latency``."""

IMPORTANCE_SHARE = 0.2  # of a schedule's steps, for the importance of blocks
MOST_EPOCHS = 20  # over few images
PROBES = 256  # random networks whose latencies tell the fastest precision


@dataclass(frozen=True)
class Schedule:
    """How long a strategy trains.

    Attributes:
        warmup: Steps of the weights before the architecture moves.
        steps: Steps of the weights after that.
        every: Steps of the weights for each step of the architecture.
        learning_rate: Of the weights, falling to 0 along a cosine.
        batch_size: Images of a step.
    """

    warmup: int
    steps: int
    every: int
    learning_rate: float
    batch_size: int = 64

    def within(self, images: int) -> "Schedule":
        """Return it no longer than ``MOST_EPOCHS`` passes over so many training images, at one step of each kind."""
        factor = min(1.0, MOST_EPOCHS * images / self.batch_size / (self.warmup + self.steps))
        return replace(self, warmup=round(self.warmup * factor), steps=max(self.every, round(self.steps * factor)))


TRAINED = Schedule(warmup=0, steps=500, every=1, learning_rate=0.01)
"""Of weights that are trained already."""
SCRATCH = Schedule(warmup=2000, steps=4000, every=5, learning_rate=0.05)
"""Of random weights."""


class Paths(Protocol):
    """A network of gated paths that trains."""

    counts: tuple[int, ...]
    """Options of each choice."""
    schedule: Schedule

    def parameters(self) -> Iterable[nn.Parameter]:
        """Return its weights."""

    def loss(self, gates: Sequence[Gate], rng: np.random.Generator, *, held_out: bool) -> tuple[Tensor, float]:
        """Return loss and accuracy on a batch of training images, or of images held out from the weights."""

    def genes(self, picks: NDArray[np.integer]) -> Genes:
        """Return the canonical rows of options ``(n, choices)``."""

    def costs(self, genes: Genes) -> Mapping[str, NDArray[np.floating]]:
        """Return predicted figures of canonical rows, ``(n,)`` each."""


class Actions(Protocol):
    """The steps from a network to smaller ones that slimming takes."""

    def starts(self) -> Genes:
        """Return the networks to begin with, ``(n, num_genes)``."""

    def smaller(self, row: Genes) -> Genes:
        """Return what each action makes of a row ``(num_genes,)``, ``(actions, num_genes)``."""


class Trainable(Protocol):
    """What a problem has for strategies that train."""

    def actions(self, rng: np.random.Generator) -> Actions:
        """Return the actions, after its blocks were given importances.

        Raises:
            UsageError: The network is of a family that cannot be slimmed.
        """

    def paths(self) -> Paths:
        """Return the paths of a copy of its network, weights as they were.

        Raises:
            UsageError: The network is of a family without paths.
        """


@dataclass(frozen=True)
class SupernetTraining:
    """A supernet and its images.

    Attributes:
        supernet: Its weights are copied, never changed.
        space: Of its networks, with the device's menu of precisions.
        train: Images that move weights.
        validation: Images that move what chooses between paths.
        costs: Predicts.
        schedule: How long to train.
    """

    supernet: Supernet
    space: SearchSpace
    train: ImageSet
    validation: ImageSet
    costs: Costs
    schedule: Schedule

    def actions(self, rng: np.random.Generator) -> Actions:
        check_family("slimming", self.space)
        steps = max(1, round(self.schedule.steps * IMPORTANCE_SHARE))
        importance = block_importance(
            self.supernet, self.train, steps=steps, batch_size=self.schedule.batch_size, rng=rng
        )
        return SlimmingActions(self.space, importance)

    def paths(self) -> Paths:
        check_family("proxyless", self.space)
        assert isinstance(self.supernet, MBConvSupernet) and isinstance(self.space, MBConvSpace)
        return SupernetPaths(self, MBConvPaths(copy.deepcopy(self.supernet).train(), self.space))


class SupernetPaths:
    """The paths of a supernet, on its images.

    All of a network is in one precision, that of the menu in which random networks are fastest: training is in floating
    point and could not tell precisions apart.
    """

    def __init__(self, training: SupernetTraining, paths: MBConvPaths):
        self._training, self._paths = training, paths
        self.schedule = training.schedule
        self.counts: tuple[int, ...] = tuple(len(choice.values) for choice in paths.choices)
        space = training.space
        draws = space.sample(PROBES, np.random.default_rng(0))
        figures = {one: training.costs(space.with_precision(draws, one)) for one in space.precisions}
        latencies = [name for name in figures[space.precisions[0]] if name.startswith("latency")]
        self._precision = min(
            space.precisions, key=lambda one: sum(float(figures[one][name].mean()) for name in latencies)
        )

    def parameters(self) -> Iterable[nn.Parameter]:
        return self._paths.supernet.parameters()

    def loss(self, gates: Sequence[Gate], rng: np.random.Generator, *, held_out: bool) -> tuple[Tensor, float]:
        images = self._training.validation if held_out else self._training.train
        drawn = torch.from_numpy(rng.integers(len(images), size=self.schedule.batch_size))
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(int(rng.integers(2**62)))  # dropout draws from torch's own generator
            logits = self._paths.logits(images.images[drawn], gates)
        labels = images.labels[drawn]
        return F.cross_entropy(logits, labels), float((logits.argmax(1) == labels).float().mean())

    def genes(self, picks: NDArray[np.integer]) -> Genes:
        return self._paths.genes(picks, self._precision)

    def costs(self, genes: Genes) -> Mapping[str, NDArray[np.floating]]:
        return self._training.costs(genes)


def check_family(strategy: str, space: SearchSpace) -> None:
    """Check that a strategy, if it trains, can train the networks of a space.

    Raises:
        UsageError: It cannot.
    """
    families, family = TRAINING.get(strategy, ()), space.preset.family
    if families and family not in families:
        raise UsageError(
            f"strategy {strategy!r} on {space.name!r}, whose family is {family!r}; allowed: {', '.join(families)}; "
            "name another space or strategy"
        )


def training_of(problem: Problem, strategy: str) -> Trainable:
    """Return what a strategy that trains works on.

    Raises:
        UsageError: The problem has scores alone.
    """
    if problem.training is None:
        raise UsageError(
            f"strategy {strategy!r} trains while it searches, and this problem has scores alone; give it a supernet "
            "and images as Problem(training=...), or name another strategy"
        )
    return problem.training
