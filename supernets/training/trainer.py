"""Training a supernet, stage by stage (see ``plan``): progressive shrinking, the sandwich rule, or one after the other.

Each step draws one resolution and some subnets of the stage's space; the loss is cross-entropy, plus, where the stage
has a teacher, soft cross-entropy to it. Channels are sorted by importance before each stage that opens widths.
Departures from once-for-all (Cai et al., 2020): the gradients of a step's subnets are averaged, not summed, so that
learning rates do not depend on their number; the kernel transforms have no weight decay.

Every random draw comes from (seed, stage, epoch, step), and a checkpoint is written after every epoch and every few
minutes within one: a run that is killed and resumed does the same steps as one that is not. On a processor, by one
process, it ends with the same weights bit for bit; a GPU adds up gradients in an order that it does not keep.
"""

import time
from contextlib import nullcontext
from pathlib import Path

import torch

from nas.errors import DataError, UsageError
from nas.files import read_tensors, write_tensors
from nas.lock import exclusive
from search_spaces import Candidate, SearchSpace
from supernets.datasets import ImageSet, Splits
from supernets.evaluation import calibrated_subnet
from supernets.families import make_supernet
from supernets.subnet import Subnet
from supernets.supernet import ImageInfo, Supernet
from supernets.training.checkpoint import RANDOM, Progress, load_checkpoint, run_identity, save_checkpoint
from supernets.training.graphed import GraphedSteps, check_graphs
from supernets.training.log import draw_curves
from supernets.training.parallel import ALONE, Group
from supernets.training.plan import TrainingPlan
from supernets.training.stage import Report, Run, StageRun
from supernets.training.steps import Steps
from supernets.weights import FILE_NAME, load_tensors, save_supernet, take_trained

TEACHER = ("teacher", 1)
TEACHER_NAME = "teacher.safetensors"
LOCK_NAME = ".lock"


def train(
    space: SearchSpace,
    splits: Splits,
    out: Path,
    *,
    plan: TrainingPlan,
    seed: int = 0,
    device: str = "cpu",
    trained: Supernet | None = None,
    only: Candidate | None = None,
    group: Group = ALONE,
    cuda_graphs: bool = False,
    checkpoint_seconds: float = 180.0,
    report: Report = lambda line: None,
) -> Supernet:
    """Train a supernet into the folder ``out``, or go on with the run that is there.

    The folder gets ``supernet.safetensors`` at the end and, from the beginning, ``checkpoint.safetensors`` and
    ``train_log.csv``; ``curves.png`` after every stage.

    Args:
        space: What the supernet holds.
        splits: Images; only ``train`` moves weights, ``calibration`` sets the teacher's batch norms, and ``validation``
            serves the log.
        out: Folder of the run; one run at a time.
        plan: Stages, learning rates and the rest.
        seed: Of weights, order, augmentation and draws.
        device: A torch device, of this process.
        trained: Begin with the weights of this supernet of the same space; its classifier only if the classes are the
            same. ``plan.from_trained()`` is a plan for that.
        only: Train this subnet alone instead of those that the stages draw, at its own resolution.
        group: The processes that share each batch; the first of them writes.
        cuda_graphs: Record each stage's step and replay it, on one GPU and in family mbconv; see ``graphed.py``.
        checkpoint_seconds: Time between two checkpoints within an epoch; at its end there is one in any case.
        report: Receives progress.

    Raises:
        DataError: ``splits`` has no training images, or too few for a batch.
        UsageError: ``out`` holds a run of another plan, space, seed, subnet or data set, or a process trains there; or
            the batch cannot be shared or mixed; or ``trained`` is of another space; or there can be no CUDA graphs.
        FileFormatError: ``out`` holds a damaged checkpoint.
        TrainingError: The loss or a weight is no longer finite.
    """
    images = _training_images(splits, plan, group, only)
    if cuda_graphs:
        check_graphs(torch.device(device), group)
    info = ImageInfo(splits.name, splits.classes, splits.mean, splits.std)
    supernet = make_supernet(space, info, seed)
    if trained is not None:
        take_trained(supernet, trained)
    supernet.to(device).to(memory_format=torch.channels_last)
    identity = run_identity(space.preset, splits, plan, seed, trained, only)
    lock = exclusive(out / LOCK_NAME, f"{out} is in use", UsageError) if group.first else nullcontext()
    with lock:
        progress = load_checkpoint(out, supernet, identity)
        if group.first:  # a new run has one too; the log may lack its last line
            save_checkpoint(out, supernet, identity, progress)
        group.wait()  # until all have read where the run stands
        images = images.to(torch.device(device))
        if cuda_graphs:
            steps: Steps = GraphedSteps(supernet, images, plan, only)
        else:
            steps = Steps(supernet, images, plan, only, group)
        run = Run(steps, splits, out, seed, identity, checkpoint_seconds, report, time.monotonic())
        _train_stage(run, progress)
        while progress.stage + 1 < len(plan.stages):
            progress = progress.next_stage()
            _train_stage(run, progress)
        if group.first:
            save_supernet(supernet, out / FILE_NAME, {"seed": seed, "result": progress.log[-1]})
        group.wait()
    return supernet.eval()


