"""What a search job is told: the device, the networks, the goal, and how much to do."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from latency_tables import FULL, Device, MeasuringPlan
from nas.defaults import BUDGET, FINALISTS, MOST_FINALISTS, SPACE
from nas.errors import UsageError
from nas.export.goal import DEFAULT, Goal
from nas.search import TRAINING

FROM_SCRATCH = ("proxyless", "proxyless:reinforce")  # strategies that may begin with random weights


@dataclass(frozen=True)
class SearchJob:
    """What to search and how.

    Attributes:
        device: What the networks are for.
        out: Folder of the results; it must be absent or empty.
        supernet: A shipped supernet's name, or the folder or file of one; if untrained, a space.
        space: Name of the space that the supernet must be of; None takes what it is of.
        untrained: Whether there are no weights: accuracy is then predicted only, by ``accuracy_predictor``.
        accuracy_predictor: Its file; None takes the one beside the supernet.
        data: As in ``matching_splits``.
        limit_ms: Latency budget in milliseconds; None searches the whole front.
        limits: Other budgets: ``size`` and ``memory`` in millions of bytes, ``macs`` in millions.
        objectives: What to make large or small: names of ``goal.FIGURES``.
        confident: Whether the upper end of the predicted interval must be within the latency budget.
        strategy: Name of the search strategy.
        from_scratch: Whether a strategy that trains begins with random weights, not with the supernet's.
        budget: Candidates to score.
        seed: Of everything random.
        finalists: Networks of the predicted front to verify.
        recalibrate: Whether to measure the device anew even if its calibration is known.
        storage: File of the search's state or URL of an Optuna storage, to go on from; None keeps none.
        plan: The measuring protocol's numbers for the verification.
    """

    device: Device
    out: Path
    supernet: str | Path = SPACE
    space: str | None = None
    data: str | Path | None = None
    limit_ms: float | None = None
    limits: Mapping[str, float] = field(default_factory=dict)
    objectives: tuple[str, ...] = DEFAULT
    confident: bool = False
    strategy: str = "evolution"
    from_scratch: bool = False
    budget: int = BUDGET
    seed: int = 0
    finalists: int = FINALISTS
    recalibrate: bool = False
    storage: str | Path | None = None
    untrained: bool = False
    accuracy_predictor: Path | None = None
    plan: MeasuringPlan = FULL

    def __post_init__(self) -> None:
        _ = self.goal  # refuses what cannot be one
        if not 1 <= self.finalists <= MOST_FINALISTS:
            raise UsageError(f"{self.finalists} finalists; allowed: 1 to {MOST_FINALISTS}")
        in_file = self.storage is not None and "://" not in str(self.storage)
        if in_file and self.out.resolve() in Path(str(self.storage)).resolve().parents:
            raise UsageError(f"storage {self.storage} is in the output folder {self.out}; put it elsewhere")
        if self.untrained and self.data is not None:
            raise UsageError(f"images {self.data} for untrained weights; name the supernet, or leave out the images")
        trains = self.strategy in TRAINING
        if trains and self.untrained:
            raise UsageError(f"strategy {self.strategy!r} trains, without weights and images; name a supernet")
        if self.from_scratch and self.strategy not in FROM_SCRATCH:
            raise UsageError(f"from scratch with strategy {self.strategy!r}; allowed: {', '.join(FROM_SCRATCH)}")

    @property
    def goal(self) -> Goal:
        """Its objectives and limits."""
        latency = {} if self.limit_ms is None else {"latency": self.limit_ms}
        return Goal(self.objectives, {**latency, **self.limits}, self.confident)
