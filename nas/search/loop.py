"""The loop: ask the strategy, score, tell it, until the budget is spent or nothing is left to ask for."""

import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from nas.defaults import BUDGET
from nas.errors import InfeasibleError, UsageError
from nas.search.journal import Journal, check_state
from nas.search.problem import Bounds, Problem
from nas.search.result import Scored, SearchResult, front_of
from nas.search.storages import open_storage, storage_url
from nas.search.strategy import get_strategy

if TYPE_CHECKING:
    from nas.search.study import Study

PROBE_SHARE = 0.05  # of the budget: what each end of a constrained score may cost where nothing feasible was found


def search(
    problem: Problem,
    strategy: str = "evolution",
    budget: int = BUDGET,
    seed: int = 0,
    storage: str | Path | None = None,
    progress: Callable[[int, Scored], None] | None = None,
) -> SearchResult:
    """Search a problem.

    Args:
        problem: What to search.
        strategy: Name of a registered strategy; ``list_strategies()`` lists them.
        budget: Number of candidates to score; fewer are where the space holds no more.
        seed: Same problem, strategy, budget and seed: same result.
        storage: File that keeps the state, written every few seconds and when the search ends or is interrupted, or
            the URL of an Optuna storage (``storages``), in which each candidate is a trial that any process of the same
            search may score. Where it exists, the search goes on from it, to the same result as if it had never
            stopped.
        progress: Called after each batch with the number of candidates scored and the front so far.

    Raises:
        UsageError: The strategy is unknown, the budget is not positive, or ``storage`` holds another search.
        InfeasibleError: No candidate meets the constraints; the message says what range was reached.
        FileFormatError: ``storage`` is damaged.
    """
    check_search(problem, strategy, budget, seed, storage)
    started = time.monotonic()
    proposer = get_strategy(strategy)(problem, budget, np.random.default_rng(seed))
    journal = _open(problem, strategy, budget, seed, storage)
    front = front_of(problem, journal.history())
    exhausted = False
    with journal:
        while not exhausted and journal.evaluated < budget:
            genes = proposer.ask(budget - journal.evaluated)
            exhausted = len(genes) == 0
            if not exhausted:
                scored = journal.score(genes)
                proposer.tell(genes, scored.scores)
                front = front_of(problem, Scored.join([front, scored] if len(front) else [scored]))
                if progress is not None:
                    progress(journal.evaluated, front)
    history = journal.history()
    if len(front) == 0:
        raise _infeasible(problem, history, 0 if exhausted else max(1, round(PROBE_SHARE * budget)), seed)
    return SearchResult(problem, strategy, seed, history, front, exhausted, time.monotonic() - started)


def check_search(problem: Problem, strategy: str, budget: int, seed: int, storage: str | Path | None) -> None:
    """Check what ``search`` is to be given, before the work that makes a problem's scores; nothing is scored.

    Raises:
        UsageError: The strategy is unknown, the budget is not positive, or ``storage`` holds another search or cannot
            be opened.
        FileFormatError: ``storage`` is damaged.
    """
    if budget < 1:
        raise UsageError(f"budget {budget}; allowed: at least 1 candidate")
    get_strategy(strategy)
    if url := storage_url(storage):
        open_storage(url)
    elif storage is not None:
        check_state(Path(storage), problem, strategy, budget, seed)


def _open(problem: Problem, strategy: str, budget: int, seed: int, storage: str | Path | None) -> "Journal | Study":
    """Return what scores candidates and keeps the scores."""
    if url := storage_url(storage):
        from nas.search.study import Study  # takes half a second to import

        return Study(problem, strategy, budget, seed, url)
    return Journal(problem, strategy, budget, seed, None if storage is None else Path(storage))


def _infeasible(problem: Problem, history: Scored, probe: int, seed: int) -> InfeasibleError:
    """Return the error that says what was asked and what is reachable, after ``probe`` candidates towards each end."""
    asked, reached = [], []
    for name, bounds in problem.constraints.items():
        values = [history.scores[name]]
        for direction in ("min", "max") if probe else ():
            towards = Problem(problem.space, {name: direction}, {}, problem.evaluate)
            values.append(search(towards, budget=probe, seed=seed).front.scores[name])
        seen = np.concatenate(values)
        asked.append(_spell(name, bounds))
        reached.append(f"{name} {seen.min():.4g} to {seen.max():.4g}")
    alone = ", each for itself" if len(asked) > 1 else ""
    return InfeasibleError(
        f"none of {len(history)} candidates of {problem.space.name} meets {' and '.join(asked)}; "
        f"reachable{alone}: {', '.join(reached)}"
    )


def _spell(name: str, bounds: Bounds) -> str:
    low, high = bounds
    return f"{'' if low is None else f'{low:g} ≤ '}{name}{'' if high is None else f' ≤ {high:g}'}"
