"""The plans of the methods that are compared, at equal compute.

Compute is counted in multiply-adds: those of a subnet three times for each image that it learns from (forward, and
twice that backward), those of the full network once for each image that it teaches without learning.
"""

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from subnets import macs

from search_spaces import Candidate, Genes, MBConvSpace
from supernets.training import TrainingPlan, TrainingStage

SUBNETS = 4  # a step, of the methods that have one stage
DRAWS = 1000  # for the mean over random subnets
METHODS = {
    "shrinking": "progressive shrinking",
    "unsorted": "progressive shrinking, channels not sorted",
    "sandwich": "sandwich rule, in-place distillation",
    "joint": "naive joint training",
    "preset": "progressive shrinking, then the sandwich rule",
}


def make_plans(plan: TrainingPlan, space: MBConvSpace) -> Mapping[str, TrainingPlan]:
    """Return the plan of each method, all at the compute of the preset's.

    Args:
        plan: The preset's: its first stage trains the full network, its last one opens the whole space.
        space: What is trained.
    """
    first, whole, budget = plan.stages[0], plan.stages[-1].open, compute(plan, space)
    taught = [replace(stage, extremes=0.0) for stage in plan.stages if stage.full or stage.distillation]
    stage = replace(first, subnets=SUBNETS, open=whole, distillation=0.0, extremes=0.0)
    shrinking = _fill(budget, replace(plan, stages=tuple(taught)), space)
    return {
        "shrinking": shrinking,
        "unsorted": replace(shrinking, sort_channels=False),
        "sandwich": _fill(budget, replace(plan, stages=(replace(stage, name="sandwich", sandwich=True),)), space),
        "joint": _fill(budget, replace(plan, stages=(replace(stage, name="joint"),)), space),
        "preset": plan,
    }


def alone_plan(plan: TrainingPlan) -> TrainingPlan:
    """Return the plan of a subnet trained alone: the full network's stage."""
    return replace(plan, stages=plan.stages[:1])


def compute(plan: TrainingPlan, space: MBConvSpace) -> float:
    """Return the multiply-adds of a whole training for each image of an epoch."""
    return sum(stage.epochs * step_macs(stage, space) for stage in plan.stages)


def alone_compute(plan: TrainingPlan, space: MBConvSpace, candidate: Candidate) -> float:
    """Return the same where every step trains one subnet only."""
    return 3 * subnet_images(plan) * _mean(space, space.genes(candidate)[None])


def subnet_images(plan: TrainingPlan) -> int:
    """Return how often, in a whole training, an image of an epoch is shown to a subnet that learns."""
    return sum(stage.epochs * stage.subnets for stage in plan.stages)


def step_macs(stage: TrainingStage, space: MBConvSpace) -> float:
    """Return the expected multiply-adds of a step for each image of its batch; resolutions are equally likely."""
    part = stage.space(space)
    drawn = _mean(part, part.sample(DRAWS, np.random.default_rng(0)))
    ends = [_over_resolutions(part, row) for row in (part.largest(), part.smallest())]
    if stage.sandwich:
        learning = sum(ends) + (stage.subnets - 2) * drawn
    else:
        learning = stage.subnets * ((1 - stage.extremes) * drawn + stage.extremes * sum(ends) / 2)
    teaching = _over_resolutions(space, space.largest()) if stage.distillation else 0.0
    return 3 * learning + teaching


def _fill(budget: float, plan: TrainingPlan, space: MBConvSpace) -> TrainingPlan:
    """Return the plan with as many epochs of its last stage, one at least, as ``budget`` leaves for them."""
    *others, last = plan.stages
    left = budget - sum(stage.epochs * step_macs(stage, space) for stage in others)
    epochs = max(1, round(left / step_macs(last, space)))
    last = replace(last, epochs=epochs, warmup_epochs=min(last.warmup_epochs, epochs - 1))
    return replace(plan, stages=(*others, last))


def _over_resolutions(space: MBConvSpace, row: Genes) -> float:
    rows = np.repeat(row[None], len(space.resolutions), axis=0)
    rows[:, 0] = range(len(space.resolutions))
    return _mean(space, rows)


def _mean(space: MBConvSpace, rows: Genes) -> float:
    return float(macs(space, rows, space.preset.channels, space.preset.classes).mean())
