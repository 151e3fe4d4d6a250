"""What the tests of export and command line share: a tiny space, images, an untrained supernet, invented predictors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from nas.export import Scorer, SearchJob
from search_spaces import MBConvSpace, SearchSpace, get_space
from supernets import ImageInfo, make_supernet, save_supernet

PRESET = """\
schema_version = 1
name = "tiny"
family = "mbconv"
summary = "for tests"
resolutions = [12, 16]
channels = 1
classes = 3
activation = "relu"
dropout = 0.0
precisions = ["fp32", "int8"]
[stem]
width = 8
stride = 2
[head]
width = 16
[block]
kernels = [3, 5]
expands = [2, 3]
keeps = [0.5, 1.0]
round_to = 8
[[stage]]
width = 16
stride = 2
depths = [1, 2]
[[stage]]
width = 16
stride = 1
depths = [1, 2]

[training]
batch_size = 16
momentum = 0.9
weight_decay = 3e-5
label_smoothing = 0.1
flip = 0.0
shift = 0.0
erase = 0.0
[[training.stage]]
name = "full"
epochs = 1
warmup_epochs = 0
learning_rate = 0.1
subnets = 1
kernels = 1
depths = 1
expands = 1
keeps = 1
distillation = 0.0
extremes = 0.0
[[training.stage]]
name = "all"
epochs = 1
warmup_epochs = 0
learning_rate = 0.1
subnets = 1
kernels = 2
depths = 2
expands = 2
keeps = 2
distillation = 1.0
extremes = 0.2
"""
CLASSES = ("circle", "cross", "square")
BOTTLENECK = """\
schema_version = 1
name = "tiny"
family = "bottleneck"
summary = "for tests"
resolutions = [32, 40]
channels = 1
classes = 3
dropout = 0.0
precisions = ["fp32", "int8"]
stem_width = 16
widths = [0.5, 1.0]
keeps = [0.25, 0.5]
round_to = 8
[[stage]]
width = 32
stride = 1
depths = [1, 2]
[[stage]]
width = 48
stride = 2
depths = [1, 2]

[training]
batch_size = 16
momentum = 0.9
weight_decay = 3e-5
label_smoothing = 0.1
flip = 0.0
shift = 0.0
erase = 0.0
[[training.stage]]
name = "full"
epochs = 1
learning_rate = 0.1
[[training.stage]]
name = "all"
epochs = 1
learning_rate = 0.1
depths = 2
keeps = 2
widths = 2
distillation = 1.0
"""
METAFORMER = """\
schema_version = 1
name = "tiny"
family = "metaformer"
summary = "for tests"
resolutions = [16, 24]
channels = 1
classes = 3
dropout = 0.0
precisions = ["fp32", "int8"]
activation = "relu"
stem_stride = 2
widths = [0.5, 1.0]
round_to = 8
[block]
mixers = ["pool", "conv"]
expands = [1, 2]
layer_scale = 0.5
[attention]
blocks = [0, 1]
heads = 2
key_width = 8
value_width = 8
[[stage]]
width = 16
stride = 1
depths = [1, 2]
[[stage]]
width = 32
stride = 2
depths = [1, 2]

[training]
batch_size = 16
optimizer = "adamw"
weight_decay = 0.05
label_smoothing = 0.1
flip = 0.0
shift = 0.0
erase = 0.0
[[training.stage]]
name = "full"
epochs = 1
learning_rate = 0.003
[[training.stage]]
name = "all"
epochs = 1
learning_rate = 0.003
mixers = 2
attentions = 2
depths = 2
expands = 2
widths = 2
distillation = 1.0
extremes = 0.2
"""
PRESETS = {"mbconv": PRESET, "bottleneck": BOTTLENECK, "metaformer": METAFORMER}
"""A preset with its training plan, small enough for the whole job, of each family."""


@dataclass(frozen=True)
class Tiny:
    """Paths of a tiny preset, of images with three classes, and of an untrained supernet for them."""

    preset: Path
    images: Path
    supernet: Path
    space: SearchSpace


def make_tiny(folder: Path, family: str = "mbconv") -> Tiny:
    """Write everything into ``folder``."""
    preset = folder / "tiny.toml"
    preset.write_text(PRESETS[family])
    images = make_images(folder / "images")
    space = get_space(preset)
    net = make_supernet(space, ImageInfo("images", CLASSES, (0.5,), (0.25,)), seed=1)
    save_supernet(net, folder / "supernet" / "supernet.safetensors", {"seed": 1})
    return Tiny(preset, images, folder / "supernet", space)


def make_images(folder: Path, classes: tuple[str, ...] = CLASSES, per_class: int = 80) -> Path:
    """Write noisy grey images of 16 pixels whose brightness tells the class, as a rule."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(per_class):
            brightness = rng.normal(60 + 50 * number, 30)
            pixels = rng.normal(brightness, 20, (16, 16)).clip(0, 255).astype(np.uint8)
            Image.fromarray(pixels).save(folder / name / f"{index}.png")
    return folder


@dataclass(frozen=True)
class Predicted:
    """What an invented predictor returns."""

    mean: NDArray[np.float64]

    @property
    def high(self) -> NDArray[np.float64]:
        """The upper ends of their intervals."""
        return 1.1 * self.mean


@dataclass(frozen=True)
class Invented:
    """A smooth function of the genes: bigger is more accurate and slower, int8 a little less accurate and faster."""

    space: MBConvSpace
    base: float
    slope: float
    int8: float

    def predict(self, genes: NDArray[np.int8]) -> Predicted:
        size = genes[:, :1] + np.asarray(self.space.block_codes(genes), float)
        int8 = genes[:, 1] + genes[:, 2]
        return Predicted(self.base + self.slope * np.sqrt(size.sum(axis=1)) + self.int8 * int8)


def invented_scorer(space: MBConvSpace) -> Scorer:
    """Return predictors that were never fitted to anything."""
    accuracy, latency = Invented(space, 0.5, 0.04, -0.01), Invented(space, 0.01, 0.01, -0.004)
    return Scorer(accuracy, latency, {"source": "invented"})


def tiny_job(tiny: Tiny, out: Path, **changes: object) -> SearchJob:
    """Return a job on a simulated device that takes a second or two."""
    from latency_tables.simulated import SimulatedDevice

    settings = {"supernet": tiny.supernet, "data": tiny.images, "budget": 300, "finalists": 3, **changes}
    return SearchJob(device=SimulatedDevice(), out=out, **settings)  # type: ignore[arg-type]
