"""One stage of a training run: its optimizer, schedule and moving average, from an epoch to the next."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from timm.optim import create_optimizer_v2, param_groups_weight_decay
from timm.scheduler import CosineLRScheduler
from timm.utils import ModelEmaV3

from nas.errors import TrainingError
from search_spaces import SearchSpace
from supernets.datasets import Splits
from supernets.subnet import Subnet
from supernets.supernet import Supernet
from supernets.training.checkpoint import Identity, Progress, optimizer_state, restore_optimizer, save_checkpoint
from supernets.training.plan import TrainingStage
from supernets.training.steps import Steps
from supernets.training.validation import validate
from supernets.weights import load_tensors

VALIDATE_EVERY = 5  # epochs
Report = Callable[[dict[str, Any]], None]
"""Called with ``{"stage", "step", "steps", "images_per_second"}`` after every step, the steps of the whole stage, and
with a line of the log after every epoch."""


@dataclass
class Run:
    """What stays the same over the stages of a run; ``saved`` is when its last checkpoint was written."""

    steps: Steps
    splits: Splits
    out: Path
    seed: int
    identity: Identity
    checkpoint_seconds: float
    report: Report
    saved: float

    @property
    def supernet(self) -> Supernet:
        """What learns."""
        return self.steps.supernet

    @property
    def steps_an_epoch(self) -> int:
        """Whole batches in the training images."""
        return len(self.steps.images) // self.steps.plan.batch_size


class StageRun:
    """What is left of one stage.

    Args:
        run: The run.
        stage: The stage.
        progress: Where the run stands; it is moved on.
        teacher: The full network by resolution, where the stage has distillation.
    """

    def __init__(self, run: Run, stage: TrainingStage, progress: Progress, teacher: Mapping[int, Subnet] | None):
        self.run, self.stage, self.progress, self.teacher = run, stage, progress, teacher
        self.space: SearchSpace = stage.space(run.supernet.space)
        self.optimizer = self._make_optimizer()
        restore_optimizer(run.supernet, self.optimizer, progress.optimizer)
        self.scheduler = CosineLRScheduler(
            self.optimizer,
            t_initial=stage.epochs * run.steps_an_epoch,
            warmup_t=stage.warmup_epochs * run.steps_an_epoch,
            warmup_prefix=False,
            warmup_lr_init=stage.learning_rate / 100,
            t_in_epochs=False,
        )
        self.average = self._make_average()

    def _make_optimizer(self) -> torch.optim.Optimizer:
        plan, supernet = self.run.steps.plan, self.run.supernet
        undecayed = [name for name, _ in supernet.named_parameters() if "transforms" in name or "biases" in name]
        groups = param_groups_weight_decay(supernet, plan.weight_decay, no_weight_decay_list=undecayed)
        return create_optimizer_v2(groups, opt=plan.optimizer, lr=self.stage.learning_rate, momentum=plan.momentum)

    def _make_average(self) -> ModelEmaV3 | None:
        decay = self.run.steps.plan.average
        if not decay:
            return None
        average = ModelEmaV3(self.run.supernet, decay=decay, use_warmup=True)
        if self.progress.average:
            load_tensors(average.module, self.progress.average, self.run.out)
        return average

    def finish(self) -> None:
        """Train what is left; the supernet ends with the moving average of its weights, where there is one."""
        while self.progress.epoch < self.stage.epochs:
            epoch = self.progress.epoch + 1
            line = {"stage": self.stage.name, "epoch": epoch, "epochs": self.stage.epochs, **self._epoch()}
            judged = self.run.supernet if self.average is None else self.average.module
            if (epoch % VALIDATE_EVERY == 0 or epoch == self.stage.epochs) and self.run.steps.group.first:
                line |= validate(judged, self.space, self.run.splits, self.run.steps.only, self.run.seed)
            self.progress.end_epoch(line)
            if epoch == self.stage.epochs and self.average is not None:
                self.run.supernet.load_state_dict(self.average.module.state_dict())
                self.average = None
            self._save()
            self.run.report(line)

    def _epoch(self) -> dict[str, Any]:
        """Go over what is left of an epoch; return its mean loss and its speed."""
        run, progress, count = self.run, self.progress, self.run.steps_an_epoch
        begin, first, place = time.monotonic(), progress.step, (run.seed, progress.stage, progress.epoch)
        device = run.steps.device
        order = torch.from_numpy(np.random.default_rng((*place, 0)).permutation(len(run.steps.images))).to(device)
        batches = order.split(run.steps.plan.batch_size)
        total = torch.tensor(progress.loss, dtype=torch.float64, device=device)
        run.supernet.train()
        for step in range(first, count):  # what is left of the last batch is dropped
            rng, done = np.random.default_rng((*place, step + 1)), progress.epoch * count + step
            self.scheduler.step_update(done)
            total += run.steps.step(batches[step], self.stage, self.space, self.teacher, self.optimizer, rng)
            if self.average is not None:
                self.average.update(run.supernet, done + 1)
            if step + 1 < count and time.monotonic() - run.saved >= run.checkpoint_seconds:
                progress.step, progress.loss = step + 1, float(total)
                self._save()
            speed = self._speed(step + 1 - first, begin)
            run.report(
                {"stage": self.stage.name, "step": done + 1, "steps": self.stage.epochs * count}
                | {"images_per_second": speed}
            )
        mean = float(total) / count
        if not np.isfinite(mean):
            raise self._diverged(progress.epoch + 1, f"the loss is {mean}")
        rate = self.optimizer.param_groups[0]["lr"]
        return {"learning_rate": rate, "loss": mean, "images_per_second": self._speed(count - first, begin)}

    def _speed(self, steps: int, begin: float) -> int:
        """Return the images of so many steps a second, each counted once however many subnets it goes through."""
        return round(steps * self.run.steps.plan.batch_size / (time.monotonic() - begin))

    def _save(self) -> None:
        run, progress = self.run, self.progress
        run.saved = time.monotonic()
        if not run.steps.group.first:
            return
        progress.optimizer = optimizer_state(run.supernet, self.optimizer)
        progress.average = {} if self.average is None else self.average.module.state_dict()
        try:
            if not np.isfinite(progress.loss):
                raise TrainingError(f"the loss is {progress.loss}")
            save_checkpoint(run.out, run.supernet, run.identity, progress)
        except TrainingError as error:
            raise self._diverged(progress.epoch + (progress.step > 0), str(error)) from error

    def _diverged(self, epoch: int, what: str) -> TrainingError:
        return TrainingError(f"stage {self.stage.name}, epoch {epoch}: {what}; lower its learning_rate")
