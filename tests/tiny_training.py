"""What the tests of training share: a plan of three short stages, and images that are easy to tell apart."""

from dataclasses import replace

import torch

from nas.search.training import Costs, Schedule, SupernetTraining
from search_spaces import SearchSpace
from supernets import ImageInfo, make_supernet
from supernets.datasets import ImageSet, Splits
from supernets.training import TrainingPlan, TrainingStage

ELASTIC = ("kernels", "depths", "expands", "keeps")
FULL = TrainingStage("full", epochs=2, learning_rate=0.05)
PLAN = TrainingPlan(
    batch_size=16,
    momentum=0.9,
    weight_decay=1e-4,
    label_smoothing=0.1,
    flip=0.5,
    shift=0.1,
    erase=0.1,
    stages=(
        FULL,
        replace(FULL, name="depth", open={"kernels": 2, "depths": 2}, distillation=1.0, subnets=2),
        replace(FULL, name="width", open=dict.fromkeys(ELASTIC, 2), distillation=0.5, extremes=0.5),
    ),
)


def bright_images(count: int, seed: int) -> ImageSet:
    """Return noisy images of three classes that differ in brightness."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    noise = torch.randint(0, 60, (count, 1, 16, 16), generator=generator)
    return ImageSet((noise + 90 * labels.view(-1, 1, 1, 1)).to(torch.uint8), labels, ("dark", "grey", "light"))


def tiny_splits(train: int = 48) -> Splits:
    """Return such images in four parts."""
    parts = (bright_images(count, seed) for seed, count in enumerate((train, 12, 12, 12)))
    return Splits(*parts, "brightness", (0.5,), (0.3,))


BRIEF = Schedule(warmup=1, steps=2, every=1, learning_rate=0.01, batch_size=2)


def noise_training(space: SearchSpace, costs: Costs) -> SupernetTraining:
    """Return what strategies that train work on: an untrained supernet of a space, and images of noise."""
    generator, channels, classes = torch.Generator().manual_seed(0), space.preset.channels, space.preset.classes
    side = max(space.resolutions)
    pixels = torch.randint(0, 256, (8, channels, side, side), dtype=torch.uint8, generator=generator)
    names = tuple(map(str, range(classes)))
    images = ImageSet(pixels, torch.arange(8) % classes, names)
    net = make_supernet(space, ImageInfo("noise", names, (0.5,) * channels, (0.3,) * channels))
    return SupernetTraining(net, space, images, images, costs, BRIEF)
