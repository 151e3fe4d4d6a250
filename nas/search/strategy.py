"""What every strategy offers, and which there are.

A new strategy is one file, one line of registration here, and one line in the contract test.

A strategy is built from ``(problem, budget, rng)`` and must be deterministic: given the same generator and told the
same scores, it asks for the same rows. No more is needed to resume: the loop asks again and tells what it had stored.
"""

from collections.abc import Mapping
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from nas.registry import Registry
from nas.search.problem import Genes, Problem


class Strategy(Protocol):
    """Proposes candidates and learns from their scores."""

    def ask(self, n: int) -> Genes:
        """Return up to ``n`` canonical rows ``(k, num_genes)``, none of them asked before; no row: nothing is left."""

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        """Take in the scores ``{name: (k,)}`` of all rows of the last ``ask``, in its order."""


class StrategyFactory(Protocol):
    """How a strategy is built: its class, as a rule."""

    def __call__(self, problem: Problem, budget: int, rng: np.random.Generator) -> Strategy:
        """Build it for ``budget`` evaluations in all."""


TRAINING = {
    "proxyless": ("mbconv",), "proxyless:reinforce": ("mbconv",), "slimming": ("mbconv", "metaformer"),
}  # fmt: skip
"""Strategies that need a problem's ``training``, and the families of spaces that they can train."""
OPTUNA = "optuna:"  # what names begin with that end in one of Optuna's samplers, those below or any other

COMPARED = "experiments/search/README.md"  # of the repository
OPTUNA_TARGET = "nas.search.optuna_samplers:OptunaStrategy"
STRATEGIES = Registry("strategy")  # the last of each is what it adds to the scoring of a candidate
STRATEGIES.register(
    "evolution", "nas.search.evolution:Evolution", "the whole front at once (NSGA-II on arrays); the default", "2 µs"
)
STRATEGIES.register("random", "nas.search.random:Random", "the baseline: uniform sampling without repeats", "1 µs")
STRATEGIES.register(
    "aging", "nas.search.aging:Aging", "noisy scores: regularised evolution, the oldest die however good", "15 µs"
)
STRATEGIES.register("local", "nas.search.local:Local", "small spaces: neighbours of the front, with restarts", "10 µs")
STRATEGIES.register(
    "linas", "nas.search.linas:Linas", "costly scores, 25 to some 1,000: a predictor is refitted each round", "4 ms"
)
STRATEGIES.register(
    "rl",
    "nas.search.rl:ReinforcementLearning",
    "one trade-off, MnasNet's: a controller learns to draw by reward",
    "2 ms",
)
STRATEGIES.register(
    "entropy",
    "nas.search.entropy:MaximumEntropy",
    "training-free: the most expressive within limits (MAE-NAS)",
    "4 µs",
)
STRATEGIES.register(
    "proxyless", "nas.search.proxyless:Proxyless", "one network for one latency: trains as it searches", "minutes once"
)
STRATEGIES.register(
    "proxyless:reinforce", "nas.search.proxyless:ProxylessReinforce", "the same by rewards", "minutes once"
)
STRATEGIES.register(
    "slimming", "nas.search.slimming:Slimming", "from the largest down: least accuracy lost per ms", "a minute once"
)
STRATEGIES.register("optuna:nsgaii", OPTUNA_TARGET, "comparison: Optuna's NSGA-II", "4 ms")
STRATEGIES.register("optuna:nsgaiii", OPTUNA_TARGET, "many objectives: Optuna's NSGA-III", "4 ms")
STRATEGIES.register("optuna:tpe", OPTUNA_TARGET, "some hundred costly scores: Optuna's TPE", "10 ms")
STRATEGIES.register("optuna:gp", OPTUNA_TARGET, "some ten costly scores: Optuna's Gaussian process", "0.2 s")


def get_strategy(name: str) -> StrategyFactory:
    """Return the factory registered under ``name``, or that of any of Optuna's samplers, ``optuna:<sampler>``.

    Raises:
        UsageError: The name is unknown; the message lists the names.
    """
    if name.startswith(OPTUNA):
        from nas.search.optuna_samplers import with_sampler  # takes half a second to import

        return with_sampler(name.removeprefix(OPTUNA))
    return STRATEGIES.get(name)


def list_strategies() -> dict[str, str]:
    """Return each strategy's name and what it is for, in one line."""
    return {name: entry.summary for name, entry in STRATEGIES.entries.items()}
