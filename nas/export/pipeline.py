"""The whole job: calibrate (or reuse), search, verify, report. ``nas search`` calls this; so may anybody's script.

The output folder is tried before any work, and the results appear in it all at once at the end. What survives an
interruption are the calibration's rows, in the user's cache, and the search's state where a storage file was named.
"""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from threadpoolctl import threadpool_limits

from latency_tables import FULL, Device, MeasuringPlan
from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nas.defaults import BUDGET, FINALISTS, MOST_FINALISTS, SPACE
from nas.errors import UsageError
from nas.export.accuracy import matching_splits
from nas.export.bundle import save_bundle
from nas.export.finalists import verify
from nas.export.folder import new_folder
from nas.export.goal import DEFAULT, Goal, counted_figures
from nas.export.outcome import Outcome
from nas.export.planning import plan_entries
from nas.export.progress import NO_PROGRESS, Progress
from nas.export.result import BUNDLES, bundle_name, bundle_report, has_bundle, write_result
from nas.export.scoring import (
    ACCURACY_PREDICTOR,
    Scorer,
    beside,
    calibrated,
    from_few,
    load_accuracy_predictor,
    open_supernet,
    scorer_of,
)
from nas.export.untrained import INPUTS, WARNING, random_splits
from nas.search import Problem, Scored, SearchResult, check_search, search
from search_spaces import SearchSpace, make_space
from supernets import Supernet, supernet_folder
from supernets.datasets import Splits


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

    @property
    def goal(self) -> Goal:
        """Its objectives and limits."""
        latency = {} if self.limit_ms is None else {"latency": self.limit_ms}
        return Goal(self.objectives, {**latency, **self.limits}, self.confident)


@dataclass
class _Clock:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


def run_search(job: SearchJob, progress: Progress = NO_PROGRESS, scorer: Scorer | None = None) -> Outcome:
    """Run the whole job and write ``result.json``, ``pareto.png`` and the bundles into ``job.out``.

    Args:
        job: What to search and how.
        progress: Called with (stage, done, total).
        scorer: Predicts; None takes the supernet's accuracy predictor and calibrates the device (or reuses that).

    Raises:
        UsageError: The output folder exists, a name is unknown, or the storage holds another search.
        InfeasibleError: No network meets the latency budget; the message says what is reachable.
        DataError: The images are missing or do not fit the supernet.
        FileFormatError: A supernet, predictor, table or storage is damaged.
        OutputError: The output folder cannot be written.
        DeviceError: The device cannot measure.
        VerificationError: No finalist passes its checks.
    """
    with new_folder(job.out) as folder:
        supernet = open_supernet(job.supernet, job.space, trained=not job.untrained)
        outcome = _find(job, supernet, progress, scorer)
        write_outcome(outcome, folder, supernet)
    return outcome


def _find(job: SearchJob, supernet: Supernet, progress: Progress, scorer: Scorer | None) -> Outcome:
    """Calibrate, search and verify."""
    clock = _Clock()
    preset = supernet.space.preset
    menu = [name for name in preset.precisions if name in job.device.precisions]
    if not menu:
        executed = f"device {job.device.name!r} executes {', '.join(job.device.precisions)}"
        written = f"networks of {preset.name!r} are exported in {', '.join(preset.precisions)} only"
        raise UsageError(f"{executed}; {written}; name a device that executes one of them")
    space = make_space(preset, menu)
    if scorer is None:
        space = _known(job, space, supernet, progress)
    goal, problem = job.goal, job.goal.problem(space)
    costs = NetworkCosts(space, Images(supernet.channels, supernet.classes))
    check_search(problem, job.strategy, job.budget, job.seed, job.storage)
    splits = _images(job, supernet, progress)
    with clock.stage("calibrate"):
        if scorer is None:
            scorer = load_scorer(job, space, supernet, progress)
    with clock.stage("search"):
        score = partial(goal.scores, scorer=scorer, costs=costs)
        result = find_front(job, replace(problem, evaluate=score), progress)
        entries = plan_entries(space, result.front, scorer.score, count=job.finalists, limit_ms=job.limit_ms)
        entries = [
            replace(entry, counted=counted_figures(space.genes(entry.candidate)[None], costs)[0]) for entry in entries
        ]
    with clock.stage("verify"):
        verified, failed = verify(
            entries, supernet=supernet, splits=splits, device=job.device, plan=job.plan, seed=job.seed,
            baseline_ms=scorer.baseline_ms, progress=progress,
        )  # fmt: skip
    return Outcome(
        space=space.name,
        supernet=str(job.supernet),
        dataset=splits.name,
        images={"validation": len(splits.validation), "test": len(splits.test)},
        device={key: getattr(job.device, key) for key in ("name", "runtime", "fingerprint", "simulated")},
        strategy=job.strategy,
        seed=job.seed,
        goal=goal,
        evaluated=result.evaluated,
        seconds=clock.seconds,
        calibration=scorer.origin,
        verified=tuple(verified),
        failed=tuple(failed),
        predicted_ms=result.history.scores["latency_ms"],
        predicted_accuracy=result.history.scores["accuracy"],
    )


