"""NetAdapt: lower a network's latency step by step, each step where it costs least (Yang et al., ECCV 2018).

An iteration lowers the latency by a little. For each group of channels it takes off the fewest that get there, by
prediction, trains that proposal for some steps and judges it on validation images; the best one is kept, and measured.
At the target, confirmed by a longer measurement, what is left is trained on.

Beside the paper: the schedule has a floor (``PruningPlan``); a prediction is what the network was last measured at less
what the look-up says is gone, so that the look-up's errors do not add up; and where no group alone can take a step, as
at the end, each goes as far as it can. Every iteration begins from its predecessor's stored state, also without a kill
in between: so a run that is resumed ends as one that was not, where its measurements agree.
"""

import bisect
import copy
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from nas.compression.pruning.finetune import gradients, short_training, train_epoch
from nas.compression.pruning.groups import PruningGroup, cut, rank_channels
from nas.compression.pruning.plan import PruningPlan
from nas.compression.pruning.state import Iteration, PruningState
from nas.compression.pruning.task import Examples, Task
from nas.compression.widths import Width, Widths, load_widths, narrowed, widths_of
from nas.errors import InfeasibleError, TrainingError, UsageError

Progress = Callable[[str, int, int, str], None]  # (stage, done, total, detail)
_SHORT, _LONG, _GRADIENTS = 1, 2, 3  # what draws follow from, beside the seed


@dataclass(frozen=True, eq=False)
class Pruned:
    """What pruning left: the network, in evaluation mode, and how it came about."""

    network: nn.Module
    state: PruningState


@dataclass(frozen=True, eq=False)
class Adaptation:
    """What NetAdapt works with.

    Attributes:
        network: The whole one, in evaluation mode; left as it is.
        task: Its data.
        groups: Its groups.
        estimate: Milliseconds of the network at some widths, up to a constant: a look-up's sum.
        measure: Milliseconds of a network, as the device says in a short time.
        confirm: Likewise as carefully as the result is judged; asked where ``measure`` says that the target is met.
        round_to: What the channels left are a multiple of.
        plan: The numbers.
        importance: What says which channels go, of ``IMPORTANCES``.
        seed: All draws follow from it.
    """

    network: nn.Module
    task: Task
    groups: Sequence[PruningGroup]
    estimate: Callable[[Widths], float]
    measure: Callable[[nn.Module], float]
    confirm: Callable[[nn.Module], float]
    round_to: int
    plan: PruningPlan
    importance: str
    seed: int

    def rebuilt(self, state: PruningState) -> nn.Module:
        """Return the network of a state."""
        network = copy.deepcopy(self.network)
        load_widths(network, state.tensors, Path("state"))
        return network.eval()

    @property
    def image(self) -> Tensor:
        """An image as the network takes them, of zeros."""
        return torch.zeros(1, self.task.channels, self.task.resolution, self.task.resolution)

    @property
    def judges(self) -> Examples:
        """The validation images that judge proposals."""
        most, part = self.plan.validation_images, self.task.validation
        return Examples(part.images[:most], part.targets[:most])


def floors(groups: Sequence[PruningGroup], widths: Widths, round_to: int) -> dict[str, Width]:
    """Return the widths with as few channels in every group as pruning leaves."""
    least = dict(widths)
    for group in groups:
        counts = group.counts(widths, round_to)
        least = group.without(least, widths[group.root].outputs - counts[-1]) if counts else least
    return least


def netadapt(
    job: Adaptation,
    latency_ms: float,
    *,
    state: PruningState | None = None,
    save: Callable[[PruningState], None] = lambda state: None,
    progress: Progress = lambda stage, done, total, detail: None,
) -> Pruned:
    """Prune a network until the device runs it in ``latency_ms``, then train what is left.

    Args:
        job: The network and all that is known of it.
        latency_ms: The target.
        state: Where to go on; None begins.
        save: Given every state, the first too.
        progress: Told how far it is.

    Raises:
        InfeasibleError: Pruning does not get there; the message says what it reaches.
        UsageError: The network is as fast already, or cannot be pruned.
        TrainingError: A loss is not finite, or no score is a number.
    """
    if state is None:
        start_ms, score = job.measure(job.network), job.task.evaluate(job.network, job.task.validation)
        whole = Iteration(0, start_ms, "", 0, 0, start_ms, start_ms, score)
        state = PruningState(_tensors(job.network), (whole,))
        _check_reachable(job, latency_ms, start_ms)
        save(state)
    while not state.epochs and not _is_met(state, latency_ms):
        state = _iteration(job, state, latency_ms, progress)
        if _is_met(state, latency_ms):
            state = state.timed(job.confirm(job.rebuilt(state)))
        save(state)
    while state.epochs < job.plan.long_epochs:
        state = _epoch(job, state)
        detail = f"{job.task.kind.metric} {state.scores[-1]:.4g}"
        progress("train what is left", state.epochs, job.plan.long_epochs, detail)
        save(state)
    return Pruned(job.rebuilt(state), state)


