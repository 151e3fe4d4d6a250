"""Optuna's samplers (Akiba et al., 2019) as strategies: ``optuna:nsgaii``, ``optuna:tpe`` and whatever else there is.

A gene is a categorical parameter; a network a trial. Genes of a block that is left out mean nothing, so several trials
can be one network: the second is told the scores of the first and never proposed. Where a sampler brings nothing new in
some trials, a mutant of its last proposal is enqueued in the study instead. Objectives are minimised, constraints are
Optuna's (at most 0 is feasible).
"""

import functools
import importlib
import inspect
from collections.abc import Mapping, Sequence
from typing import TypeGuard

import numpy as np
import optuna
from numpy.typing import NDArray

from nas.errors import UsageError
from nas.registry import unknown_name
from nas.search.offspring import no_rows, unseen_mutants
from nas.search.problem import Genes, Problem
from nas.search.storages import quiet_optuna
from nas.search.strategy import StrategyFactory
from nas.search.unique import Seen

Sampler = type[optuna.samplers.BaseSampler]

REPEATS = 4  # trials in a row that propose what is known, before a mutant takes their place


def with_sampler(name: str) -> StrategyFactory:
    """Return the strategy of a sampler: ``tpe`` is Optuna's ``TPESampler``, ``package.module.Class`` anybody's.

    Raises:
        UsageError: There is no such sampler, or it cannot be built from a seed alone.
    """
    return functools.partial(OptunaStrategy, sampler=_foreign(name) if "." in name else _own(name))


def _own(name: str) -> Sampler:
    found: dict[str, Sampler] = {}
    for attribute in optuna.samplers.__all__:
        value = getattr(optuna.samplers, attribute)
        if _takes_a_seed_alone(value):
            found[attribute.removesuffix("Sampler").casefold()] = value
    if name.casefold() not in found:
        raise unknown_name("sampler of Optuna", name, found)
    return found[name.casefold()]


def _foreign(name: str) -> Sampler:
    module, _, attribute = name.rpartition(".")
    try:
        value = getattr(importlib.import_module(module), attribute)
    except (ImportError, AttributeError) as error:
        raise UsageError(f"sampler {name!r} cannot be imported ({error}); allowed: package.module.Class") from error
    if not _takes_a_seed_alone(value):
        raise UsageError(f"sampler {name!r}; allowed: a class of Optuna's samplers that is built from a seed alone")
    return value


def _takes_a_seed_alone(value: object) -> TypeGuard[Sampler]:
    if not inspect.isclass(value) or not issubclass(value, optuna.samplers.BaseSampler) or inspect.isabstract(value):
        return False
    parameters = inspect.signature(value).parameters
    needed = [one for one in parameters.values() if one.default is one.empty and one.name != "seed"]
    return "seed" in parameters and not needed


class OptunaStrategy:
    """Ask and tell, one network at a time; a part of the population at a time where the sampler has one.

    Args:
        problem: What is searched.
        budget: Candidates in all.
        rng: Seeds the sampler.
        sampler: Its class.
    """

    def __init__(
        self,
        problem: Problem,
        budget: int,
        rng: np.random.Generator,
        *,
        sampler: Sampler,
    ):
        self._problem, self._space, self._rng = problem, problem.space, rng
        with quiet_optuna():
            made = sampler(seed=int(rng.integers(2**31)))  # type: ignore[call-arg]
            self._study = optuna.create_study(sampler=made, directions=["minimize"] * len(problem.objectives))
        self._batch = max(1, min(getattr(made, "population_size", 1), -(-budget // 10)))
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            str(gene): optuna.distributions.CategoricalDistribution(tuple(range(count)))
            for gene, count in enumerate(problem.space.cardinalities.tolist())
        }
        self._seen = Seen()
        self._known: dict[bytes, tuple[Sequence[float], float]] = {}  # losses and violation of every network told
        self._asked: list[optuna.Trial] = []

    def ask(self, n: int) -> Genes:
        self._asked = []
        rows = no_rows(self._space)
        for _ in range(min(n, self._batch)):
            row = self._ask_one()
            rows = np.concatenate([rows, row])
            if len(row) == 0:
                break
        return rows

    def _ask_one(self) -> Genes:
        """Return one new network and keep its trial, ``(1, num_genes)``; no row where nothing is left."""
        row = no_rows(self._space)
        for _ in range(REPEATS):
            if len(self._seen) >= self._space.size:
                return no_rows(self._space)
            trial, row = self._trial()
            if len(self._seen.claim(row, 1)):
                self._asked.append(trial)
                return row
            self._repeat(trial, row)
        fresh = unseen_mutants(self._space, self._seen, row, 1, self._rng)
        if len(fresh):
            self._study.enqueue_trial({str(gene): int(value) for gene, value in enumerate(fresh[0])})
            self._asked.append(self._trial()[0])
        return fresh

    def _trial(self) -> tuple[optuna.Trial, Genes]:
        """Return a trial and its network's canonical row ``(1, num_genes)``."""
        trial = self._study.ask(self._distributions)
        genes = np.array([[trial.params[name] for name in self._distributions]], np.int8)
        return trial, self._space.canonical(genes)

    def _repeat(self, trial: optuna.Trial, row: Genes) -> None:
        """Tell a trial what its network scored before; nothing where that is not known yet."""
        known = self._known.get(row.tobytes())
        if known is None:
            self._study.tell(trial, state=optuna.trial.TrialState.FAIL)
        else:
            self._tell_one(trial, *known)

    def _tell_one(self, trial: optuna.Trial, losses: Sequence[float], violation: float) -> None:
        if self._problem.constraints:
            trial.set_constraint("violation", violation)
        self._study.tell(trial, list(losses))

    def tell(self, genes: Genes, scores: Mapping[str, NDArray[np.float64]]) -> None:
        losses, violations = self._problem.losses(scores).tolist(), self._problem.violations(scores).tolist()
        for trial, row, loss, violation in zip(self._asked, genes, losses, violations, strict=True):
            self._known[row.tobytes()] = loss, violation
            self._tell_one(trial, loss, violation)
