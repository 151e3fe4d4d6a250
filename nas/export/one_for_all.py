"""One subnet for several devices: the one that is best for the worst of them.

A device has a reference: its latency budget or, without budgets, the latency of its own best network of equal accuracy.
What is minimised over candidates is the *ratio*

    ratio(x) = max over devices d of  latency_d(x) / reference_d

- **With budgets** reference_d is d's budget, only subnets within all of them (ratio at most 1) are looked at, and the
  most accurate of them is chosen.
- **Without**, each device is searched for itself first. A is the lowest accuracy of the knees of the devices' own
  predicted fronts; reference_d is the least latency of d's own front at accuracy A or more. Only subnets of accuracy A
  or more are looked at, and that of the least ratio is chosen: a ratio of 1.05 says that the worst device is 5 % slower
  than with a network of its own that is as accurate.

Predictions find finalists. They and each device's own best are then exported, checked and timed on each device, in one
run, and measured figures choose: the ratio is of measured latencies, the accuracy the lowest of the exported files.
Without budgets the chosen one must also measure as accurate on each device as the device's own best, within one point
(``shared.MARGIN``); where no finalist does, the one that lacks least is chosen, and the report says how much.
Budgets of size, multiply-adds and memory hold throughout.

The shared subnet is of the precisions that every device executes, and is exported for each in the form of int8 that its
kernels want. Latencies of several devices are scores of one search: ``latency_ms@NAME`` each, beside ``latency_ratio``.
"""

import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nas.errors import InfeasibleError
from nas.export.choose import below_limit, best_within, knee_of
from nas.export.fleet import FleetJob
from nas.export.folder import new_folder
from nas.export.goal import AT, PESSIMISTIC, RATIO
from nas.export.pipeline import (
    Clock,
    Setting,
    common_space,
    find_front,
    known_space,
    load_scorer,
    read_images,
    verified_outcome,
    write_outcome,
)
from nas.export.progress import NO_PROGRESS, Progress
from nas.export.scoring import LatencyPredictor, Predictor, Scorer, open_supernet
from nas.export.shared import SharedOutcome, write_shared
from nas.search import Scored, SearchResult
from nas.search.result import front_of
from nas.search.training import check_family
from search_spaces import Candidate, Genes, SearchSpace
from supernets import Supernet


@dataclass(frozen=True)
class FleetScorer:
    """Scores candidates for several devices.

    Attributes:
        accuracy: Predicts accuracy, a fraction.
        latencies: Predict milliseconds, by the devices' names.
        reference_ms: What each device's latency is divided by.
    """

    accuracy: Predictor
    latencies: Mapping[str, LatencyPredictor]
    reference_ms: Mapping[str, float]

    def score(self, genes: Genes, *, pessimistic: bool = False) -> dict[str, NDArray[np.float64]]:
        """Return accuracy, each latency and the ratio of genes ``(n, num_genes)``, ``(n,)`` each."""
        scores = {"accuracy": np.asarray(self.accuracy.predict(genes).mean, np.float64)}
        ratio = np.zeros(len(genes))
        for name, predictor in self.latencies.items():
            latency = predictor.predict(genes)
            scores[f"latency_ms{AT}{name}"] = np.asarray(latency.mean, np.float64)
            if pessimistic:
                scores[f"{PESSIMISTIC}{AT}{name}"] = np.asarray(latency.high, np.float64)
            ratio = np.maximum(ratio, scores[f"latency_ms{AT}{name}"] / self.reference_ms[name])
        return scores | {RATIO.score: ratio}


def run_one_for_all(
    fleet: FleetJob, progress: Progress = NO_PROGRESS, scorers: Mapping[str, Scorer] | None = None
) -> SharedOutcome:
    """Search for the one subnet that is best for the worst of several devices, and verify it on each.

    Writes into ``fleet.job.out`` what ``run_search`` writes, for each device in a folder of its name, and
    ``one_for_all.json``.

    Args:
        fleet: The devices, and what to search.
        progress: As of ``run_search``.
        scorers: Predict, by the devices' names; None calibrates, or reuses that.

    Raises:
        InfeasibleError: No network is within a device's budget, which the message names, or within all of them.
        NasError: As of ``run_search``.
    """
    with new_folder(fleet.job.out) as folder:
        supernet = open_supernet(fleet.job.supernet, fleet.job.space, trained=not fleet.job.untrained)
        shared = _find(fleet, supernet, progress, scorers)
        for name, outcome in shared.outcomes.items():
            (folder / name).mkdir()
            write_outcome(outcome, folder / name, supernet)
        write_shared(folder, shared)
    return shared


