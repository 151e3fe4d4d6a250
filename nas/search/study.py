"""A search in an Optuna study (Akiba et al., 2019): many processes, on many machines, share the scoring of one search.

A candidate is a trial: its genes are the parameters, its objectives the values, so that ``optuna-dashboard`` shows it.
Strategies are deterministic, so every process runs its own copy of the strategy and asks for the same candidates; what
they share is the scores. A process claims a candidate by creating its trial; of several trials the one with the lowest
number holds the claim; whoever has nothing left to claim in a batch waits for the others. So the result is that of one
undisturbed process, however many there were and whichever were killed. A trial that stays unfinished for long is scored
by somebody who waits, and the first to finish it counts.

A trial is some transactions, ten to some hundred a second, where a state file (``journal``) takes 200,000 candidates.
Studies are for scores that cost more than that.
"""

import contextlib
import hashlib
import json
import random
import time
from types import TracebackType
from typing import Any, Self

import numpy as np
import optuna
from optuna.trial import FrozenTrial, TrialState

from nas.search.journal import check_scores, identity_of, nothing
from nas.search.problem import Genes, Problem
from nas.search.result import Scored
from nas.search.storages import open_storage, quiet_optuna

CHECKED = 8  # stored candidates that are scored anew before the rest are believed
PATIENCE = 30.0  # seconds that somebody else's trial may take,
TIMES = 10  # or so many times as long as the slowest of one's own
WAIT = 0.05  # seconds between two looks at the study
SCORES = "scores"  # user attribute of what the objectives do not hold

Key = bytes


class Study:
    """Scores candidates together with whoever has the same study open.

    Args:
        problem: What is searched.
        strategy: Its name.
        budget: Candidates in all.
        seed: Of the search. These and the problem decide the study's name: another search is another study.
        url: Of the storage, as in ``storages``.

    Raises:
        UsageError: The storage cannot be opened.
    """

    def __init__(self, problem: Problem, strategy: str, budget: int, seed: int, url: str):
        self._problem = problem
        self._storage = open_storage(url)
        identity = identity_of(problem, strategy, budget, seed)
        self.name = f"{problem.space.name} {strategy} {_digest(identity)}"
        self._study_id = self._open(identity)
        names = getattr(problem.space, "gene_names", [f"gene_{gene}" for gene in range(problem.space.num_genes)])
        self._distributions: dict[str, optuna.distributions.BaseDistribution] = {
            name: optuna.distributions.CategoricalDistribution(tuple(range(count)))
            for name, count in zip(names, problem.space.cardinalities.tolist(), strict=True)
        }
        self._done: dict[Key, dict[str, float]] = {}
        self._running: dict[Key, FrozenTrial] = {}
        self._settled = 0  # trials before this number are finished and taken in
        self._first_seen: dict[int, float] = {}  # when a trial of somebody else's was first seen unfinished
        self._slowest = 0.0
        self._parts: list[Scored] = []
        self.evaluated = 0

    def _open(self, identity: dict[str, Any]) -> int:
        directions = [
            optuna.study.StudyDirection.MAXIMIZE if how == "max" else optuna.study.StudyDirection.MINIMIZE
            for how in self._problem.objectives.values()
        ]
        try:
            with quiet_optuna():
                study = self._storage.create_new_study(directions, self.name)
        except optuna.exceptions.DuplicatedStudyError:
            return self._storage.get_study_id_from_name(self.name)
        self._storage.set_study_user_attr(study, "search", identity)
        self._storage.set_study_system_attr(study, "study:metric_names", list(self._problem.objectives))
        return study

    def score(self, genes: Genes) -> Scored:
        """Return the scores of a batch, whoever scores them.

        Raises:
            UsageError: The stored scores are not what the problem gives.
        """
        keys = [row.tobytes() for row in genes]
        self._take_in()
        if self.evaluated == 0:
            self._check(genes[[key in self._done for key in keys]][:CHECKED])
        while missing := [row for row, key in enumerate(keys) if key not in self._done]:
            free = [row for row in missing if keys[row] not in self._running]
            overdue = [row for row in missing if not free and self._overdue(self._running[keys[row]])]
            if free:
                self._claim(genes[random.choice(free)])  # whichever: it decides who scores what, not the result
            elif overdue:
                row = random.choice(overdue)
                self._finish(genes[row], self._running[keys[row]]._trial_id)
            else:
                time.sleep(WAIT)
            self._take_in()
        found = [self._done[key] for key in keys]
        scored = Scored(genes, {name: np.array([one[name] for one in found]) for name in found[0]})
        self._parts.append(scored)
        self.evaluated += len(genes)
        return scored

    def _check(self, stored: Genes) -> None:
        found = [self._done[row.tobytes()] for row in stored]
        scores = {name: np.array([one[name] for one in found]) for name in self._problem.names}
        check_scores(self._problem, Scored(stored, scores), f"study {self.name!r}")

    def _take_in(self) -> None:
        """Read what others have claimed and finished."""
        trials = self._storage.get_all_trials(self._study_id, deepcopy=False)
        self._running = {}
        for trial in trials[self._settled :]:
            key = np.array([trial.params[name] for name in self._distributions], np.int8).tobytes()
            if trial.state == TrialState.COMPLETE:
                objectives = zip(self._problem.objectives, trial.values, strict=True)
                self._done.setdefault(key, {**dict(objectives), **trial.user_attrs.get(SCORES, {})})
            elif trial.state == TrialState.RUNNING:
                self._running.setdefault(key, trial)  # the lowest number holds the claim
                self._first_seen.setdefault(trial._trial_id, time.monotonic())
        while self._settled < len(trials) and trials[self._settled].state.is_finished():
            self._settled += 1

    def _overdue(self, trial: FrozenTrial) -> bool:
        waited = time.monotonic() - self._first_seen[trial._trial_id]
        return waited > max(PATIENCE, TIMES * self._slowest)

    def _claim(self, row: Genes) -> None:
        """Create the trial of a network ``(num_genes,)`` and score it, unless somebody else was first."""
        params = dict(zip(self._distributions, row.tolist(), strict=True))
        template = optuna.trial.create_trial(state=TrialState.RUNNING, params=params, distributions=self._distributions)
        own = self._storage.create_new_trial(self._study_id, template)
        try:
            self._take_in()
            key = row.tobytes()
            if key in self._done or self._running[key]._trial_id != own:
                self._end(own, TrialState.FAIL)
            else:
                self._finish(row, own)
        except BaseException:
            self._end(own, TrialState.FAIL)
            raise

    def _finish(self, row: Genes, trial: int) -> None:
        """Score a network ``(num_genes,)`` and finish its trial."""
        started = time.monotonic()
        scores = {name: float(values[0]) for name, values in self._problem.score(row[None]).items()}
        self._slowest = max(self._slowest, time.monotonic() - started)
        others = {name: value for name, value in scores.items() if name not in self._problem.objectives}
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):  # somebody else was first
            if others:
                self._storage.set_trial_user_attr(trial, SCORES, others)
            self._end(trial, TrialState.COMPLETE, [scores[name] for name in self._problem.objectives])

    def _end(self, trial: int, state: TrialState, values: list[float] | None = None) -> None:
        with contextlib.suppress(optuna.exceptions.UpdateFinishedTrialError):
            self._storage.set_trial_state_values(trial, state=state, values=values)

    def history(self) -> Scored:
        """Return everything scored so far, in the order of the search."""
        if not self._parts:
            return nothing(self._problem)
        self._parts = [Scored.join(self._parts)]
        return self._parts[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._storage.remove_session()


def _digest(identity: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(identity, sort_keys=True).encode()).hexdigest()[:8]
