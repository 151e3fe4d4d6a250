"""The model that a person names, whatever it comes from: as a graph in one form, and as its own reference.

a folder           a bundle that ``nas search`` wrote
FILE.onnx          a classifier in floats
anything else      a network of timm, torchvision or a function of one's own, as ``load_model`` finds it
"""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from nas.compression.canonical import canonical, graph_reference, image_shape
from nas.compression.models import load_model
from nas.compression.network_graph import network_graph
from nas.errors import FileFormatError, UsageError
from nas.export.bundle import load_bundle
from nas.files import is_folder, read_bytes
from supernets import ImageInfo


@dataclass(frozen=True)
class ModelChoice:
    """A model as a person names it.

    Attributes:
        name: As above.
        weights: As in ``load_model``.
        resolution: Side of its images; None for what it was made for.
        mean: Of each channel of images in [0, 1]; None for what it was trained with, else the data's own.
        std: Likewise.
    """

    name: str
    weights: str | None = None
    resolution: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


@dataclass(frozen=True, eq=False)
class Source:
    """A model that was found.

    Attributes:
        name: What it is called.
        graph: Its ``canonical`` graph in floats.
        reference: Returns its logits of images ``(n, channels, resolution, resolution)``, independent of ``graph``.
        channels: Of its images.
        resolution: Their side in pixels.
        mean: What they are normalised with; None where nothing says.
        std: Likewise.
        info: The images that it is for; None where it does not know them.
    """

    name: str
    graph: ModelProto
    reference: Callable[[Tensor], Tensor]
    channels: int
    resolution: int
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    info: ImageInfo | None = None


def open_source(choice: ModelChoice, classes: int) -> Source:
    """Find a model and export it.

    Args:
        choice: What to find.
        classes: How many classes a network with weights of one's own tells apart.

    Raises:
        UsageError: There is no such model, its weights cannot be had, or it does not export.
        FileFormatError: A file is damaged, or its weights are of another network.
    """
    name = choice.name
    if name.endswith(".onnx"):
        return _from_file(choice)
    if is_folder(name):
        return _from_bundle(choice)
    found = load_model(name, weights=choice.weights, classes=None if choice.weights is None else classes)
    side = choice.resolution or found.resolution
    if side is None:
        raise UsageError(f"{name} does not say how large its images are; give --resolution")
    mean, std = (choice.mean, choice.std) if choice.mean else (found.mean, found.std)
    return _from_network(found.network, name, found.channels, side, mean, std)


def _from_network(
    network: nn.Module,
    name: str,
    channels: int,
    side: int,
    mean: tuple[float, ...] | None,
    std: tuple[float, ...] | None,
    info: ImageInfo | None = None,
) -> Source:
    network.eval().requires_grad_(False)
    graph = canonical(network_graph(network, torch.zeros(1, channels, side, side), name), name, channels, side)
    return Source(name, graph, network, channels, side, mean, std, info)


def _from_file(choice: ModelChoice) -> Source:
    path, data = choice.name, read_bytes(Path(choice.name))
    if choice.weights is not None:
        raise UsageError(f"{path}: an ONNX file has its weights inside; leave --weights out")
    try:
        model = onnx.load_from_string(data)
    except Exception as error:  # protobuf's decoding error is private to it
        raise FileFormatError(f"{path}: not an ONNX model ({type(error).__name__})") from error
    if any(tensor.data_location == onnx.TensorProto.EXTERNAL for tensor in model.graph.initializer):
        raise FileFormatError(f"{path}: it keeps weights in another file; allowed: weights inside the model")
    channels, height, width = image_shape(model, path)
    side = choice.resolution or height
    if height != width or (height and height != side) or not side or not channels:
        raise UsageError(
            f"{path}: its images are {channels or '?'} x {height or '?'} x {width or '?'}; allowed: square ones of "
            "fixed channels; where the side is open, give it with --resolution"
        )
    graph = canonical(model, path, channels, side)
    return Source(path, graph, graph_reference(model), channels, side, choice.mean, choice.std)


def _from_bundle(choice: ModelChoice) -> Source:
    bundle = load_bundle(choice.name)
    if (choice.weights, choice.resolution, choice.mean, choice.std) != (None,) * 4:
        raise UsageError(
            f"{choice.name}: a bundle says itself what it is; leave --weights, --resolution, --mean and --std out"
        )
    images = bundle.images
    side = bundle.candidate.resolution
    return _from_network(bundle.model(), choice.name, images.channels, side, images.mean, images.std, images)
