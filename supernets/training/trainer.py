"""Progressive shrinking (Once-for-all, Cai et al., 2020): the full network, then kernels, depths and widths in turn.

Each step draws one resolution and some subnets of the stage's space; the loss is cross-entropy plus, after the full
stages, soft cross-entropy to the full network. Channels are sorted by importance before each stage that opens widths.
Departures: the gradients of a step's subnets are averaged, not summed, so that learning rates do not depend on their
number; the kernel transforms have no weight decay.

Every random draw comes from (seed, stage, epoch), and a checkpoint is written after every epoch: a run that is killed
and resumed does the same steps as one that is not.
"""

import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from timm.optim import param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from torch import Tensor

from nas.errors import DataError, TrainingError
from nas.files import read_tensors, write_tensors
from search_spaces import Candidate, MBConvSpace
from supernets.datasets import ImageSet, Splits, augment
from supernets.evaluation import calibrated_subnet, evaluate_accuracy, prepare
from supernets.subnet import Subnet
from supernets.supernet import ImageInfo, Supernet
from supernets.training.checkpoint import Progress, load_checkpoint, momentum_of, restore_momentum, save_checkpoint
from supernets.training.plan import TrainingPlan, TrainingStage
from supernets.weights import FILE_NAME, load_tensors, save_supernet

VALIDATE_EVERY = 5  # epochs
TEACHER = ("teacher", 1)
TEACHER_NAME = "teacher.safetensors"
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
    report: Report = lambda line: None,
) -> Supernet:
    """Train a supernet into the folder ``out``, or go on with the run that is there.

    The folder gets ``supernet.safetensors`` at the end and, after every epoch, ``checkpoint.safetensors`` and
    ``train_log.jsonl``.

    Args:
        space: What the supernet holds.
        splits: Images; only ``train`` moves weights, ``calibration`` and ``validation`` serve the log.
        out: Folder of the run.
        plan: Stages, learning rates and the rest.
        seed: Of weights, order, augmentation and draws.
        device: A torch device.
        only: Train this subnet alone instead of those that the stages draw, at its own resolution.
        report: Receives progress.

    Raises:
        DataError: ``splits`` has no training images.
        UsageError: ``out`` holds a run of another plan, space, seed or data set.
        FileFormatError: ``out`` holds a damaged checkpoint.
        TrainingError: The loss is no longer finite.
    """
    if splits.train is None:
        raise DataError(f"{splits.name}: no training images were loaded; load the splits with need_train=True")
    info = ImageInfo(splits.name, splits.classes, splits.mean, splits.std)
    supernet = Supernet(space, info, seed).to(device)
    supernet.to(memory_format=torch.channels_last)
    progress = load_checkpoint(out, supernet, plan, seed)
    run = _Run(supernet, splits, out, plan, seed, only, report)
    while True:
        run.stage(progress)
        if progress.stage + 1 == len(plan.stages):
            break
        progress = progress.next_stage()
    save_supernet(supernet, out / FILE_NAME, {"seed": seed, "result": progress.log[-1]})
    return supernet.eval()


