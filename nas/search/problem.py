"""What is searched: a space, what to make large or small, what must hold, and how candidates are scored."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from nas.errors import UsageError
from nas.search.fronts import Losses

if TYPE_CHECKING:
    from nas.search.training import Trainable  # takes a second to import, and few strategies train

Genes = NDArray[np.int8]
Scores = dict[str, NDArray[np.float64]]
Bounds = tuple[float | None, float | None]

DIRECTIONS = {"max": -1.0, "min": 1.0}


class Space(Protocol):
    """What the search asks of a space; ``search_spaces.SearchSpace`` has it all. Rows returned are canonical."""

    @property
    def name(self) -> str:
        """What it is called."""

    @property
    def digest(self) -> str:
        """Short hash of all that can be chosen: equal digests, equal networks behind equal rows."""

    @property
    def num_genes(self) -> int:
        """Length of a row."""

    @property
    def cardinalities(self) -> NDArray[np.int64]:
        """Number of values of each gene, ``(num_genes,)``."""

    @property
    def size(self) -> int:
        """Exact number of distinct networks."""

    def canonical(self, genes: Genes) -> Genes:
        """Return the canonical rows of the same networks, for any genes that are in range."""

    def encode(self, genes: Genes) -> NDArray[np.float32]:
        """Return features ``(n, num_features)``, equal for equal networks, to learn from."""

    def sample(self, n: int, rng: np.random.Generator) -> Genes:
        """Draw ``(n, num_genes)``."""

    def mutate(self, genes: Genes, rng: np.random.Generator, rate: float) -> Genes:
        """Redraw each gene with probability ``rate``."""

    def crossover(self, a: Genes, b: Genes, rng: np.random.Generator) -> Genes:
        """Mix two populations of equal length row by row."""


@dataclass(frozen=True)
class Problem:
    """A search problem.

    Args:
        space: What can be chosen.
        objectives: Name to ``"max"`` or ``"min"``; the first is the one that ``SearchResult.best`` looks at first.
        constraints: Name to ``(low, high)``, both inclusive; None leaves that side open.
        evaluate: Genes ``(n, num_genes)`` to ``{name: (n,)}`` with finite values for every objective and constraint;
            more names are kept in the history. It must not change the genes.
        repeatable: Whether the same genes score the same again; what is measured does not. Then scores that a storage
            holds are compared with new ones before they are believed.
        screen: The scores of the constraints alone, where they cost much less than ``evaluate``; a strategy may draw
            more candidates than it proposes, and propose those that meet them.
        training: Weights and images, for strategies that train while they search; None where there are scores alone.

    Raises:
        UsageError: No objective, an unknown direction, or bounds that are crossed or not numbers.
    """

    space: Space
    objectives: Mapping[str, str]
    constraints: Mapping[str, Bounds]
    evaluate: Callable[[Genes], Mapping[str, NDArray[np.floating]]]
    repeatable: bool = True
    screen: Callable[[Genes], Mapping[str, NDArray[np.floating]]] | None = None
    training: "Trainable | None" = None

    def __post_init__(self) -> None:
        if not self.objectives:
            raise UsageError("no objective; give at least one, such as {'accuracy': 'max'}")
        for name, direction in self.objectives.items():
            if direction not in DIRECTIONS:
                raise UsageError(f"objective {name!r} has direction {direction!r}; allowed: 'max', 'min'")
        for name, (low, high) in self.constraints.items():
            sides = [bound for bound in (low, high) if bound is not None]
            if not np.isfinite(sides).all() or sides != sorted(sides):
                raise UsageError(f"constraint {name!r} is ({low}, {high}); allowed: low ≤ high, None for an open side")

    @property
    def names(self) -> tuple[str, ...]:
        """Every score that objectives and constraints need."""
        return tuple(dict.fromkeys([*self.objectives, *self.constraints]))

    def score(self, genes: Genes) -> Scores:
        """Evaluate ``(n, num_genes)`` and check what comes back.

        Raises:
            UsageError: A score is missing, is not ``(n,)``, or is not finite.
        """
        scores = {name: np.asarray(values, np.float64) for name, values in self.evaluate(genes).items()}
        for name in self.names:
            if name not in scores:
                raise UsageError(f"evaluate gave no {name!r}; it gave: {', '.join(scores) or 'nothing'}")
        for name, values in scores.items():
            if values.shape != (len(genes),):
                raise UsageError(f"evaluate gave {name!r} of shape {values.shape}; allowed: ({len(genes)},)")
            if not np.isfinite(values).all():
                bad = np.count_nonzero(~np.isfinite(values))
                raise UsageError(f"evaluate gave {name!r} that is not finite for {bad} of {len(genes)} candidates")
        return scores

    def losses(self, scores: Mapping[str, NDArray[np.floating]]) -> Losses:
        """Return the objectives as ``(n, m)``, all to be minimised, in the order of ``objectives``."""
        return np.stack([DIRECTIONS[how] * scores[name] for name, how in self.objectives.items()], axis=1)

    def violations(self, scores: Mapping[str, NDArray[np.floating]]) -> NDArray[np.float64]:
        """Return by how much each candidate breaks the constraints, ``(n,)``: 0 is feasible.

        Each side counts relative to the size of its bound, so that constraints in different units add up.
        """
        total = np.zeros(len(next(iter(scores.values()))))
        for name, (low, high) in self.constraints.items():
            if low is not None:
                total += np.maximum(low - scores[name], 0.0) / (abs(low) or 1.0)
            if high is not None:
                total += np.maximum(scores[name] - high, 0.0) / (abs(high) or 1.0)
        return total
