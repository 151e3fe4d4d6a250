"""Progressive shrinking (Once-for-all, Cai et al., 2020): the full network, then kernels, depths and widths in turn.

Each step draws one resolution and some subnets of the stage's space; the loss is cross-entropy plus, after the full
stages, soft cross-entropy to the full network. Channels are sorted by importance before each stage that opens widths.
Departures: the gradients of a step's subnets are averaged, not summed, so that learning rates do not depend on their
number; the kernel transforms have no weight decay.

Every random draw comes from (seed, stage, epoch, step), and a checkpoint is written after every epoch and every few
minutes within one: a run that is killed and resumed does the same steps as one that is not.
"""

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler

from nas.errors import DataError, TrainingError, UsageError
from nas.files import read_tensors, write_tensors
from nas.lock import exclusive
from search_spaces import Candidate, MBConvSpace
from supernets.datasets import ImageSet, Splits
from supernets.evaluation import calibrated_subnet, evaluate_accuracy, prepare
from supernets.subnet import Subnet
from supernets.supernet import ImageInfo, Supernet
from supernets.training.checkpoint import (
    Identity,
    Progress,
    load_checkpoint,
    momentum_of,
    restore_momentum,
    run_identity,
    save_checkpoint,
)
from supernets.training.plan import TrainingPlan, TrainingStage
from supernets.training.steps import Steps
from supernets.weights import FILE_NAME, load_tensors, save_supernet

VALIDATE_EVERY = 5  # epochs
TEACHER = ("teacher", 1)
TEACHER_NAME = "teacher.safetensors"
LOCK_NAME = ".lock"
Report = Callable[[dict[str, Any]], None]
"""Called with ``{"step", "steps"}`` after every step and with a line of the log after every epoch."""


def train(
    space: MBConvSpace,
    splits: Splits,
    out: Path,
    *,
    plan: TrainingPlan,
    seed: int = 0,
    device: str = "cpu",
    only: Candidate | None = None,
    checkpoint_seconds: float = 180.0,
    report: Report = lambda line: None,
) -> Supernet:
    """Train a supernet into the folder ``out``, or go on with the run that is there.

    The folder gets ``supernet.safetensors`` at the end and, from the beginning, ``checkpoint.safetensors`` and
    ``train_log.jsonl``.

    Args:
        space: What the supernet holds.
        splits: Images; only ``train`` moves weights, ``calibration`` sets the teacher's batch norms, and ``validation``
            serves the log.
        out: Folder of the run; one process at a time.
        plan: Stages, learning rates and the rest.
        seed: Of weights, order, augmentation and draws.
        device: A torch device.
        only: Train this subnet alone instead of those that the stages draw, at its own resolution.
        checkpoint_seconds: Time between two checkpoints within an epoch; at its end there is one in any case.
        report: Receives progress.

    Raises:
        DataError: ``splits`` has no training images, or too few for a batch.
        UsageError: ``out`` holds a run of another plan, space, seed, subnet or data set, or a process trains there.
        FileFormatError: ``out`` holds a damaged checkpoint.
        TrainingError: The loss or a weight is no longer finite.
    """
    if splits.train is None:
        raise DataError(f"{splits.name}: no training images were loaded; load the splits with need_train=True")
    if len(splits.train) < plan.batch_size:
        raise DataError(
            f"{len(splits.train)} training images; allowed: one batch ({plan.batch_size}) or more; "
            "the other images are for validation, calibration and test; make the batch smaller (--batch-size)"
        )
    info = ImageInfo(splits.name, splits.classes, splits.mean, splits.std)
    supernet = Supernet(space, info, seed).to(device)
    supernet.to(memory_format=torch.channels_last)
    identity = run_identity(space.preset, splits, plan, seed, only)
    with exclusive(out / LOCK_NAME, f"{out} is in use", UsageError):
        progress = load_checkpoint(out, supernet, identity)
        save_checkpoint(out, supernet, identity, progress)  # a new run has one too; the log may lack its last line
        steps = Steps(supernet, _moved(splits.train, torch.device(device)), plan, only)
        run = _Run(steps, splits, out, seed, identity, checkpoint_seconds, report)
        run.stage(progress)
        while progress.stage + 1 < len(plan.stages):
            progress = progress.next_stage()
            run.stage(progress)
        save_supernet(supernet, out / FILE_NAME, {"seed": seed, "result": progress.log[-1]})
    return supernet.eval()