class _Run:
    """One training run: what stays the same over its stages."""

    def __init__(
        self,
        supernet: Supernet,
        splits: Splits,
        out: Path,
        plan: TrainingPlan,
        seed: int,
        only: Candidate | None,
        report: Report,
    ):
        self.supernet, self.out, self.plan, self.seed = supernet, out, plan, seed
        self.only, self.report = only, report
        self.device = next(supernet.parameters()).device
        self.train_set, self.validation, self.calibration = (
            ImageSet(part.images.to(self.device), part.labels.to(self.device), part.classes)
            for part in (splits.train, splits.validation, splits.calibration)
            if part is not None
        )
        self.full = supernet.space.candidate(supernet.space.largest(supernet.space.precisions[0]))

    def stage(self, progress: Progress) -> None:
        """Train what is left of a stage, with a checkpoint after every epoch."""
        number, stage = progress.stage, self.plan.stages[progress.stage]
        space = stage.space(self.supernet.space.preset)
        previous = self.plan.stages[max(0, number - 1)]
        if progress.epoch == 0 and stage.width_choices != previous.width_choices:
            self.supernet.sort_channels(previous.space(self.supernet.space.preset))
        teacher = self._load_teacher() if stage.distillation else None
        optimizer = torch.optim.SGD(
            param_groups_weight_decay(self.supernet, self.plan.weight_decay, no_weight_decay_list=self._undecayed()),
            lr=stage.learning_rate,
            momentum=self.plan.momentum,
            nesterov=True,
        )
        restore_momentum(self.supernet, optimizer, progress.momentum)
        steps = len(self.train_set) // self.plan.batch_size
        if steps == 0:
            raise DataError(
                f"{len(self.train_set)} training images; allowed: one batch ({self.plan.batch_size}, --batch-size)"
            )
        scheduler = CosineLRScheduler(
            optimizer,
            t_initial=stage.epochs * steps,
            warmup_t=stage.warmup_epochs * steps,
            warmup_prefix=False,
            warmup_lr_init=stage.learning_rate / 100,
            t_in_epochs=False,
        )
        for epoch in range(progress.epoch, stage.epochs):
            line = {"stage": stage.name, "epoch": epoch + 1, "epochs": stage.epochs}
            line |= self._epoch(number, epoch, space, teacher, optimizer, scheduler)
            if (epoch + 1) % VALIDATE_EVERY == 0 or epoch + 1 == stage.epochs:
                line |= self._validate(space)
            progress.epoch, progress.momentum = epoch + 1, momentum_of(self.supernet, optimizer)
            progress.log.append(line)
            save_checkpoint(self.out, self.supernet, self.plan, self.seed, progress)
            self.report(line)
        if stage.full:
            teacher = calibrated_subnet(self.supernet, self.full, self.calibration)
            write_tensors(self.out / TEACHER_NAME, teacher.state_dict(), *TEACHER, {})

    def _epoch(
        self,
        number: int,
        epoch: int,
        space: MBConvSpace,
        teacher: Subnet | None,
        optimizer: torch.optim.Optimizer,
        scheduler: CosineLRScheduler,
    ) -> dict[str, Any]:
        """Go once over the training images; return the epoch's mean loss and speed."""
        stage, begin = self.plan.stages[number], time.monotonic()
        rng = np.random.default_rng((self.seed, number, epoch))
        torch.manual_seed(int(rng.integers(2**62)))  # dropout draws from torch's own generator
        steps = len(self.train_set) // self.plan.batch_size
        total = torch.zeros((), device=self.device)
        self.supernet.train()
        for step, (images, labels) in enumerate(self._batches(space, rng)):
            scheduler.step_update(epoch * steps + step)
            with self._autocast():
                target = None if teacher is None else teacher_probabilities(teacher, images)
            optimizer.zero_grad(set_to_none=True)
            for candidate in self._draw(space, stage, images.shape[-1], rng):
                with self._autocast():
                    logits = self.supernet(images, candidate)
                loss = self._loss(logits.float(), labels, target, stage.distillation) / stage.subnets
                loss.backward()
                total += loss.detach()
            optimizer.step()
            self.report({"step": step + 1, "steps": steps})
        mean = float(total) / steps
        if not np.isfinite(mean):
            raise TrainingError(f"stage {stage.name}, epoch {epoch + 1}: the loss is {mean}; lower its learning_rate")
        seconds = time.monotonic() - begin
        speed = steps * self.plan.batch_size * stage.subnets / seconds
        return {"learning_rate": optimizer.param_groups[0]["lr"], "loss": mean, "images_per_second": round(speed)}

    def _autocast(self) -> torch.autocast:
        """Return the context of forward passes: bfloat16 on a GPU, float32 elsewhere."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")

    def _batches(self, space: MBConvSpace, rng: np.random.Generator) -> Iterator[tuple[Tensor, Tensor]]:
        """Yield augmented batches, each at a resolution drawn anew; what is left of the last batch is dropped."""
        plan = self.plan
        generator = torch.Generator(self.device).manual_seed(int(rng.integers(2**62)))
        order = torch.from_numpy(rng.permutation(len(self.train_set))).to(self.device)
        for indices in order.split(plan.batch_size):
            if len(indices) == plan.batch_size:
                images = augment(
                    self.train_set.images[indices], generator, flip=plan.flip, shift=plan.shift, erase=plan.erase
                )
                resolution = self.only.resolution if self.only else int(rng.choice(space.resolutions))
                images = prepare(images, resolution, self.supernet.info)
                yield images.contiguous(memory_format=torch.channels_last), self.train_set.labels[indices]

    def _draw(
        self, space: MBConvSpace, stage: TrainingStage, resolution: int, rng: np.random.Generator
    ) -> list[Candidate]:
        """Return the subnets of one step, at its resolution."""
        if self.only is not None:
            return [self.only] * stage.subnets
        genes = space.sample(stage.subnets, rng)
        ends = np.stack([space.largest(), space.smallest()])
        extreme = rng.random(stage.subnets) < stage.extremes
        genes[extreme] = ends[rng.integers(2, size=int(extreme.sum()))]
        genes[:, 0] = space.resolutions.index(resolution)
        return [space.candidate(row) for row in genes]

    def _loss(self, logits: Tensor, labels: Tensor, target: Tensor | None, distillation: float) -> Tensor:
        loss = F.cross_entropy(logits, labels, label_smoothing=self.plan.label_smoothing)
        return loss if target is None else loss + distillation * F.cross_entropy(logits, target)

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
        teacher = self.supernet.extract(self.full)
        load_tensors(teacher, read_tensors(path, *TEACHER)[0], path)
        return teacher

    def _undecayed(self) -> list[str]:
        return [name for name, _ in self.supernet.named_parameters() if "transforms" in name]


@torch.no_grad()
def teacher_probabilities(teacher: Subnet, images: Tensor) -> Tensor:
    """Return the teacher's class probabilities ``(n, classes)``."""
    return teacher(images).float().softmax(dim=1)
