"""Once-for-all's MobileNetV3 twice with the same weights, here and in the `ofa` package, doing the same work."""

import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from ofa.imagenet_classification.elastic_nn.networks import OFAMobileNetV3
from ofa.imagenet_classification.elastic_nn.utils import set_running_statistics
from sklearn.datasets import load_sample_images
from torch import Tensor, nn

from predictors.measures import GraphAccuracy
from predictors.resized import ResizedImages
from search_spaces import Candidate, get_space
from supernets import ImageInfo, Supernet, make_supernet, prepare
from supernets.datasets import ImageSet
from supernets.ofa import IMAGENET_MEAN, IMAGENET_STD, ofa_names, plain_name, take_tensors

SIDE, CLASSES = 128, 100
VALIDATION_BATCH = 100  # the package's own
RECALIBRATION_BATCH = 200  # likewise


def two_supernets() -> tuple[nn.Module, Supernet]:
    """Return the package's supernet and ours with its weights, without dropout, which draws at random."""
    torch.manual_seed(0)
    choices: dict[str, Any] = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
    theirs = OFAMobileNetV3(n_classes=CLASSES, dropout_rate=0.0, **choices)
    space = get_space("ofa-mbv3", precisions=["fp32"])
    info = ImageInfo("crops", tuple(map(str, range(CLASSES))), IMAGENET_MEAN, IMAGENET_STD)
    ours = make_supernet(space, info)
    state = {plain_name(name): tensor for name, tensor in theirs.state_dict().items()}
    take_tensors(ours, ofa_names(ours), state)
    for module in ours.modules():
        if isinstance(module, nn.Dropout):
            module.p = 0.0
    return theirs, ours


def photographs(count: int, seed: int) -> Tensor:
    """Return uint8 crops ``(count, 3, 128, 128)`` of scikit-learn's two photographs."""
    rng = np.random.default_rng(seed)
    photos = load_sample_images().images
    crops = []
    for number in range(count):
        photo = photos[number % len(photos)]
        top, left = (int(rng.integers(size - SIDE + 1)) for size in photo.shape[:2])
        crops.append(photo[top : top + SIDE, left : left + SIDE].transpose(2, 0, 1))
    return torch.from_numpy(np.stack(crops))


def choose(theirs: nn.Module, candidate: Candidate) -> None:
    """Make a candidate the package's active subnet."""
    blocks = [block for stage in candidate.blocks for block in stage]
    theirs.set_active_subnet(  # type: ignore[operator]
        ks=[block.kernel if block else 3 for block in blocks],
        e=[block.expand if block else 3 for block in blocks],
        d=[sum(block is not None for block in stage) for stage in candidate.blocks],
    )


class TheirSteps:
    """Training steps in the package, as its ``train_one_epoch`` takes them."""

    def __init__(self, net: nn.Module, layout: torch.memory_format):
        self.net, self.layout = net.train().to(memory_format=layout), layout  # type: ignore[call-overload]
        self.optimizer = sgd(net)

    def step(self, images: Tensor, labels: Tensor, candidate: Candidate) -> float:
        """Take one step; return the loss before it."""
        images = images.contiguous(memory_format=self.layout)
        self.net.zero_grad()
        choose(self.net, candidate)
        loss = F.cross_entropy(self.net(images), labels)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


class OurSteps:
    """Training steps here, as ``supernets.training`` takes them."""

    def __init__(self, net: Supernet):
        self.net, self.optimizer = net.train(), sgd(net)

    def step(self, images: Tensor, labels: Tensor, candidate: Candidate) -> float:
        """Take one step; return the loss before it."""
        images = images.contiguous(memory_format=torch.channels_last)
        self.optimizer.zero_grad(set_to_none=True)
        loss = F.cross_entropy(self.net(images, candidate), labels)
        loss.backward()
        self.optimizer.step()
        return float(loss.detach())


def sgd(net: nn.Module) -> torch.optim.Optimizer:
    """Return what both learn by, slowly, so that what they round differently stays small."""
    return torch.optim.SGD(net.parameters(), 0.001, momentum=0.9, nesterov=True, weight_decay=3e-5)


class TheirAccuracy:
    """The package's accuracy of a subnet; its images are prepared beforehand, so that no loader takes time."""

    def __init__(self, net: nn.Module, ours: Supernet, calibration: ImageSet, validation: ImageSet):
        self.net = net
        self.calibration, self.validation = (
            list(zip(prepare(part.images, SIDE, ours.info).split(size), part.labels.split(size), strict=True))
            for part, size in ((calibration, RECALIBRATION_BATCH), (validation, VALIDATION_BATCH))
        )

    def logits(self, candidate: Candidate) -> Tensor:
        """Recalibrate the batch norms and return the logits of the validation images."""
        choose(self.net, candidate)
        set_running_statistics(self.net, self.calibration)
        self.net.eval()
        with torch.no_grad():
            return torch.cat([self.net(images) for images, _ in self.validation])

    def __call__(self, candidate: Candidate) -> float:
        """Return the accuracy."""
        labels = torch.cat([labels for _, labels in self.validation])
        return float((self.logits(candidate).argmax(1) == labels).float().mean())


def our_accuracy(net: Supernet, calibration: ImageSet, validation: ImageSet, folder: Path) -> GraphAccuracy:
    """Return what ``nas collect`` measures by."""
    parts: Sequence[tuple[str, ImageSet]] = (("calibration", calibration), ("validation", validation))
    kept = frozenset({SIDE})
    return GraphAccuracy(net.eval(), *(ResizedImages(part, net.info, folder, name, kept) for name, part in parts))


def spread(values: list[float], form: str) -> str:
    """Return the median and, in brackets, the least and the greatest."""
    return f"{statistics.median(values):{form}} [{min(values):{form}} … {max(values):{form}}]"