class _Run:
    """One training run: what stays the same over its stages."""

    def __init__(
        self,
        steps: Steps,
        splits: Splits,
        out: Path,
        seed: int,
        identity: Identity,
        checkpoint_seconds: float,
        report: Report,
    ):
        self.steps, self.supernet, self.plan, self.only = steps, steps.supernet, steps.plan, steps.only
        self.out, self.seed, self.identity, self.report = out, seed, identity, report
        self.checkpoint_seconds, self.saved = checkpoint_seconds, time.monotonic()
        self.device = steps.device
        self.count = len(steps.images) // self.plan.batch_size  # steps an epoch
        self.validation, self.calibration = (
            _moved(part, self.device) for part in (splits.validation, splits.calibration)
        )
        space = self.supernet.space
        self.full = space.candidate(space.largest(space.precisions[0]))

    def stage(self, progress: Progress) -> None:
        """Train what is left of a stage."""
        number, stage = progress.stage, self.plan.stages[progress.stage]
        space = stage.space(self.supernet.space.preset)
        previous = self.plan.stages[max(0, number - 1)]
        if progress.begins_stage and stage.width_choices != previous.width_choices:
            self.supernet.sort_channels(previous.space(self.supernet.space.preset))
        teacher = self._load_teacher() if stage.distillation else None
        optimizer = torch.optim.SGD(
            param_groups_weight_decay(self.supernet, self.plan.weight_decay, no_weight_decay_list=self._undecayed()),
            lr=stage.learning_rate,
            momentum=self.plan.momentum,
            nesterov=True,
        )
        restore_momentum(self.supernet, optimizer, progress.momentum)
        scheduler = CosineLRScheduler(
            optimizer,
            t_initial=stage.epochs * self.count,
            warmup_t=stage.warmup_epochs * self.count,
            warmup_prefix=False,
            warmup_lr_init=stage.learning_rate / 100,
            t_in_epochs=False,
        )
        while progress.epoch < stage.epochs:
            epoch = progress.epoch + 1
            line = {"stage": stage.name, "epoch": epoch, "epochs": stage.epochs}
            line |= self._epoch(progress, stage, space, teacher, optimizer, scheduler)
            if epoch % VALIDATE_EVERY == 0 or epoch == stage.epochs:
                line |= self._validate(space)
            progress.end_epoch(line)
            self._save(progress, stage, optimizer)
            self.report(line)
        if stage.full:
            taught = calibrated_subnet(self.supernet, self.full, self.calibration)
            write_tensors(self.out / TEACHER_NAME, taught.state_dict(), *TEACHER, {"run": self.identity})

    def _epoch(
        self,
        progress: Progress,
        stage: TrainingStage,
        space: MBConvSpace,
        teacher: Subnet | None,
        optimizer: torch.optim.Optimizer,
        scheduler: CosineLRScheduler,
    ) -> dict[str, Any]:
        """Go over what is left of an epoch; return its mean loss and its speed."""
        begin, first, place = time.monotonic(), progress.step, (self.seed, progress.stage, progress.epoch)
        order = torch.from_numpy(np.random.default_rng((*place, 0)).permutation(len(self.steps.images))).to(self.device)
        batches = order.split(self.plan.batch_size)
        total = torch.tensor(progress.loss, dtype=torch.float64, device=self.device)
        self.supernet.train()
        for step in range(first, self.count):  # what is left of the last batch is dropped
            rng = np.random.default_rng((*place, step + 1))
            scheduler.step_update(progress.epoch * self.count + step)
            total += self.steps.step(batches[step], stage, space, teacher, optimizer, rng)
            if step + 1 < self.count and time.monotonic() - self.saved >= self.checkpoint_seconds:
                progress.step, progress.loss = step + 1, float(total)
                self._save(progress, stage, optimizer)
            self.report({"step": step + 1, "steps": self.count})
        mean = float(total) / self.count
        if not np.isfinite(mean):
            raise _diverged(stage, progress.epoch + 1, f"the loss is {mean}")
        images_seen = (self.count - first) * self.plan.batch_size * stage.subnets
        speed = round(images_seen / (time.monotonic() - begin))
        return {"learning_rate": optimizer.param_groups[0]["lr"], "loss": mean, "images_per_second": speed}

    def _save(self, progress: Progress, stage: TrainingStage, optimizer: torch.optim.Optimizer) -> None:
        progress.momentum = momentum_of(self.supernet, optimizer)
        try:
            if not np.isfinite(progress.loss):
                raise TrainingError(f"the loss is {progress.loss}")
            save_checkpoint(self.out, self.supernet, self.identity, progress)
        except TrainingError as error:
            raise _diverged(stage, progress.epoch + (progress.step > 0), str(error)) from error
        self.saved = time.monotonic()

    def _validate(self, space: MBConvSpace) -> dict[str, float]:
        """Return the validation accuracy of the largest and the smallest network of the stage, or of the only one."""
        if self.only is not None:
            return {"only": self.accuracy(self.only)}
        rows = {"largest": space.largest(), "smallest": space.smallest()}
        return {name: self.accuracy(space.candidate(row)) for name, row in rows.items()}

    def accuracy(self, candidate: Candidate) -> float:
        """Return a candidate's validation accuracy, batch norms recalibrated."""
        subnet = calibrated_subnet(self.supernet, candidate, self.calibration)
        images = prepare(self.validation.images, candidate.resolution, self.supernet.info)
        return evaluate_accuracy(subnet, images, self.validation.labels)

    def _load_teacher(self) -> Subnet:
        """Return the full network as it stood when its stage ended."""
        path = self.out / TEACHER_NAME
        tensors, info = read_tensors(path, *TEACHER)
        if info.get("run") != self.identity:
            raise UsageError(f"{path} is the teacher of another run; start anew in another folder with --out")
        teacher = self.supernet.extract(self.full)
        load_tensors(teacher, tensors, path)
        return teacher

    def _undecayed(self) -> list[str]:
        return [name for name, _ in self.supernet.named_parameters() if "transforms" in name]


def _moved(part: ImageSet, device: torch.device) -> ImageSet:
    return ImageSet(part.images.to(device), part.labels.to(device), part.classes)


def _diverged(stage: TrainingStage, epoch: int, what: str) -> TrainingError:
    return TrainingError(f"stage {stage.name}, epoch {epoch}: {what}; lower its learning_rate")