def _is_met(state: PruningState, latency_ms: float) -> bool:
    return state.iterations[-1].measured_ms <= latency_ms


def _check_reachable(job: Adaptation, latency_ms: float, start_ms: float) -> None:
    if latency_ms >= start_ms:
        raise UsageError(f"latency {latency_ms:g} ms: the model takes {start_ms:.4g} ms already; allowed: below that")
    least = floors(job.groups, widths_of(job.network), job.round_to)
    least_ms = job.measure(narrowed(job.network, least))
    if latency_ms < least_ms:
        raise InfeasibleError(
            f"latency {latency_ms:g} ms: pruning this model reaches {least_ms:.4g} ms at best, from "
            f"{start_ms:.4g} ms, with channels in multiples of {job.round_to}; give that or more"
        )


def _iteration(job: Adaptation, state: PruningState, latency_ms: float, progress: Progress) -> PruningState:
    """Return the state after one more iteration."""
    number, last = len(state.iterations), state.iterations[-1]
    start_ms = state.iterations[0].measured_ms
    target_ms = max(latency_ms, last.measured_ms - start_ms * job.plan.reduction(number))
    network = job.rebuilt(state)
    proposals = _proposals(job, widths_of(network), last.measured_ms, target_ms)
    if not proposals:
        raise InfeasibleError(
            f"latency {latency_ms:g} ms: with {last.measured_ms:.4g} ms nothing more can be pruned in multiples of "
            f"{job.round_to} channels; give that or more"
        )
    if job.importance == "taylor":
        gradients(network, job.task, job.plan, (job.seed, _GRADIENTS, number))
    ranked = rank_channels(network, job.image, job.importance)
    network.zero_grad()
    best, tensors, judged = None, None, []
    for index, (group, after, predicted_ms) in enumerate(proposals):
        before = widths_of(network)[group.root].outputs
        smaller = cut(network, job.image, group.root, ranked[group.root][: before - after])
        short_training(smaller, job.task, job.plan, (job.seed, _SHORT, number, index))
        score = job.task.evaluate(smaller, job.judges)
        judged.append({"root": group.root, "after": after, "predicted_ms": predicted_ms, "score": score})
        if best is None or job.task.kind.better(score, best.score):
            best = Iteration(number, target_ms, group.root, before, after, predicted_ms, predicted_ms, score)
            tensors = _tensors(smaller)
        progress(f"iteration {number}", index + 1, len(proposals), f"{last.measured_ms:.4g} of {latency_ms:g} ms")
    assert best is not None and tensors is not None
    if math.isnan(best.score):
        raise TrainingError(
            f"iteration {number}: every proposal's {job.task.kind.metric} is not a number; give lower learning rates"
        )
    kept = job.rebuilt(state.advanced(tensors, best))
    score = job.task.evaluate(kept, job.task.validation)
    return state.advanced(tensors, replace(best, measured_ms=job.measure(kept), score=score, proposals=tuple(judged)))


def _proposals(
    job: Adaptation, widths: Widths, now_ms: float, target_ms: float
) -> list[tuple[PruningGroup, int, float]]:
    """Return for each group the most channels that get below ``target_ms``, and the latency that is predicted.

    Where none gets there, each goes as far as it can.
    """
    rest_ms = now_ms - job.estimate(widths)
    found, partial = [], []
    for group in job.groups:
        counts = group.counts(widths, job.round_to)
        now = widths[group.root].outputs

        def ms(after: int, group: PruningGroup = group, now: int = now) -> float:
            return rest_ms + job.estimate(group.without(widths, now - after))

        place = bisect.bisect_left(counts, True, key=lambda after, ms=ms: ms(after) <= target_ms)  # type: ignore[misc]
        if place < len(counts):
            found.append((group, counts[place], ms(counts[place])))
        elif counts and ms(counts[-1]) < now_ms:
            partial.append((group, counts[-1], ms(counts[-1])))
    return found or partial


def _epoch(job: Adaptation, state: PruningState) -> PruningState:
    """Return the state after one more epoch of the long training."""
    network = job.rebuilt(state)
    momenta = train_epoch(network, job.task, job.plan, state.epochs, (job.seed, _LONG, state.epochs), state.momenta)
    score = job.task.evaluate(network, job.task.validation)
    return state.trained(_tensors(network), score, momenta)


def _tensors(network: nn.Module) -> dict[str, Any]:
    return {name: value.detach().clone().contiguous() for name, value in network.state_dict().items()}
