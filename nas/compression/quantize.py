"""``quantize_mixed``: the search of precisions as one call, for a network and its images in a script of one's own."""

from collections.abc import Callable, Iterable, Mapping
from typing import Protocol

import torch
from onnx import ModelProto
from torch import Tensor, nn

from nas.compression.canonical import canonical, graph_reference
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
    plan: MixedPlan = PLAN,
) -> MixedResult:
    """Quantize a classifier as fast as its accuracy allows.

    Args:
        model: A torch network in evaluation mode, or an ONNX graph in floats.
        loader: Calibration images, a few hundred.
        device: What it is for: ``latency_tables.get_device(...)``.
        max_drop: The fraction of fp32's accuracy that may be lost.
        validation: The images that judge; None takes the calibration images again, which flatters.
        plan: How to search.

    Returns:
        What was found; ``.chosen.model`` is the ONNX file that was timed and counted.

    Raises:
        DataError: The loader gives no images, or they are not square.
        UsageError: The model does not export, or has another form.
        InfeasibleError: Nothing but fp32 meets the target.
        DeviceError: The device runs nothing in integers.
    """
    check_menu(device, device.name)
    images, labels = _gathered(loader)
    channels, side = int(images.shape[1]), int(images.shape[3])
    if isinstance(model, ModelProto):
        given, reference = model, graph_reference(model)
    else:
        given, reference = network_graph(model, images[:1], type(model).__name__), model
    graph = layered(canonical(given, "model", channels, side))
    judges = (images, labels) if validation is None else _gathered(validation)
    ranges = activation_ranges(graph.model, images.numpy())
    trials = Trials(
        graph, ranges, device, images.numpy(), labels.numpy(), _count(*judges), fusable_layers(graph, ranges, device)
    )
    return search_mixed(trials, max_drop, device.measure_many, reference=reference, plan=plan)


def _gathered(loader: Loader) -> tuple[Tensor, Tensor]:
    batches = list(loader)
    if not batches or not sum(len(images) for images, _ in batches):
        raise DataError("the loader gives no images; give a few hundred to calibrate on")
    images, labels = (torch.cat(parts) for parts in zip(*batches, strict=True))
    if images.ndim != 4 or images.shape[2] != images.shape[3] or images.dtype != torch.float32:
        raise DataError(f"the loader's images are {images.dtype} {tuple(images.shape)}; allowed: float32 (n, c, s, s)")
    return images, labels.to(torch.int64)


def _count(images: Tensor, labels: Tensor) -> Callable[[Session], Correct]:
    return lambda session: correct_prepared(session, [images], labels)
