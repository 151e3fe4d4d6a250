"""The networks that are quantized: subnets of the shipped supernet, and a MobileNetV2 trained here on Fashion-MNIST."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
from onnx import ModelProto
from torch import nn
from torch.nn import functional

from nas.compression import activation_ranges, correct_images, export_candidate
from nas.compression.canonical import canonical
from nas.compression.layers import layered
from nas.compression.network_graph import network_graph
from nas.compression.timing import TimedEngine
from nas.compression.trials import Count, Trials, fusable_layers
from nas.files import read_tensors, write_tensors
from supernets import ImageInfo, get_supernet, prepare
from supernets.datasets import Splits, load_splits

SUPERNET = "fashion-mbv3"
LOSS_IMAGES = 256
SIDE, EPOCHS, BATCH, IMAGES, RATE = 64, 4, 64, 12_000, 3e-3  # of MobileNetV2's training
WEIGHTS = ("mobilenetv2-weights", 1)


class Network:
    """A network to quantize.

    Attributes:
        trials: Its configurations on a device, judged on validation images.
        count: Which of the validation images a session gets right.
        test: Which of the test images.
    """

    def __init__(self, graph: ModelProto, splits: Splits, info: ImageInfo, side: int, on: TimedEngine) -> None:
        images = prepare(splits.calibration.images[:LOSS_IMAGES], side, info).numpy()
        labels = splits.calibration.labels[:LOSS_IMAGES].numpy()
        self.count: Count = partial(correct_images, images=splits.validation, resolution=side, info=info)
        self.test: Count = partial(correct_images, images=splits.test, resolution=side, info=info)
        named = layered(canonical(graph, "network", info.channels, side))
        ranges = activation_ranges(named.model, images)
        self.trials = Trials(named, ranges, on, images, labels, self.count, fusable_layers(named, ranges, on))


def open_network(name: str, on: TimedEngine, folder: Path) -> Network:
    """Return ``largest``, ``smallest`` or ``subnet-SEED`` of the shipped supernet, or ``mobilenetv2``.

    What is trained is kept in ``folder``.
    """
    return mobilenet(on, folder) if name == "mobilenetv2" else subnet(name, on)


def subnet(name: str, on: TimedEngine) -> Network:
    """Return a subnet in fp32."""
    supernet = get_supernet(SUPERNET)
    space = supernet.space
    if name.startswith("subnet-"):
        genes = space.sample(1, np.random.default_rng(int(name.removeprefix("subnet-"))))[0]
    else:
        genes = space.largest() if name == "largest" else space.smallest()
    candidate = space.candidate(space.with_precision(genes[None], "fp32")[0])
    splits = load_splits(size=max(space.preset.resolutions), channels=supernet.channels)
    exported = export_candidate(supernet, candidate, splits.calibration)
    return Network(exported.graph, splits, supernet.info, candidate.resolution, on)


def mobilenet(on: TimedEngine, folder: Path) -> Network:
    """Return torchvision's MobileNetV2 at half its widths, trained here if it has not been."""
    from torchvision.models import mobilenet_v2

    torch.manual_seed(0)
    network = mobilenet_v2(num_classes=10, width_mult=0.5)
    path = folder / "mobilenetv2.safetensors"
    splits = load_splits("fashion-mnist", size=SIDE, channels=3, need_train=not path.exists())
    info = ImageInfo(splits.name, splits.classes, splits.mean, splits.std)
    if path.exists():
        network.load_state_dict(read_tensors(path, *WEIGHTS)[0])
    else:
        train(network, splits, info)
        write_tensors(path, network.state_dict(), *WEIGHTS, {"epochs": EPOCHS, "images": IMAGES})
    network.eval().requires_grad_(False)
    graph = network_graph(network, torch.zeros(1, 3, SIDE, SIDE), "mobilenetv2")
    return Network(graph, splits, info, SIDE, on)


def train(network: nn.Module, splits: Splits, info: ImageInfo) -> None:
    """Train by AdamW on one cosine, with flips."""
    assert splits.train is not None
    rng = torch.Generator().manual_seed(0)
    steps = EPOCHS * (IMAGES // BATCH)
    optimizer = torch.optim.AdamW(network.parameters(), RATE, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    network.train()
    for step in range(steps):
        drawn = torch.randint(IMAGES, (BATCH,), generator=rng)
        images = prepare(splits.train.images[drawn], SIDE, info)
        if step % 2:
            images = images.flip(3)
        loss = functional.cross_entropy(network(images), splits.train.labels[drawn])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
