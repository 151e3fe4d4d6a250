"""The numbers of NetAdapt and of the trainings in it."""

from dataclasses import asdict, dataclass
from typing import Any

from nas.errors import UsageError

LEAST_STEP = 0.25  # of the first step: the schedule of the paper ends at 62.5 % less, this one reaches any latency


@dataclass(frozen=True)
class PruningPlan:
    """Yang et al., "NetAdapt", ECCV 2018, as FastDepth uses it.

    Attributes:
        step: The first iteration lowers the latency by this fraction of the whole network's.
        decay: Each further one by this factor less, never by less than a quarter of the first.
        short_steps: Training steps of each proposal before it is judged.
        short_rate: Their learning rate.
        long_epochs: Epochs of the pruned network at the end.
        long_rate: Their first learning rate; it falls to 0 along a cosine.
        batch_size: Images a step.
        momentum: Of SGD with Nesterov's.
        weight_decay: Of SGD.
        importance_batches: Batches whose gradients Taylor's importance takes.
        validation_images: At most so many judge a proposal; all judge the network that is kept.
    """

    step: float = 0.025
    decay: float = 0.96
    short_steps: int = 10
    short_rate: float = 1e-3
    long_epochs: int = 10
    long_rate: float = 1e-2
    batch_size: int = 64
    momentum: float = 0.9
    weight_decay: float = 4e-5
    importance_batches: int = 4
    validation_images: int = 2000

    def __post_init__(self) -> None:
        for name, low, high in (("step", 0.001, 0.9), ("decay", 0.5, 1.0)):
            if not low <= getattr(self, name) <= high:
                raise UsageError(f"pruning plan: {name} {getattr(self, name)}; allowed: {low} to {high}")
        for name in ("short_steps", "long_epochs", "batch_size"):
            least = 2 if name == "batch_size" else 0
            if getattr(self, name) < least:
                raise UsageError(f"pruning plan: {name} {getattr(self, name)}; allowed: {least} and above")

    def reduction(self, iteration: int) -> float:
        """Return the fraction of the whole network's latency that an iteration, from 1, takes off."""
        return max(self.step * self.decay ** (iteration - 1), LEAST_STEP * self.step)

    def to_dict(self) -> dict[str, Any]:
        """Return the numbers by name."""
        return asdict(self)
