"""The whole job: calibrate (or reuse), search, verify, report. ``nas search`` calls this; so may anybody's script.

The output folder is tried before any work, and the results appear in it all at once at the end. What survives an
interruption are the calibration's rows, in the user's cache, and the search's state where a storage file was named.
"""

import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from threadpoolctl import threadpool_limits

from latency_tables import Device
from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nas.errors import UsageError
from nas.export.accuracy import matching_splits
from nas.export.bundle import save_bundle
from nas.export.finalists import verify
from nas.export.folder import new_folder
from nas.export.goal import counted_figures
from nas.export.job import SearchJob
from nas.export.outcome import Outcome
from nas.export.planning import pick_finalists, plan_entries
from nas.export.progress import NO_PROGRESS, Progress
from nas.export.result import BUNDLES, bundle_name, bundle_report, has_bundle, write_result
from nas.export.scoring import (
    ACCURACY_PREDICTOR,
    Scorer,
    beside,
    calibrated,
    from_few,
    from_wider,
    load_accuracy_predictor,
    open_supernet,
    scorer_of,
)
from nas.export.untrained import INPUTS, WARNING, random_splits
from nas.search import TRAINING, Problem, Scored, SearchResult, check_search, search
from nas.search.problem import Scores
from nas.search.training import SCRATCH, TRAINED, Costs, SupernetTraining, check_family
from search_spaces import Candidate, Genes, SearchSpace, device_menu, make_space
from supernets import Supernet, make_supernet, supernet_folder
from supernets.datasets import Splits