def _training_images(splits: Splits, plan: TrainingPlan, group: Group, only: Candidate | None) -> ImageSet:
    """Return the training images, if the plan's batches can be made of them."""
    if splits.train is None:
        raise DataError(f"{splits.name}: no training images were loaded; load the splits with need_train=True")
    if len(splits.train) < plan.batch_size:
        raise DataError(
            f"{len(splits.train)} training images; allowed: one batch ({plan.batch_size}) or more; "
            "the other images are for validation, calibration and test; make the batch smaller (--batch-size)"
        )
    if plan.batch_size % group.size:
        raise UsageError(
            f"batch size {plan.batch_size} for {group.size} processes; allowed: a multiple of their number "
            "(--batch-size)"
        )
    if only is not None and any(stage.distillation or stage.sandwich or stage.subnets > 1 for stage in plan.stages):
        raise UsageError("a subnet trained alone has no teacher; allowed: stages of 1 subnet without distillation")
    if (plan.mixup or plan.cutmix) and plan.batch_size % 2:
        raise UsageError(f"batch size {plan.batch_size} with mixup or cutmix; allowed: an even one (--batch-size)")
    return splits.train


def _train_stage(run: Run, progress: Progress) -> None:
    """Train what is left of the stage at which ``progress`` stands."""
    plan, supernet = run.steps.plan, run.supernet
    stage, before = plan.stages[progress.stage], _opened(run, progress.stage)
    widens = any(stage.open.get(name, 1) > before[name] for name in supernet.space.preset.sorted_by)
    if progress.begins_stage and progress.stage and plan.sort_channels and widens:
        supernet.sort_channels(supernet.space.restricted(before))
    teacher = _load_teacher(run) if stage.distillation else None
    StageRun(run, stage, progress, teacher).finish()
    if run.steps.group.first:
        if stage.full:
            taught = calibrated_subnet(supernet, _full(supernet), run.splits.calibration)
            write_tensors(run.out / TEACHER_NAME, taught.state_dict(), *TEACHER, {"run": run.identity})
        draw_curves(run.out, progress.log)
    run.steps.group.wait()  # for the teacher


def _opened(run: Run, stage: int) -> dict[str, int]:
    """Return the choices that hold trained weights before a stage: all of them in a run from trained weights."""
    elastic = run.supernet.space.preset.elastic
    if run.identity["beginning"] != RANDOM:
        return elastic
    stages = run.steps.plan.stages[:stage]
    return {name: max((one.open.get(name, 1) for one in stages), default=1) for name in elastic}


def _full(supernet: Supernet) -> Candidate:
    space = supernet.space
    return space.candidate(space.largest(space.precisions[0]))


def _load_teacher(run: Run) -> dict[int, Subnet]:
    """Return the full network as it stood when its stage ended, by resolution."""
    path = run.out / TEACHER_NAME
    tensors, info = read_tensors(path, *TEACHER)
    if info.get("run") != run.identity:
        raise UsageError(f"{path} is the teacher of another run; start anew in another folder with --out")
    teacher = run.supernet.extract(_full(run.supernet))
    load_tensors(teacher, tensors, path)
    teacher.to(memory_format=torch.channels_last)  # as its images are
    return {side: run.supernet.resized(teacher, side) for side in run.supernet.space.resolutions}
