"""What a job looks for: its objectives and limits, by the names that the command line gives them."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from latency_tables.network_costs import NetworkCosts
from nas.errors import UsageError
from nas.export.scoring import Scoring
from nas.registry import unknown_name
from nas.search import Problem
from nas.search.problem import Bounds, Scores
from search_spaces import Genes, SearchSpace


@dataclass(frozen=True)
class Figure:
    """A figure of a network: its name among the scores, which way it is better, and its unit."""

    score: str
    direction: str
    unit: str = ""


FIGURES = {
    "accuracy": Figure("accuracy", "max"),
    "latency": Figure("latency_ms", "min", "ms"),
    "size": Figure("size_mb", "min", "MB"),
    "macs": Figure("macs_m", "min", "million"),
    "memory": Figure("memory_mb", "min", "MB"),
}
DEFAULT = ("accuracy", "latency")
COUNTED = ("size", "macs", "memory")  # exact, not predicted
PESSIMISTIC = "latency_high_ms"  # the upper end of the predicted interval
LATENCY, AT = "latency", "@"  # ``latency@NAME`` is that on one device of several
RATIO = Figure("latency_ratio", "min")  # what ``latency`` is on several; ``one_for_all`` defines it


def figures_of(devices: Sequence[str]) -> dict[str, Figure]:
    """Return the figures of networks for several devices, by the names that objectives and limits have."""
    if not devices:
        return FIGURES
    each = {f"{LATENCY}{AT}{name}": Figure(f"latency_ms{AT}{name}", "min", "ms") for name in devices}
    return {**FIGURES, LATENCY: RATIO, **each}


@dataclass(frozen=True)
class Goal:
    """Objectives and limits.

    Attributes:
        objectives: Names of ``figures``.
        limits: Name to the most that is allowed, in the figure's unit.
        confident: Whether the upper end of the predicted interval, not its middle, must be within the latency's limit.
        devices: Names of the devices where there are several: then ``latency@NAME`` is a figure of each, and
            ``latency`` the ratio that ``one_for_all`` defines.

    Raises:
        UsageError: A name is unknown or twice, a limit is no number above 0, or there is nothing to be confident of.
    """

    objectives: tuple[str, ...] = DEFAULT
    limits: Mapping[str, float] = field(default_factory=dict)
    confident: bool = False
    devices: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for kind, names in (("objective", self.objectives), ("budget", self.limits)):
            for name in names:
                if name not in self.figures:
                    raise unknown_name(kind, name, self.figures)
        if len(set(self.objectives)) < len(self.objectives) or not self.objectives:
            raise UsageError(f"objectives {', '.join(self.objectives) or 'none'}; allowed: one or more, none twice")
        for name, limit in self.limits.items():
            if not 0 < limit < math.inf:
                raise UsageError(f"{name} budget {limit} {self.figures[name].unit}; allowed: a number above 0")
        if self.confident and not any(map(_is_latency, self.limits)):
            raise UsageError("confident without a latency budget; name one with --latency, or leave out --confident")

    @property
    def figures(self) -> dict[str, Figure]:
        """What may be an objective or a limit."""
        return figures_of(self.devices)

    def problem(self, space: SearchSpace) -> Problem:
        """Return what is searched, still without scores."""
        directions = {self.figures[name].score: self.figures[name].direction for name in self.objectives}
        bounds: dict[str, Bounds] = {self._limited(name): (None, limit) for name, limit in self.limits.items()}
        return Problem(space, directions, bounds, _not_scored)

    def _limited(self, name: str) -> str:
        score = self.figures[name].score
        return score.replace("latency_ms", PESSIMISTIC) if self.confident else score

    def scores(self, genes: Genes, scorer: Scoring, costs: NetworkCosts) -> Scores:
        """Return what the search needs of genes ``(n, num_genes)``, and accuracy and latency in any case."""
        found = scorer.score(genes, pessimistic=self.confident)
        for name in COUNTED:
            if name in self.objectives or name in self.limits:
                found[FIGURES[name].score] = costs.predict(genes, FIGURES[name].score)
        return found

    def within(self, counted: Mapping[str, float]) -> bool:
        """Return whether a network's counted figures, by the names of scores, are within the limits."""
        return all(
            counted[FIGURES[name].score] <= self.limits[name]
            for name in COUNTED
            if name in self.limits and FIGURES[name].score in counted
        )


def counted_figures(genes: Genes, costs: NetworkCosts) -> list[dict[str, float]]:
    """Return the exact figures of each of ``(n, num_genes)``, by the names of scores."""
    columns: dict[str, NDArray[np.float64]] = {
        FIGURES[name].score: costs.predict(genes, FIGURES[name].score) for name in COUNTED
    }
    return [{name: float(values[row]) for name, values in columns.items()} for row in range(len(genes))]


def _is_latency(name: str) -> bool:
    return name.partition(AT)[0] == LATENCY


def _not_scored(genes: Genes) -> Scores:
    raise RuntimeError("the device is not calibrated yet")
