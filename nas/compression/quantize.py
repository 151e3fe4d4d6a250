"""``quantize_mixed``: the search of precisions as one call, for a network and its images in a script of one's own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from onnx import ModelProto
from torch import Tensor, nn

from nas.compression.canonical import canonical, graph_reference, image_shape
from nas.compression.engine import Session
from nas.compression.exported import correct_prepared
from nas.compression.layers import layered
from nas.compression.mixed import PLAN, MixedPlan, MixedResult, search_mixed
from nas.compression.network_graph import network_graph
from nas.compression.ranges import activation_ranges
from nas.compression.timing import TimedEngine, Timing, check_menu
from nas.compression.trials import Correct, Trials, fusable_layers
from nas.errors import DataError

Loader = Iterable[tuple[Tensor, Tensor]]
"""Batches of images, float32 ``(n, channels, side, side)`` as the network takes them, and labels, int64 ``(n,)``."""


class MeasuringEngine(TimedEngine, Protocol):
    """An engine that times graphs; every device is one."""

    @property
    def name(self) -> str:
        """What it is called."""

    def measure_many(self, models: Mapping[str, bytes]) -> Mapping[str, Timing]:
        """Time serialised graphs in one interleaved run."""


def quantize_mixed(
    model: nn.Module | ModelProto,
    loader: Loader,
    device: MeasuringEngine,
    *,
    max_drop: float,
    validation: Loader | None = None,
    confident: bool = False,
    plan: MixedPlan = PLAN,
) -> MixedResult:
    """Quantize a classifier as fast as its accuracy allows.

    Args:
        model: A torch network in evaluation mode, or an ONNX graph in floats.
        loader: Calibration images, a few hundred.
        device: What it is for: ``latency_tables.get_device(...)``.
        max_drop: The fraction of fp32's accuracy that may be lost.
        validation: The images that judge; None takes the calibration images again, which flatters.
        confident: Whether the whole interval of the paired difference must be within ``max_drop``.
        plan: How to search.

    Returns:
        What was found; ``.chosen.model`` is the ONNX file that was timed and counted.

    Raises:
        DataError: A loader gives no images, or they are not square, or labels that are not one class an image; or the
            images that judge are of another shape.
        UsageError: The model does not export, or has another form.
        InfeasibleError: No int8 configuration meets the target, not even one layer alone, or the images are too few
            for confidence.
        DeviceError: The device runs nothing in integers.
    """
    check_menu(device, device.name)
    images, labels = _gathered(loader)
    judges = (images, labels) if validation is None else _gathered(validation)
    if judges[0].shape[1:] != images.shape[1:]:
        raise DataError(
            f"validation images are {tuple(judges[0].shape[1:])}; the calibration images are "
            f"{tuple(images.shape[1:])}: prepare both alike"
        )
    channels, side = int(images.shape[1]), int(images.shape[3])
    if isinstance(model, ModelProto):
        _check_shape(model, tuple(images.shape[1:]))
        given, reference = model, graph_reference(model)
    else:
        given, reference = network_graph(model, images[:1], type(model).__name__), model
    graph = layered(canonical(given, "model", channels, side))
    _check_labels(torch.cat([labels, judges[1]]), reference(images[:1]).shape[1])
    ranges = activation_ranges(graph.model, images.numpy())
    trials = Trials(
        graph, ranges, device, images.numpy(), labels.numpy(), _count(*judges), fusable_layers(graph, ranges, device)
    )
    return search_mixed(trials, max_drop, device.measure_many, reference=reference, plan=plan, confident=confident)


def _gathered(loader: Loader) -> tuple[Tensor, Tensor]:
    batches = list(loader)
    if not batches or not sum(len(images) for images, _ in batches):
        raise DataError("the loader gives no images; give a few hundred to calibrate on")
    if len({images.shape[1:] for images, _ in batches}) > 1:
        raise DataError("the loader's images differ in shape; allowed: all of one shape")
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if labels.shape != images.shape[:1] or labels.is_floating_point():
        raise DataError(
            f"the loader's labels are {labels.dtype} {tuple(labels.shape)} of {len(images)} images; allowed: one class "
            "an image, as an integer"
        )
    if images.ndim != 4 or images.shape[2] != images.shape[3] or images.dtype != torch.float32:
        raise DataError(f"the loader's images are {images.dtype} {tuple(images.shape)}; allowed: float32 (n, c, s, s)")
    return images, labels.to(torch.int64)


def _check_shape(model: ModelProto, found: tuple[int, ...]) -> None:
    declared = image_shape(model, "model")
    if any(size not in (0, given) for size, given in zip(declared, found, strict=True)):
        raise DataError(f"the loader's images are {found}; the model takes {declared}, 0 for any: prepare them for it")


def _check_labels(labels: Tensor, classes: int) -> None:
    low, high = int(labels.min()), int(labels.max())
    if low < 0 or high >= classes:
        raise DataError(f"labels from {low} to {high}; the model has {classes} classes: allowed: 0 to {classes - 1}")


def _count(images: Tensor, labels: Tensor) -> Callable[[Session], Correct]:
    return lambda session: correct_prepared(session, [images], labels)
