"""What the tests of export and command line share: a tiny space, images, an untrained supernet, invented predictors."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from tiny_presets import PRESETS

from nas.export import Scorer, SearchJob
from search_spaces import MBConvSpace, SearchSpace, get_space
from supernets import ImageInfo, make_supernet, save_supernet

CLASSES = ("circle", "cross", "square")


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
        size = genes[:, :1] + np.asarray(self.space.part_codes(genes)[:, 1:-1], float)
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
