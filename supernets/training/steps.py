"""One step of training: its images, its subnets, and the loss that they learn from."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from search_spaces import Candidate, MBConvSpace
from supernets.datasets import ImageSet, augment
from supernets.evaluation import prepare
from supernets.subnet import Subnet
from supernets.supernet import Supernet
from supernets.training.plan import TrainingPlan, TrainingStage


class Steps:
    """Steps of one run; everything random in a step comes from the generator that it is given.

    Args:
        supernet: What learns.
        images: What it learns from, on the supernet's device.
        plan: Augmentation and label smoothing.
        only: Train this subnet alone, at its own resolution.
    """

    def __init__(self, supernet: Supernet, images: ImageSet, plan: TrainingPlan, only: Candidate | None):
        self.supernet, self.images, self.plan, self.only = supernet, images, plan, only
        self.device = images.images.device
        self.generator = torch.Generator(self.device)  # of augmentation, seeded before each step

    def step(
        self,
        indices: Tensor,
        stage: TrainingStage,
        space: MBConvSpace,
        teacher: Subnet | None,
        optimizer: torch.optim.Optimizer,
        rng: np.random.Generator,
    ) -> Tensor:
        """Do one step on the images at ``indices`` with subnets of the stage's space; return their mean loss."""
        images, labels = self._batch(indices, space, rng)
        candidates = [self.only] * stage.subnets if self.only else draw(space, stage, images.shape[-1], rng)
        with self._autocast():
            target = None if teacher is None else teacher_probabilities(teacher, images)
        optimizer.zero_grad(set_to_none=True)
        total = torch.zeros((), device=self.device)
        for candidate in candidates:
            with self._autocast():
                logits = self.supernet(images, candidate).float()
            loss = F.cross_entropy(logits, labels, label_smoothing=self.plan.label_smoothing)
            if target is not None:
                loss = loss + stage.distillation * F.cross_entropy(logits, target)
            loss = loss / len(candidates)
            loss.backward()
            total += loss.detach()
        optimizer.step()
        return total

    def _batch(self, indices: Tensor, space: MBConvSpace, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """Return the images at ``indices`` augmented, at a resolution of the space, and their labels."""
        torch.manual_seed(int(rng.integers(2**62)))  # dropout draws from torch's own generator
        plan, generator = self.plan, self.generator.manual_seed(int(rng.integers(2**62)))
        images = augment(self.images.images[indices], generator, flip=plan.flip, shift=plan.shift, erase=plan.erase)
        resolution = self.only.resolution if self.only else int(rng.choice(space.resolutions))
        images = prepare(images, resolution, self.supernet.info)
        return images.contiguous(memory_format=torch.channels_last), self.images.labels[indices]

    def _autocast(self) -> torch.autocast:
        """Return the context of forward passes: bfloat16 on a GPU, float32 elsewhere."""
        return torch.autocast(self.device.type, torch.bfloat16, enabled=self.device.type == "cuda")


def draw(space: MBConvSpace, stage: TrainingStage, resolution: int, rng: np.random.Generator) -> list[Candidate]:
    """Return the subnets of one step at a resolution: of the stage's space, a share of them its ends."""
    genes = space.sample(stage.subnets, rng)
    ends = np.stack([space.largest(), space.smallest()])
    extreme = rng.random(stage.subnets) < stage.extremes
    genes[extreme] = ends[rng.integers(2, size=int(extreme.sum()))]
    genes[:, 0] = space.resolutions.index(resolution)
    return [space.candidate(row) for row in genes]


@torch.no_grad()
def teacher_probabilities(teacher: Subnet, images: Tensor) -> Tensor:
    """Return the teacher's class probabilities ``(n, classes)``."""
    return teacher(images).float().softmax(dim=1)
