"""NetAdapt: the schedule, the choice, the end, and a run that was cut short."""

import copy
import dataclasses
import itertools
import math
from pathlib import Path

import pytest
import torch
from tiny_pruning import SIDE, coupled, tiny_task
from torch import nn

from nas.compression.pruning import (
    CLASSIFICATION,
    Adaptation,
    Pruned,
    PruningPlan,
    PruningState,
    find_groups,
    load_state,
    netadapt,
)
from nas.compression.pruning.finetune import gradients
from nas.compression.widths import Widths, widths_of
from nas.errors import FileFormatError, InfeasibleError, TrainingError, UsageError

PLAN = PruningPlan(step=0.15, short_steps=2, long_epochs=2, batch_size=16, importance_batches=1)


def weights(widths: Widths) -> float:
    """Count the weights of convolutions, as if they took a microsecond each."""
    return 1e-3 * sum(
        width.outputs * (9 if width.inputs == width.outputs == widths["expand"].outputs else width.inputs)
        for path, width in widths.items()
        if path not in ("norm", "stem.1")
    )


def job(importance: str = "l2", plan: PruningPlan = PLAN, seed: int = 0) -> Adaptation:
    network = coupled()
    groups = find_groups(network, torch.zeros(1, 1, SIDE, SIDE))

    def measure(network: nn.Module) -> float:
        return weights(widths_of(network))

    return Adaptation(network, tiny_task(), groups, weights, measure, measure, 4, plan, importance, seed)


def test_the_schedule_is_the_papers_down_to_a_quarter_of_its_first_step() -> None:
    plan = PruningPlan()
    assert [plan.reduction(i) for i in (1, 2, 3)] == pytest.approx([0.025, 0.024, 0.02304])
    assert plan.reduction(500) == 0.025 / 4


@pytest.mark.parametrize("importance", ["magnitude", "l2", "taylor"])
def test_the_target_is_met_step_by_step_by_what_is_best(importance: str) -> None:
    adaptation = job(importance)
    start = weights(widths_of(adaptation.network))
    pruned = netadapt(adaptation, 0.6 * start)
    done = pruned.state.iterations
    assert weights(widths_of(pruned.network)) == done[-1].measured_ms <= 0.6 * start < done[-2].measured_ms
    for last, one in itertools.pairwise(done):
        aim = max(0.6 * start, last.measured_ms - start * PLAN.reduction(one.number))
        assert one.target_ms == pytest.approx(aim)
        assert one.predicted_ms == pytest.approx(one.measured_ms) and one.predicted_ms <= one.target_ms
        best = max(proposal["score"] for proposal in one.proposals)
        chosen = next(proposal for proposal in one.proposals if proposal["root"] == one.root)
        assert chosen["score"] == best and chosen["after"] == one.after < one.before
    assert len(pruned.state.scores) == PLAN.long_epochs
    assert not pruned.network.training and widths_of(adaptation.network)["expand"].outputs == 32


def test_a_run_that_goes_on_from_any_of_its_states_ends_as_one_that_was_not_stopped(tmp_path: Path) -> None:
    adaptation, saved = job("taylor"), []
    limit = 0.6 * weights(widths_of(adaptation.network))

    def save(state: PruningState) -> None:
        saved.append(tmp_path / f"{len(saved)}.safetensors")
        state.save(saved[-1])

    whole = netadapt(adaptation, limit, save=save)
    assert len(saved) >= 5
    for path in (saved[0], saved[2], saved[-2], saved[-1]):
        again = netadapt(job("taylor"), limit, state=load_state(path))
        assert again.state.iterations == whole.state.iterations and again.state.scores == whole.state.scores
        expected = whole.network.state_dict()
        assert all(torch.equal(value, expected[name]) for name, value in again.network.state_dict().items())


def test_other_seeds_draw_other_images() -> None:
    limit = 0.8 * weights(widths_of(coupled()))
    one, two = (netadapt(job(seed=seed), limit).network.state_dict()["stem.0.weight"] for seed in (0, 1))
    assert one.shape != two.shape or not torch.equal(one, two)