def _known(job: SearchJob, space: SearchSpace, supernet: Supernet, progress: Progress) -> SearchSpace:
    """Return the part of ``space`` that the accuracy predictor knows; all of it where there is none yet."""
    path = job.accuracy_predictor or supernet_folder(job.supernet) / ACCURACY_PREDICTOR
    known = load_accuracy_predictor(path, space, supernet).space if path.exists() else space
    if known.size < space.size:
        pixels = known.resolutions
        part = f"{', '.join(known.precisions)} at {pixels[0]} to {pixels[-1]} px"
        progress.note(f"the accuracy predictor knows {part}: that part of {space.name} is searched")
    return known


def _images(job: SearchJob, supernet: Supernet, progress: Progress) -> Splits:
    size = max(supernet.space.resolutions)
    if not job.untrained:
        return matching_splits(job.data, supernet.info, size, progress.part("read images"))
    progress.note(f"{WARNING}; batch norms and checks are of {INPUTS}")
    return random_splits(supernet, size, job.seed)


def load_scorer(job: SearchJob, space: SearchSpace, supernet: Supernet, progress: Progress = NO_PROGRESS) -> Scorer:
    """Load the accuracy predictor, which takes no time, then calibrate the device or reuse its calibration."""
    path = job.accuracy_predictor or beside(supernet_folder(job.supernet))
    accuracy = load_accuracy_predictor(path, space, supernet)
    few = None if job.recalibrate else from_few(job.device, space, supernet, progress=progress)
    if few is not None:
        return scorer_of(accuracy, few)
    return scorer_of(accuracy, calibrated(job.device, space, supernet, fresh=job.recalibrate, progress=progress))


def find_front(job: SearchJob, problem: Problem, progress: Progress = NO_PROGRESS) -> SearchResult:
    """Search for the predicted front.

    Raises:
        InfeasibleError: No network meets the latency budget; the message says what is reachable.
    """
    report = progress.part("search")

    def seen(evaluated: int, front: Scored) -> None:
        progress.front(front)
        report(evaluated, job.budget)

    with threadpool_limits(1):  # the predictors' products are too small to share: threads would wait for each other
        return search(problem, job.strategy, job.budget, job.seed, job.storage, progress=seen)


def write_outcome(outcome: Outcome, folder: Path, supernet: Supernet) -> None:
    """Write ``result.json``, ``pareto.png`` and the bundles into an empty folder."""
    from nas.export.plot import save_front  # matplotlib takes a second to import

    (folder / BUNDLES).mkdir()
    for one in outcome.distinct:
        if has_bundle(outcome, one):
            save_bundle(
                folder / bundle_name(one),
                subnet=one.built.subnet,
                preset=supernet.space.preset,
                images=supernet.info,
                model=one.built.model,
                report=bundle_report(outcome, one),
            )
    save_front(outcome, folder)
    write_result(folder, outcome)
