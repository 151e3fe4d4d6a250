"""Networks of a space, each trained alone from random weights for a few epochs; one line of a CSV each, resumable."""

import csv
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from nas.writing import append_lines
from search_spaces import Genes, SearchSpace
from supernets import ImageInfo, make_supernet
from supernets.datasets import load_splits
from supernets.evaluation import evaluate_accuracy, prepare

COLUMNS = ("index", "genes", "epochs", "images", "accuracy")
BATCH, LEARNING_RATE, MOMENTUM, WEIGHT_DECAY = 64, 0.05, 0.9, 5e-4
RESOLUTION = 0  # index of the one resolution of all networks: the smallest
JUDGED = 2000  # validation images


def draw(space: SearchSpace, index: int) -> Genes:
    """Return network number ``index``, ``(num_genes,)``."""
    genes = space.sample(1, np.random.default_rng((0, index)))
    genes[:, 0] = RESOLUTION
    return space.canonical(genes)[0]


def read_trained(path: Path, space: SearchSpace) -> tuple[Genes, NDArray[np.float64]]:
    """Return the networks of the file ``(n, num_genes)`` and their accuracies ``(n,)``; none where there is no file."""
    lines = list(csv.DictReader(path.open())) if path.exists() else []
    genes = np.array([[int(digit) for digit in line["genes"]] for line in lines], np.int8)
    return genes.reshape(len(lines), space.num_genes), np.array([float(line["accuracy"]) for line in lines])


def train_alone(space: SearchSpace, path: Path, data: Path, *, count: int, epochs: int, images: int) -> None:
    """Train networks 0 to ``count``, those that the file lacks, on the first ``images`` training images."""
    done = {int(line["index"]) for line in csv.DictReader(path.open())} if path.exists() else set()
    splits = load_splits(data, size=max(space.resolutions), channels=space.preset.channels, need_train=True)
    assert splits.train is not None
    info = ImageInfo(splits.name, splits.classes, splits.mean, splits.std)
    for index in sorted(set(range(count)) - done):
        row = draw(space, index)
        subnet = make_supernet(space, info, seed=index).extract(space.candidate(row))
        pixels = space.resolutions[RESOLUTION]
        inputs, labels = prepare(splits.train.images[:images], pixels, info), splits.train.labels[:images]
        _train(subnet, inputs, labels, epochs, torch.Generator().manual_seed(index))
        judged = prepare(splits.validation.images[:JUDGED], pixels, info)
        accuracy = evaluate_accuracy(subnet, judged, splits.validation.labels[:JUDGED])
        line = (index, "".join(map(str, row)), epochs, images, f"{accuracy:.6f}")
        append_lines(path, ",".join(COLUMNS), [",".join(map(str, line))])
        print(f"network {index}: {100 * accuracy:.2f} %", flush=True)


def _train(
    model: nn.Module, inputs: torch.Tensor, labels: torch.Tensor, epochs: int, generator: torch.Generator
) -> None:
    """Train by SGD with a cosine schedule and horizontal flips."""
    optimizer = torch.optim.SGD(
        model.parameters(), lr=LEARNING_RATE, momentum=MOMENTUM, weight_decay=WEIGHT_DECAY, nesterov=True
    )
    steps = epochs * (len(inputs) // BATCH)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, steps))
    model.train()
    for _ in range(epochs):
        order = torch.randperm(len(inputs), generator=generator)
        for batch in order.split(BATCH)[: len(inputs) // BATCH]:
            flipped = torch.rand(len(batch), generator=generator) < 0.5
            x = torch.where(flipped[:, None, None, None], inputs[batch].flip(3), inputs[batch])
            optimizer.zero_grad()
            nn.functional.cross_entropy(model(x), labels[batch]).backward()
            optimizer.step()
            schedule.step()