def _find(
    fleet: FleetJob, supernet: Supernet, progress: Progress, scorers: Mapping[str, Scorer] | None
) -> SharedOutcome:
    """Calibrate every device, search for each and for all, and verify."""
    settings = _settings(fleet, supernet, progress, scorers)
    own = {name: _search_own(setting, progress) for name, setting in settings.items()}
    accuracy = None if fleet.limits_ms else min(_knee(result.front) for result in own.values())
    best = {name: _own_best(result.front, fleet.limits_ms.get(name), accuracy or 0.0) for name, result in own.items()}
    space, begun = next(iter(settings.values())).space, time.monotonic()
    front, evaluated = _search_shared(fleet, settings, best, accuracy, progress)
    finalists = pick_shared(space, front, count=fleet.job.finalists, limited=accuracy is None)
    seconds = time.monotonic() - begun
    outcomes = {}
    for name, setting in settings.items():
        own_best = space.candidate(best[name].genes[0])
        wanted = dict.fromkeys([*finalists, own_best])
        progress.note(f"verify {len(wanted)} networks on {name}")
        outcomes[name] = verified_outcome(setting, list(wanted), own[name].history, progress)
    return SharedOutcome(
        fleet=fleet,
        precisions=space.precisions,
        accuracy=accuracy,
        own_best={name: space.candidate(found.genes[0]).id for name, found in best.items()},
        finalists=tuple(finalists),
        verified=outcomes,
        evaluated=evaluated,
        seconds=seconds,
    )


def _settings(
    fleet: FleetJob, supernet: Supernet, progress: Progress, scorers: Mapping[str, Scorer] | None
) -> dict[str, Setting]:
    """Calibrate every device, or reuse its calibration, for what all of them execute."""
    job, settings = fleet.job, {}
    space = common_space(supernet, fleet.devices)
    if scorers is None:
        space = known_space(job, space, supernet, progress)
    check_family(job.strategy, space)
    splits = read_images(job, supernet, progress)
    for name, own in fleet.jobs.items():
        clock = Clock()
        with clock.stage("calibrate"):
            scorer = load_scorer(own, space, supernet, progress) if scorers is None else scorers[name]
        settings[name] = Setting(own, supernet, splits, space, scorer, clock)
    return settings


def _search_own(setting: Setting, progress: Progress) -> SearchResult:
    job = setting.job
    problem = setting.scored(job.goal.problem(setting.space), setting.scores)
    try:
        with setting.clock.stage("search"):
            return find_front(job, problem, progress)
    except InfeasibleError as error:
        raise InfeasibleError(f"device {job.device.name!r}: {error}") from error


def _search_shared(
    fleet: FleetJob,
    settings: Mapping[str, Setting],
    best: Mapping[str, Scored],
    accuracy: float | None,
    progress: Progress,
) -> tuple[Scored, int]:
    """Return the front of all devices together, each one's own best looked at too, and how many were scored."""
    first = next(iter(settings.values()))
    references = {name: fleet.limits_ms.get(name, float(one.scores["latency_ms"][0])) for name, one in best.items()}
    latencies = {name: setting.scorer.latency for name, setting in settings.items()}
    scorer = FleetScorer(first.scorer.accuracy, latencies, references)
    problem = fleet.goal.problem(first.space)
    floor = {} if accuracy is None else {"accuracy": (accuracy, None)}
    score = partial(fleet.goal.scores, scorer=scorer, costs=first.costs)
    problem = first.scored(replace(problem, constraints={**problem.constraints, **floor}), score)
    result = find_front(fleet.job, problem, progress)
    genes = np.concatenate([one.genes for one in best.values()])
    return front_of(problem, Scored.join([result.front, Scored(genes, problem.score(genes))])), result.evaluated


def _knee(front: Scored) -> float:
    """Return the accuracy of a front's knee."""
    latency, accuracy = front.scores["latency_ms"], front.scores["accuracy"]
    return float(accuracy[knee_of(latency, accuracy)])


def _own_best(front: Scored, limit_ms: float | None, accuracy: float) -> Scored:
    """Return the most accurate network within the budget or, without one, the fastest of enough accuracy; one row."""
    latency, reached = front.scores["latency_ms"], front.scores["accuracy"]
    if limit_ms is not None:
        row = best_within(latency, reached, limit_ms)
    else:
        row = int(np.argmin(np.where(reached >= accuracy, latency, np.inf)))
    return front.take(np.array([row]))


def pick_shared(space: SearchSpace, front: Scored, *, count: int, limited: bool) -> list[Candidate]:
    """Return the finalists of a front for several devices.

    Args:
        space: The space.
        front: With its ``accuracy`` and ``latency_ratio``.
        count: How many.
        limited: Whether there are budgets: then the most accurate, close below a ratio of 1; else of the least ratio.
    """
    ratio, accuracy = front.scores[RATIO.score], front.scores["accuracy"]
    rows = below_limit(ratio, accuracy, 1.0, count) if limited else np.lexsort((-accuracy, ratio))[:count]
    return [space.candidate(row) for row in front.genes[rows]]