def test_latencies_that_cannot_be_say_what_can() -> None:
    start = weights(widths_of(coupled()))
    with pytest.raises(InfeasibleError, match=r"latency 0.01 ms: pruning this model reaches 0.\d+ ms at best, fr"):
        netadapt(job(), 0.01)
    with pytest.raises(UsageError, match=rf"the model takes {start:.4g} ms already; allowed: below that"):
        netadapt(job(), start)


def test_a_device_that_does_not_get_faster_ends_the_run() -> None:
    says = itertools.chain([9, 1], itertools.repeat(9))  # the whole network, the least, and every one in between
    adaptation = job(plan=dataclasses.replace(PLAN, short_steps=0, step=0.9))
    adaptation = dataclasses.replace(adaptation, measure=lambda net: next(says))
    with pytest.raises(InfeasibleError, match=r"with 9 ms nothing more can be pruned in multiples of 4 channels"):
        netadapt(adaptation, 8)


def test_a_latency_that_a_longer_measurement_does_not_confirm_is_not_met() -> None:
    adaptation = job(plan=dataclasses.replace(PLAN, short_steps=0, long_epochs=0))
    limit = 0.8 * weights(widths_of(adaptation.network))
    short = netadapt(adaptation, limit).state.iterations
    longer = dataclasses.replace(adaptation, confirm=lambda net: 1.1 * adaptation.measure(net))
    done = netadapt(longer, limit).state.iterations
    assert len(done) > len(short) and done[-1].measured_ms <= limit < done[len(short) - 1].measured_ms


def test_a_loss_that_is_not_finite_ends_the_run() -> None:
    plan = dataclasses.replace(PLAN, short_rate=1e30)
    with pytest.raises(
        TrainingError, match="the loss of a fine-tuned network is not finite; give lower learning rates"
    ):
        netadapt(job(plan=plan), 0.8 * weights(widths_of(coupled())))


def test_a_score_that_is_not_a_number_is_the_worst() -> None:
    adaptation = job(plan=dataclasses.replace(PLAN, long_epochs=0))
    limit = 0.8 * weights(widths_of(adaptation.network))

    def scored(*scores: float) -> Pruned:
        told = itertools.cycle(scores)
        kind = dataclasses.replace(CLASSIFICATION, score=lambda outputs, labels: torch.tensor(next(told)))
        return netadapt(dataclasses.replace(adaptation, task=dataclasses.replace(adaptation.task, kind=kind)), limit)

    chosen = scored(0.5, math.nan, 0.1).state.iterations[1]
    scores = {proposal["root"]: proposal["score"] for proposal in chosen.proposals}
    assert math.isnan(next(iter(scores.values())))
    assert scores[chosen.root] == max(score for score in scores.values() if not math.isnan(score))
    with pytest.raises(TrainingError, match=r"iteration 1: every proposal's accuracy is not a number; give lower"):
        scored(math.nan)


def test_taylors_importance_takes_frozen_and_unused_parameters() -> None:
    adaptation = job("taylor", dataclasses.replace(PLAN, long_epochs=0))
    adaptation.network.requires_grad_(False)
    adaptation.network.side.requires_grad_(True)
    adaptation.network.unused = nn.Conv2d(4, 4, 1)
    network = copy.deepcopy(adaptation.network)
    gradients(network, adaptation.task, PLAN, (0,))
    assert not network.unused.weight.grad.any() and network.stem[0].weight.grad.any()
    assert netadapt(adaptation, 0.8 * weights(widths_of(coupled()))).state.iterations[1:]


@pytest.mark.parametrize(("name", "value"), [("step", 0.0), ("decay", 1.5), ("batch_size", 1), ("long_epochs", -1)])
def test_plans_that_cannot_be_are_refused(name: str, value: float) -> None:
    with pytest.raises(UsageError, match=rf"pruning plan: {name} {value}; allowed: "):
        dataclasses.replace(PLAN, **{name: value})


def test_a_file_that_is_no_state_is_refused(tmp_path: Path) -> None:
    from nas.files import write_tensors

    write_tensors(tmp_path / "s", nn.Linear(1, 1).state_dict(), "pruning-state", 1, {"epochs": 0})
    with pytest.raises(FileFormatError, match=r"it does not hold a pruning's state \('iterations'\); start again"):
        load_state(tmp_path / "s")
