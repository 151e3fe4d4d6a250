"""One step of training: its images, its subnets, and the loss that they learn from."""

import functools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

import numpy as np
import torch
import torch.nn.functional as F
from timm.data import Mixup
from timm.utils import dispatch_clip_grad
from torch import Tensor

from search_spaces import Candidate, SearchSpace
from supernets.datasets import Draws, ImageSet, augment
from supernets.evaluation import prepare
from supernets.subnet import Subnet
from supernets.supernet import Supernet
from supernets.training.parallel import ALONE, Group
from supernets.training.plan import TrainingPlan, TrainingStage

Net = Callable[[Tensor], Tensor]
"""Maps images to logits."""


class Steps:
    """Steps of one run; everything random in a step comes from the generator that it is given.

    Args:
        supernet: What learns.
        images: What it learns from, on the supernet's device.
        plan: Augmentation, label smoothing and clipping.
        only: Train this subnet alone, at its own resolution.
        group: The processes that share each batch.
    """

    def __init__(
        self, supernet: Supernet, images: ImageSet, plan: TrainingPlan, only: Candidate | None, group: Group = ALONE
    ):
        self.supernet, self.images, self.plan, self.only, self.group = supernet, images, plan, only, group
        self.device = images.images.device
        self.generator = torch.Generator(self.device)  # of augmentation, seeded before each step
        self.mixup = None
        if plan.mixup or plan.cutmix:
            self.mixup = Mixup(
                mixup_alpha=plan.mixup, cutmix_alpha=plan.cutmix, label_smoothing=0.0, num_classes=supernet.classes
            )

    def step(
        self,
        indices: Tensor,
        stage: TrainingStage,
        space: SearchSpace,
        teacher: Mapping[int, Subnet] | None,
        optimizer: torch.optim.Optimizer,
        rng: np.random.Generator,
    ) -> Tensor:
        """Do one step on the images at ``indices`` with subnets of the stage's space; return their mean loss."""
        images, labels = self._batch(indices, space, rng)
        candidates = [self.only] * stage.subnets if self.only else draw(space, stage, images.shape[-1], rng)
        optimizer.zero_grad(set_to_none=True)
        taught_by = None if teacher is None else teacher[images.shape[-1]]
        total = self._learn(images, labels, candidates, stage, taught_by)
        self._update(optimizer, total)
        return total

    def _learn(
        self, images: Tensor, labels: Tensor, candidates: Sequence[Candidate], stage: TrainingStage, teacher: Net | None
    ) -> Tensor:
        """Give the weights their gradients; return the mean loss of the candidates."""
        nets = [functools.partial(self.supernet, candidate=candidate) for candidate in candidates]
        return self._backward(images, labels, nets, stage, teacher)

    def _backward(
        self, images: Tensor, labels: Tensor, nets: Sequence[Net], stage: TrainingStage, teacher: Net | None
    ) -> Tensor:
        """Give the weights their gradients by each of ``nets`` in turn; return their mean loss."""
        total = torch.zeros((), device=self.device)
        soft = None if teacher is None else self._teacher_probabilities(teacher, images)
        for net in nets:
            with self._autocast(), self.group.whole_batch_norms():
                logits = net(images).float()
            if stage.sandwich and soft is not None:
                loss = F.cross_entropy(logits, soft)
            else:
                loss = F.cross_entropy(logits, labels, label_smoothing=self.plan.label_smoothing)
                if soft is not None:
                    loss = loss + stage.distillation * F.cross_entropy(logits, soft)
            if stage.sandwich and soft is None:  # the largest, which comes first
                soft = logits.detach().softmax(dim=1)
            loss = loss / len(nets)
            loss.backward()
            total += loss.detach()
        return total

    def _update(self, optimizer: torch.optim.Optimizer, total: Tensor) -> None:
        """Average gradients and loss over the processes, clip, and take the step."""
        learning = [parameter for parameter in self.supernet.parameters() if parameter.grad is not None]
        self.group.average([*(parameter.grad for parameter in learning if parameter.grad is not None), total])
        for limit, mode in ((self.plan.clip_norm, "norm"), (self.plan.clip_value, "value")):
            if limit:
                dispatch_clip_grad(learning, limit, mode)
        optimizer.step()

    def _batch(self, indices: Tensor, space: SearchSpace, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return this process's part of the images at ``indices``, at a resolution of the space, and of their labels.

        The images are augmented; labels are classes, or where images are mixed, probabilities of classes.
        """
        torch.manual_seed(int(rng.integers(2**62)))  # dropout draws from torch's own generator
        plan, generator = self.plan, self.generator.manual_seed(int(rng.integers(2**62)))
        rows = self._rows(len(indices))
        images, labels = self.images.images[indices[rows]], self.images.labels[indices[rows]]
        draws = Draws(generator, rows, len(indices))
        images = augment(images, draws, crop=plan.crop, flip=plan.flip, shift=plan.shift, erase=plan.erase)
        resolution = self.only.resolution if self.only else int(rng.choice(space.resolutions))
        images = prepare(images, resolution, self.supernet.info)
        if self.mixup:
            with _numpy_seeded(rng):
                images, labels = self.mixup(images, labels)
        own = len(indices) // self.group.size
        return images[:own].contiguous(memory_format=torch.channels_last), labels[:own]

    def _rows(self, count: int) -> Tensor:
        """Return which of a batch's ``count`` images this process works on: its part, and what mixing puts into it.

        Mixing joins each image with that as far from the other end of the batch; so it does in what this returns.
        """
        rows = self.group.part(torch.arange(count, device=self.device))
        if self.mixup is None or self.group.size == 1:
            return rows
        return torch.cat([rows, count - 1 - rows.flip(0)])

    @torch.no_grad()
    def _teacher_probabilities(self, teacher: Net, images: Tensor) -> Tensor:
        with self._autocast():
            return teacher(images).float().softmax(dim=1)

    def _autocast(self) -> torch.autocast:
        """Return the context of forward passes: bfloat16 on a GPU that has it, float32 elsewhere."""
        has_it = self.device.type == "cuda" and torch.cuda.is_bf16_supported(including_emulation=False)
        return torch.autocast(self.device.type, torch.bfloat16, enabled=has_it, cache_enabled=False)  # each weight once


@contextmanager
def _numpy_seeded(rng: np.random.Generator) -> Iterator[None]:
    """Seed numpy's own generator, which timm draws from, within the block."""
    state = np.random.get_state()
    np.random.seed(int(rng.integers(2**32)))
    try:
        yield
    finally:
        np.random.set_state(state)


def draw(space: SearchSpace, stage: TrainingStage, resolution: int, rng: np.random.Generator) -> list[Candidate]:
    """Return the subnets of one step at a resolution, of the stage's space; in a sandwich, the largest first."""
    genes = space.sample(stage.subnets, rng)
    ends = np.stack([space.largest(space.precisions[0]), space.smallest(space.precisions[0])])
    if stage.sandwich:
        genes[[0, -1]] = ends
    else:
        extreme = rng.random(stage.subnets) < stage.extremes
        genes[extreme] = ends[rng.integers(2, size=int(extreme.sum()))]
    genes[:, 0] = space.resolutions.index(resolution)
    return [space.candidate(row) for row in genes]
