"""Configurations tried: built, and run on images in the sessions that ship, each once."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from nas.compression.engine import Engine, Session
from nas.compression.layers import LayeredGraph, Mask
from nas.compression.paired import Difference, paired_difference
from nas.compression.qdq import quantize_graph
from nas.compression.ranges import Ranges
from nas.compression.units import PRODUCTS, expected_kernels
from nas.errors import DeviceError
from supernets.graph import INPUT

Correct = NDArray[np.bool_]
Count = Callable[[Session], Correct]
"""Which images a session gets right, ``(n,)``."""

Progress = Callable[[int, int], None]
"""Called with (done, in all)."""

BATCH = 8  # images per inference; the fastest on one thread


def _silent(done: int, total: int) -> None:
    pass


@dataclass(frozen=True, eq=False)
class Target:
    """How accurate a configuration must be.

    Attributes:
        baseline: Which images fp32 gets right, ``(n,)``.
        max_drop: The fraction of fp32's accuracy that may be lost: 0.001 asks for 99.9 % of it.
        confident: Whether the whole 95 % interval of the paired difference must be within that, not its point estimate
            alone.
    """

    baseline: Correct
    max_drop: float
    confident: bool = False

    @property
    def allowed(self) -> float:
        """The accuracy that may be lost, a fraction of the images."""
        return self.max_drop * float(self.baseline.mean())

    def met_by(self, change: Difference) -> bool:
        """Return whether a change of accuracy is allowed."""
        return (change.low if self.confident else change.value) >= -self.allowed - 1e-9


@dataclass(frozen=True)
class Attempt:
    """A configuration whose accuracy was counted.

    Attributes:
        mask: Which layers are int8.
        stage: What tried it.
        accuracy: Fraction of the validation images.
        change: The paired difference from fp32.
        meets: Whether the target is met.
    """

    mask: Mask
    stage: str
    accuracy: float
    change: Difference
    meets: bool


@dataclass(eq=False)
class Trials:
    """Tries configurations of one network.

    Attributes:
        graph: The network.
        ranges: Of its activations.
        engine: What runs it, as deployed.
        images: Calibration images ``(n, channels, side, side)``.
        labels: Theirs, ``(n,)``.
        count: Which of the validation images a session gets right.
        possible: Which layers the engine runs in integers; the others are left in fp32 whatever a mask says.
    """

    graph: LayeredGraph
    ranges: Ranges
    engine: Engine
    images: NDArray[np.float32]
    labels: NDArray[np.int64]
    count: Count
    possible: Mask
    _losses: dict[Mask, float] = field(default_factory=dict)

    def build(self, mask: Mask) -> ModelProto:
        """Return the graph in a configuration."""
        return quantize_graph(self.graph.model, self.graph.precisions(mask), self.ranges, form=self.engine.quantization)

    def session(self, mask: Mask) -> Session:
        """Return the session that is timed and shipped."""
        return self.engine.session(self.build(mask).SerializeToString())

    def loss(self, mask: Mask) -> float:
        """Return the mean cross-entropy over the calibration images."""
        mask = self.allowed(mask)
        if mask not in self._losses:
            session = self.session(mask)
            batches = range(0, len(self.images), BATCH)
            parts = [session.run(None, {INPUT: self.images[start : start + BATCH]})[0] for start in batches]
            self._losses[mask] = cross_entropy(np.concatenate(parts), self.labels)
        return self._losses[mask]

    def allowed(self, mask: Mask) -> Mask:
        """Return a configuration without the layers that do not run in integers."""
        return tuple(wanted and possible for wanted, possible in zip(mask, self.possible, strict=True))

    def correct(self, mask: Mask) -> Correct:
        """Return which of the validation images a configuration gets right."""
        return self.count(self.session(mask))


def cross_entropy(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Return the mean cross-entropy of logits ``(n, classes)``."""
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    picked = shifted[np.arange(len(labels)), labels]
    return float((np.log(np.exp(shifted).sum(axis=1)) - picked).mean())


def fusable_layers(graph: LayeredGraph, ranges: Ranges, engine: Engine) -> Mask:
    """Return which layers the engine runs in integers when all of them are int8.

    Where it is not all layers, each is tried alone; where those that run alone do not run together, they are taken up
    one by one as long as all that were taken run.

    Raises:
        DeviceError: It runs none.
    """

    def runs(mask: Mask) -> bool:
        precisions = graph.precisions(mask)
        model = quantize_graph(graph.model, precisions, ranges, form=engine.quantization)
        found = engine.integer_kernels(model.SerializeToString())
        wanted = expected_kernels(graph.model, precisions)
        return all(found.get(kind, 0) == wanted.get(kind, 0) for kind in PRODUCTS)

    count = len(graph.layers)
    if runs((True,) * count):
        return (True,) * count
    alone = tuple(runs(only(place, count)) for place in range(count))
    if not any(alone):
        raise DeviceError(
            f"{engine.runtime} runs no layer of this model in integers; nothing can be quantized for it: keep fp32"
        )
    if runs(alone):
        return alone
    together: list[int] = []
    for place in np.flatnonzero(alone).tolist():
        if runs(only([*together, place], count)):
            together.append(place)
    return only(together, count)


def only(place: int | Sequence[int], count: int) -> Mask:
    """Return the configuration in which these layers alone are int8."""
    places = {place} if isinstance(place, int) else set(place)
    return tuple(number in places for number in range(count))


class Attempts:
    """Counts the accuracy of configurations, each once, at most ``budget`` of them.

    Args:
        trials: Builds and runs them.
        target: Judges them.
        budget: How many may be counted.
        progress: Called with (counted, budget).
    """

    def __init__(
        self,
        trials: Trials,
        target: Target,
        budget: int,
        progress: Progress = _silent,
    ) -> None:
        self.trials, self.target, self.budget, self._progress = trials, target, budget, progress
        self._found: dict[Mask, Attempt] = {}

    @property
    def history(self) -> list[Attempt]:
        """All of them in their order."""
        return list(self._found.values())

    @property
    def left(self) -> int:
        """How many may still be counted."""
        return self.budget - len(self._found)

    def meets(self, mask: Mask, stage: str) -> bool:
        """Return whether a configuration meets the target; False, uncounted, where the budget is spent."""
        mask = self.trials.allowed(mask)
        if not any(mask):
            return True
        if mask not in self._found:
            if self.left <= 0:
                return False
            correct = self.trials.correct(mask)
            change = paired_difference(correct, self.target.baseline)
            self._found[mask] = Attempt(mask, stage, float(correct.mean()), change, self.target.met_by(change))
            self._progress(len(self._found), self.budget)
        return self._found[mask].meets
