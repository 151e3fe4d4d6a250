"""What a network is for: its images and targets, what it is trained on and what it is judged by.

Two kinds: classes, judged by accuracy, and depth a pixel, judged by the root mean square error in metres (FastDepth,
Wofk et al., "FastDepth: Fast Monocular Depth Estimation on Embedded Systems", ICRA 2019, which trains on L1).
"""

import copy
import hashlib
import json
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional

from nas.errors import DataError, UsageError
from supernets.datasets import ImageSet, Splits, preprocess
from supernets.datasets.augment import Draws, augment
from supernets.datasets.depth import DepthSet, DepthSplits

_BATCH = 250  # images of an evaluation that run at a time


@dataclass(frozen=True, eq=False)
class Examples:
    """Images uint8 ``(n, c, h, w)`` and their targets: int64 ``(n,)``, or float32 ``(n, 1, r, r)`` metres."""

    images: Tensor
    targets: Tensor


@dataclass(frozen=True)
class Kind:
    """A kind of task.

    Attributes:
        metric: What a network is judged by, as reports name it.
        higher_is_better: Which way.
        loss: Of a batch's outputs and targets.
        score: The metric, of all outputs and targets.
        augmented: Whether training images are flipped and shifted at random.
    """

    metric: str
    higher_is_better: bool
    loss: Callable[[Tensor, Tensor], Tensor]
    score: Callable[[Tensor, Tensor], Tensor]
    augmented: bool

    def better(self, one: float, other: float) -> bool:
        """Whether the score ``one`` is better than ``other``; what is not a number is worse than any."""
        if math.isnan(one) or math.isnan(other):
            return math.isnan(other) and not math.isnan(one)
        return one > other if self.higher_is_better else one < other


def _correct(outputs: Tensor, labels: Tensor) -> Tensor:
    return (outputs.argmax(1) == labels).double().mean()


def _absolute(outputs: Tensor, depths: Tensor) -> Tensor:
    return (outputs - depths)[depths > 0].abs().mean()


def _rmse(outputs: Tensor, depths: Tensor) -> Tensor:
    return (outputs - depths)[depths > 0].double().square().mean().sqrt()


CLASSIFICATION = Kind("accuracy", True, functional.cross_entropy, _correct, augmented=True)
DEPTH = Kind("RMSE [m]", False, _absolute, _rmse, augmented=False)


@dataclass(frozen=True, eq=False)
class Task:
    """Data of one kind, in the parts that pruning uses.

    Attributes:
        name: What the data are called.
        kind: What is learnt and judged.
        train: Moves weights.
        validation: Chooses among cuts.
        test: For the report.
        resolution: Side of the images as the network takes them.
        mean: Per channel, of images in [0, 1].
        std: Per channel, likewise.
    """

    name: str
    kind: Kind
    train: Examples
    validation: Examples
    test: Examples
    resolution: int
    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        if not len(self.mean) == len(self.std) == self.channels or min(self.std) <= 0:
            raise UsageError(
                f"mean {self.mean} and std {self.std} for images of {self.channels} channels; allowed: one number a "
                "channel for both, deviations above 0"
            )

    @property
    def channels(self) -> int:
        """Of the images."""
        return int(self.train.images.shape[1])

    @property
    def digest(self) -> str:
        """Of all images, their targets, and how they are prepared."""
        found = hashlib.sha256(json.dumps([self.resolution, self.mean, self.std]).encode())
        for part in (self.train, self.validation, self.test):
            for values in (part.images, part.targets):
                found.update(f"{values.dtype} {tuple(values.shape)}".encode())
                found.update(values.cpu().contiguous().numpy().data)
        return found.hexdigest()[:12]

    def prepared(self, images: Tensor) -> Tensor:
        """Return uint8 images as the network takes them, in the memory format that trains fastest."""
        ready = preprocess(images, self.resolution, self.mean, self.std)
        return ready.contiguous(memory_format=torch.channels_last)

    def batch(self, size: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Draw a training batch."""
        return self.training_batch(torch.randint(len(self.train.images), (size,), generator=generator), generator)

    def training_batch(self, rows: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Return the training images at ``rows``, augmented and prepared, and their targets."""
        images = self.train.images[rows]
        if self.kind.augmented:
            images = augment(images, Draws(generator))
        return self.prepared(images), self.train.targets[rows]

    def score(self, run: Callable[[Tensor], Tensor], part: Examples) -> float:
        """Judge ``run``, which maps prepared images to outputs, on a part of the data."""
        outputs = [run(self.prepared(images)) for images in part.images.split(_BATCH)]
        return float(self.kind.score(torch.cat(outputs), part.targets))

    def evaluate(self, network: nn.Module, part: Examples) -> float:
        """Judge a network, in evaluation mode; left in the mode it was in."""
        mode = network.training
        network.eval().to(memory_format=torch.channels_last)
        with torch.no_grad():
            score = self.score(network, part)
        network.train(mode)
        return score


def check_outputs(network: nn.Module, task: Task) -> None:
    """Check that a network can be trained on a task: that its outputs fit the targets.

    Raises:
        UsageError: It does not run on such images.
        DataError: Its outputs are not the targets'.
    """
    images = task.prepared(task.train.images[:2])
    network.eval()
    try:
        with torch.no_grad():
            found, trained = network(images), copy.deepcopy(network).train()(images)
    except Exception as error:  # the network's own code may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"the model does not run on images {tuple(images.shape[1:])}: {reason}; give what it takes by --resolution"
        ) from error
    for outputs, mode in ((found, ""), (trained, " in training")):
        if not isinstance(outputs, Tensor):
            raise UsageError(f"the model returns a {type(outputs).__name__}{mode}; allowed: one tensor")
    if task.kind is CLASSIFICATION:
        classes = int(task.train.targets.max()) + 1
        if found.ndim != 2 or found.shape[1] != classes:
            shape = f"(n, {classes})"
            raise DataError(f"{task.name} has {classes} classes; the model's outputs are {_sizes(found)}, not {shape}")
    elif found.shape[1:] != task.train.targets.shape[1:]:
        wanted = f"(n, {', '.join(map(str, task.train.targets.shape[1:]))})"
        raise DataError(f"{task.name} has depths {wanted}; the model's outputs are {_sizes(found)}")


def _sizes(outputs: Tensor) -> str:
    return f"(n, {', '.join(map(str, outputs.shape[1:]))})"


def classification(
    splits: Splits, resolution: int, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> Task:
    """Return the task of telling classes apart; ``mean`` and ``std`` are the data's own where the network has none."""
    if splits.train is None:
        raise ValueError("load the splits with need_train")

    def examples(part: ImageSet) -> Examples:
        return Examples(part.images, part.labels)

    parts = (examples(splits.train), examples(splits.validation), examples(splits.test))
    return Task(splits.name, CLASSIFICATION, *parts, resolution, mean or splits.mean, std or splits.std)


def depth_estimation(
    splits: DepthSplits, mean: tuple[float, ...] | None = None, std: tuple[float, ...] | None = None
) -> Task:
    """Return the task of estimating depth a pixel, at the size of the data; without ``mean``, images in [-1, 1]."""

    def examples(part: DepthSet) -> Examples:
        return Examples(part.images, part.depths[:, None])

    parts = (examples(splits.train), examples(splits.validation), examples(splits.test))
    channels, resolution = splits.train.images.shape[1:3]
    return Task(splits.name, DEPTH, *parts, int(resolution), mean or (0.5,) * channels, std or (0.5,) * channels)
