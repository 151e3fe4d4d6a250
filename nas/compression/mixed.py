"""Mixed-precision post-training quantization of any network to an accuracy target, as fast as the device allows.

Layers are ordered by sensitivity, augmented with how neighbours act together (after Schaefer et al., 2023); a search
asks for the accuracy of few configurations, in the sessions that ship, image by image beside fp32's; latency is
predicted by the islands of one precision, and the finalists are measured. The answer is the fastest measured one that
passes its gates and meets the target, by the point estimate unless confidence is asked for. It may be fp32 itself,
where int8 gains nothing.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from onnx import ModelProto

from nas.compression.gates import ParityReport, parity
from nas.compression.islands import SAMPLES, IslandLatency, fit_islands, sample_masks
from nas.compression.layers import Mask
from nas.compression.mixed_search import Question, mixed_strategy
from nas.compression.order import REACH, Order, augmented_order, interactions, plain_order
from nas.compression.paired import images_needed, paired_difference
from nas.compression.sensitivity import SENSITIVITIES, sensitivities, single_losses
from nas.compression.timing import SILENT, Measure, Reports, Timing
from nas.compression.trials import Attempt, Attempts, Target, Trials
from nas.errors import InfeasibleError, UsageError, VerificationError
from nas.registry import unknown_name

PARITY_IMAGES = 64
"""Calibration images that the gates compare outputs on."""


@dataclass(frozen=True)
class MixedPlan:
    """How to search.

    Attributes:
        sensitivity: Of ``SENSITIVITIES``.
        augmented: Whether neighbours are taken into account.
        strategy: Of ``STRATEGIES``.
        reach: Steps of the flow between neighbours, at most.
        attempts: Configurations whose accuracy is counted, at most.
        samples: Configurations that the latency model is fitted to.
        finalists: Configurations that are measured at the end.
        seed: Of everything random.
    """

    sensitivity: str = "fisher"
    augmented: bool = True
    strategy: str = "bisection"
    reach: int = REACH
    attempts: int = 60
    samples: int = SAMPLES
    finalists: int = 3
    seed: int = 0

    def __post_init__(self) -> None:
        if self.sensitivity not in SENSITIVITIES:
            raise unknown_name("sensitivity", self.sensitivity, SENSITIVITIES)
        mixed_strategy(self.strategy)


PLAN = MixedPlan()
"""Where nothing is said."""


@dataclass(frozen=True, eq=False)
class Finalist:
    """A configuration that was measured: the bytes that were timed, and what is true of them."""

    mask: Mask
    model: bytes = field(repr=False)
    timing: Timing
    attempt: Attempt | None


@dataclass(frozen=True, eq=False)
class MixedResult:
    """What was found.

    Attributes:
        trials: The network and how configurations of it are built.
        target: What had to be met.
        order: The layers, the least sensitive first.
        latency: The fitted latency model.
        attempts: Every configuration whose accuracy was counted, in that order.
        measured: fp32, all of int8, and the finalists, each measured in one run.
        chosen: The fastest of them that meets the target and passes its gates.
        checks: What the gates found of it.
    """

    trials: Trials
    target: Target
    order: Order
    latency: IslandLatency
    attempts: tuple[Attempt, ...]
    measured: tuple[Finalist, ...]
    chosen: Finalist
    checks: ParityReport

    @property
    def fp32(self) -> Finalist:
        """The network as it was."""
        return self.measured[0]


def check_drop(max_drop: float) -> None:
    """Check a target.

    Raises:
        UsageError: It is out of its range.
    """
    if not 0 <= max_drop < 1:
        raise UsageError(f"max drop {max_drop}; allowed: from 0 to below 1, a fraction of fp32's accuracy")


def check_images(target: Target, floats: str) -> None:
    """Check that a configuration which changes no answer of the network in ``floats`` would meet the target.

    Raises:
        InfeasibleError: The interval of so few images is too wide for it.
    """
    if target.met_by(paired_difference(target.baseline, target.baseline)):
        return
    asked = f"{100 * (1 - target.max_drop):g} % of {floats}'s accuracy with confidence"
    if not target.allowed:
        raise InfeasibleError(f"{asked} cannot be shown by any number of images; allow a drop")
    raise InfeasibleError(
        f"{asked} cannot be shown by {len(target.baseline)} validation images, even if no answer changes; give at "
        f"least {images_needed(target.allowed)} or allow a larger drop"
    )


def search_mixed(
    trials: Trials,
    max_drop: float,
    measure: Measure,
    *,
    reference: Callable[[torch.Tensor], torch.Tensor],
    plan: MixedPlan = PLAN,
    confident: bool = False,
    reports: Reports = SILENT,
) -> MixedResult:
    """Find the fastest configuration whose accuracy is high enough.

    Args:
        trials: The network, its calibration images, and how its accuracy is counted.
        max_drop: The fraction of fp32's accuracy that may be lost, from 0 to below 1.
        measure: Times configurations.
        reference: Returns the logits of images, to check the fp32 graph by.
        plan: How to search.
        confident: Whether the whole interval of the paired difference must be within ``max_drop``.
        reports: Listeners.

    Raises:
        UsageError: ``max_drop`` is out of its range.
        InfeasibleError: No int8 configuration meets the target, not even one layer alone, or the images are too few
            for confidence; the message says the best that was tried, or how many images it takes.
        VerificationError: No finalist passes its gates.
    """
    check_drop(max_drop)
    rng = np.random.default_rng(plan.seed)
    plain: Mask = (False,) * len(trials.possible)
    target = Target(trials.correct(plain), max_drop, confident)
    floats = trials.engine.executed_float
    check_images(target, floats)
    order, losses = find_order(trials, plan, rng, reports)
    latency = fit_latency(trials, measure, plan, rng, reports)
    attempts = Attempts(trials, target, plan.attempts, reports.part("search"))
    mixed_strategy(plan.strategy)(Question(order, latency, attempts, losses))
    worthwhile = bool(attempts.history)
    attempts.meets(trials.possible, "int8 throughout")
    good = sorted((one for one in attempts.history if one.meets), key=lambda one: latency.predict(one.mask))
    if worthwhile and not good:
        if any(sum(one.mask) == 1 for one in attempts.history):
            raise InfeasibleError(f"{_best_tried(attempts, target)}: allow a larger drop or give more images")
        reports.note(f"{_best_tried(attempts, target)}; fewer layers do not pay or were not tried: {floats} is kept")
    if not worthwhile:
        reports.note(f"int8 is not predicted to be faster than {floats} here, in whatever layers")
    measured = _measure(trials, good[: plan.finalists], attempts, measure)
    chosen, checks = _choose(trials, measured, reference, reports)
    return MixedResult(trials, target, order, latency, tuple(attempts.history), measured, chosen, checks)


def find_order(
    trials: Trials, plan: MixedPlan, rng: np.random.Generator, reports: Reports = SILENT
) -> tuple[Order, np.ndarray]:
    """Return the order of the layers, and the losses by layers and pairs, zero where they were not needed."""
    reports.note(f"sensitivity of {len(trials.possible)} layers by {plan.sensitivity}")
    scores = sensitivities(plan.sensitivity, trials, rng)
    pairwise = plan.augmented or plan.strategy == "clado"
    if not pairwise:
        return plain_order(scores, trials.possible), np.zeros((len(scores), len(scores)))
    singles = single_losses(trials, reports.part("layers"))
    pairs = interactions(trials, singles, plan.reach, reports.part("pairs"))
    order = augmented_order(scores, singles, pairs, trials) if plan.augmented else plain_order(scores, trials.possible)
    return order, pairs + np.diag(singles)


def fit_latency(
    trials: Trials, measure: Measure, plan: MixedPlan, rng: np.random.Generator, reports: Reports = SILENT
) -> IslandLatency:
    """Measure random configurations and fit the latency model to them."""
    masks = sample_masks(trials.graph, trials.possible, rng, plan.samples)
    timings = measure({str(number): trials.build(mask).SerializeToString() for number, mask in enumerate(masks)})
    latency = fit_islands(trials.graph, masks, [timings[str(number)].latency_ms for number in range(len(masks))])
    reports.note(f"latency model: {len(masks)} configurations measured, {100 * latency.error:.1f} % off in the median")
    return latency


def _measure(trials: Trials, good: Sequence[Attempt], attempts: Attempts, measure: Measure) -> tuple[Finalist, ...]:
    known: dict[Mask, Attempt | None] = {(False,) * len(trials.possible): None}
    counted = {one.mask: one for one in attempts.history}
    known[trials.possible] = counted.get(trials.possible)
    known |= {one.mask: one for one in good}
    models = {mask: trials.build(mask).SerializeToString() for mask in known}
    timings = measure({str(number): model for number, model in enumerate(models.values())})
    return tuple(
        Finalist(mask, model, timings[str(number)], known[mask]) for number, (mask, model) in enumerate(models.items())
    )


def _choose(
    trials: Trials,
    measured: Sequence[Finalist],
    reference: Callable[[torch.Tensor], torch.Tensor],
    reports: Reports,
) -> tuple[Finalist, ParityReport]:
    """Return the fastest that meets the target and passes its gates, and what these found."""
    allowed = [one for one in measured if not any(one.mask) or (one.attempt is not None and one.attempt.meets)]
    failure: VerificationError | None = None
    for one in sorted(allowed, key=lambda one: one.timing.latency_ms):
        try:
            return one, gated(trials, one, reference)
        except VerificationError as error:
            failure = failure or error
            reports.note(f"a configuration of {sum(one.mask)} int8 layers is left out: {error}")
    assert failure is not None  # fp32 is always among them
    raise failure


def gated(trials: Trials, one: Finalist, reference: Callable[[torch.Tensor], torch.Tensor]) -> ParityReport:
    """Return what the gates find of a configuration.

    Raises:
        VerificationError: One does not hold.
    """
    return parity(
        reference,
        trials.graph.model,
        ModelProto.FromString(one.model),
        trials.graph.precisions(one.mask),
        trials.images[:PARITY_IMAGES],
        engine=trials.engine,
    )


def _best_tried(attempts: Attempts, target: Target) -> str:
    best = max(attempts.history, key=lambda one: one.change.value)
    kept, floats = " with confidence" if target.confident else "", attempts.trials.engine.executed_float
    reached = 100 * best.accuracy / max(float(target.baseline.mean()), 1e-12)
    return (
        f"no int8 configuration keeps {100 * (1 - target.max_drop):g} % of {floats}'s accuracy{kept} on "
        f"{len(target.baseline)} images, of {len(attempts.history)} tried; the best tried keeps {reached:.2f} % with "
        f"{sum(best.mask)} of {len(best.mask)} layers in int8"
    )
