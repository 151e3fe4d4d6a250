"""A pruning's state in one file, replaced whole after each iteration and each epoch: a kill loses at most one."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from nas.errors import FileFormatError
from nas.files import read_tensors, write_tensors

SCHEMA = ("pruning-state", 1)
_MOMENTUM = "momentum/"


@dataclass(frozen=True)
class Iteration:
    """What one iteration did; of iteration 0, the whole network, only the figures.

    Attributes:
        number: From 0.
        target_ms: What it was to get below.
        root: The layer that lost filters, with all that goes with them.
        before: How many it had.
        after: How many it has.
        predicted_ms: Of the network that was kept.
        measured_ms: Of the same.
        score: Of the same, after its short training, over all validation images.
        proposals: Each group's ``{root, after, predicted_ms, score}``, scores over the plan's validation images.
    """

    number: int
    target_ms: float
    root: str
    before: int
    after: int
    predicted_ms: float
    measured_ms: float
    score: float
    proposals: tuple[Mapping[str, Any], ...] = ()


@dataclass(frozen=True, eq=False)
class PruningState:
    """Where a pruning is.

    Attributes:
        tensors: Of the network that is left.
        iterations: What was done so far.
        epochs: Epochs of the long training that are done.
        scores: Over all validation images after each of them.
        momenta: Of the optimizer, between epochs.
    """

    tensors: Mapping[str, Tensor]
    iterations: tuple[Iteration, ...]
    epochs: int = 0
    scores: tuple[float, ...] = ()
    momenta: Mapping[str, Tensor] = field(default_factory=dict)

    def advanced(self, tensors: Mapping[str, Tensor], iteration: Iteration) -> "PruningState":
        """Return the state after one more iteration."""
        return replace(self, tensors=tensors, iterations=(*self.iterations, iteration))

    def timed(self, measured_ms: float) -> "PruningState":
        """Return the state with another latency of the network that is left."""
        return replace(self, iterations=(*self.iterations[:-1], replace(self.iterations[-1], measured_ms=measured_ms)))

    def trained(self, tensors: Mapping[str, Tensor], score: float, momenta: Mapping[str, Tensor]) -> "PruningState":
        """Return the state after one more epoch of the long training."""
        return replace(
            self, tensors=tensors, epochs=self.epochs + 1, scores=(*self.scores, score), momenta=dict(momenta)
        )

    def save(self, path: Path) -> None:
        """Write the state, atomically."""
        momenta = {f"{_MOMENTUM}{name}": value for name, value in self.momenta.items()}
        done = [asdict(iteration) for iteration in self.iterations]
        info = {"iterations": done, "epochs": self.epochs, "scores": list(self.scores)}
        write_tensors(path, {**self.tensors, **momenta}, *SCHEMA, info)


def load_state(path: Path) -> PruningState:
    """Read what ``PruningState.save`` wrote.

    Raises:
        FileFormatError: The file is missing, damaged, or not a pruning's state.
    """
    tensors, info = read_tensors(path, *SCHEMA)
    momenta = {name.removeprefix(_MOMENTUM): tensors.pop(name) for name in list(tensors) if name.startswith(_MOMENTUM)}
    try:
        done = tuple(Iteration(**{**one, "proposals": tuple(one["proposals"])}) for one in info["iterations"])
        return PruningState(tensors, done, info["epochs"], tuple(info["scores"]), momenta)
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{path}: it does not hold a pruning's state ({error}); start again") from error