@dataclass
class Clock:
    """Seconds spent in each stage."""

    seconds: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Count the block to a stage."""
        start = time.monotonic()
        yield
        self.seconds[name] = time.monotonic() - start


@dataclass(frozen=True, eq=False)
class Setting:
    """What a job works with once its device is calibrated."""

    job: SearchJob
    supernet: Supernet
    splits: Splits
    space: SearchSpace
    scorer: Scorer
    clock: Clock

    @cached_property
    def costs(self) -> NetworkCosts:
        """What networks cost besides time."""
        return NetworkCosts(self.space, Images(self.supernet.channels, self.supernet.classes))

    def scores(self, genes: Genes) -> Scores:
        """Return what the search needs of genes ``(n, num_genes)``."""
        return self.job.goal.scores(genes, self.scorer, self.costs)

    def scored(self, problem: Problem, scores: Costs) -> Problem:
        """Return a problem with its scores and, for a strategy that trains, images and weights."""
        train, scratch, supernet = self.splits.train, self.job.from_scratch, self.supernet
        if self.job.strategy not in TRAINING or train is None:
            return replace(problem, evaluate=scores)
        begun = make_supernet(supernet.space, supernet.info, self.job.seed) if scratch else supernet
        schedule = (SCRATCH if scratch else TRAINED).within(len(train))
        training = SupernetTraining(begun, self.space, train, self.splits.validation, scores, schedule)
        return replace(problem, evaluate=scores, training=training)


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
    clock = Clock()
    space = common_space(supernet, [job.device])
    if scorer is None:
        space = known_space(job, space, supernet, progress)
    problem = job.goal.problem(space)
    check_search(problem, job.strategy, job.budget, job.seed, job.storage)
    check_family(job.strategy, space)
    splits = read_images(job, supernet, progress)
    with clock.stage("calibrate"):
        if scorer is None:
            scorer = load_scorer(job, space, supernet, progress)
    setting = Setting(job, supernet, splits, space, scorer, clock)
    with clock.stage("search"):
        result = find_front(job, setting.scored(problem, setting.scores), progress)
        candidates = pick_finalists(space, result.front, count=job.finalists, limit_ms=job.limit_ms)
    return verified_outcome(setting, candidates, result.history, progress)


def common_space(supernet: Supernet, devices: Sequence[Device]) -> SearchSpace:
    """Return the supernet's space with the precisions that its networks are exported in and every device executes.

    Raises:
        UsageError: There are none.
    """
    preset = supernet.space.preset
    first, *others = (device.precisions for device in devices)
    menu = device_menu(preset.precisions, [name for name in first if all(name in other for other in others)])
    if not menu:
        executed = "; ".join(f"device {one.name!r} executes {', '.join(one.precisions)}" for one in devices)
        written = f"networks of {preset.name!r} are exported in {', '.join(preset.precisions)} only"
        raise UsageError(f"{executed}; {written}; name a device that executes one of them")
    return make_space(preset, menu)


def verified_outcome(setting: Setting, candidates: Sequence[Candidate], seen: Scored, progress: Progress) -> Outcome:
    """Verify finalists beside baselines and twins.

    Args:
        setting: What the job works with.
        candidates: The finalists.
        seen: What the search scored; for the picture.
        progress: Hears of it.
    """
    job, space, scorer = setting.job, setting.space, setting.scorer
    entries = [
        replace(entry, counted=counted_figures(space.genes(entry.candidate)[None], setting.costs)[0])
        for entry in plan_entries(space, candidates, scorer.score)
    ]
    with setting.clock.stage("verify"):
        verified, failed = verify(
            entries, supernet=setting.supernet, splits=setting.splits, device=job.device, plan=job.plan, seed=job.seed,
            baseline_ms=scorer.baseline_ms, progress=progress,
        )  # fmt: skip
    return Outcome(
        space=space.name,
        supernet=str(job.supernet),
        dataset=setting.splits.name,
        images={"validation": len(setting.splits.validation), "test": len(setting.splits.test)},
        device={key: getattr(job.device, key) for key in ("name", "runtime", "fingerprint", "simulated")},
        strategy=job.strategy,
        seed=job.seed,
        goal=job.goal,
        evaluated=len(seen),
        seconds=setting.clock.seconds,
        calibration=scorer.origin,
        verified=tuple(verified),
        failed=tuple(failed),
        predicted_ms=seen.scores["latency_ms"],
        predicted_accuracy=seen.scores["accuracy"],
    )


def known_space(job: SearchJob, space: SearchSpace, supernet: Supernet, progress: Progress) -> SearchSpace:
    """Return the part of ``space`` that the accuracy predictor knows; all of it where there is none yet."""
    path = job.accuracy_predictor or supernet_folder(job.supernet) / ACCURACY_PREDICTOR
    known = load_accuracy_predictor(path, space, supernet).space if path.exists() else space
    if known.size < space.size:
        pixels = known.resolutions
        part = f"{', '.join(known.precisions)} at {pixels[0]} to {pixels[-1]} px"
        progress.note(f"the accuracy predictor knows {part}: that part of {space.name} is searched")
    return known


def read_images(job: SearchJob, supernet: Supernet, progress: Progress) -> Splits:
    """Return the job's images; random ones where the weights are untrained."""
    size = max(supernet.space.resolutions)
    if not job.untrained:
        report, need_train = progress.part("read images"), job.strategy in TRAINING
        return matching_splits(job.data, supernet.info, size, report, need_train=need_train)
    progress.note(f"{WARNING}; batch norms and checks are of {INPUTS}")
    return random_splits(supernet, size, job.seed)


def load_scorer(job: SearchJob, space: SearchSpace, supernet: Supernet, progress: Progress = NO_PROGRESS) -> Scorer:
    """Load the accuracy predictor, which takes no time, then calibrate the device or reuse a calibration of it."""
    path = job.accuracy_predictor or beside(supernet_folder(job.supernet))
    accuracy = load_accuracy_predictor(path, space, supernet)
    for known in () if job.recalibrate else (from_wider, from_few):
        if (found := known(job.device, space, supernet, progress=progress)) is not None:
            return scorer_of(accuracy, found)
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

    # The predictors' products are too small to share: threads would wait for each other. A training's are not.
    with threadpool_limits(None if job.strategy in TRAINING else 1):
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
