"""A candidate as the file that ships: cut out, batch norms calibrated, written as a graph, its int8 units quantized."""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto

from nas.compression.qdq import quantize_graph
from nas.compression.ranges import RANGE_IMAGES, Ranges, activation_ranges
from search_spaces import Candidate
from supernets import ImageInfo, Subnet, Supernet, calibrated_subnet, prepare
from supernets.datasets import ImageSet
from supernets.graph import to_onnx

if TYPE_CHECKING:
    import onnxruntime

SESSION_BATCH = 8  # images per inference of a graph; the fastest on one thread
CHUNK = 512  # images preprocessed at once, whole batches
_TRACING = threading.Lock()  # while torch.fx traces, modules that another thread runs are traced too


@dataclass(frozen=True, eq=False)
class Exported:
    """An architecture in fp32, ready for any choice of precisions.

    Attributes:
        subnet: Plain torch, batch norms recalibrated.
        graph: The same as an fp32 graph with an open batch.
        images: Calibration images as the graph takes them, float32 ``(n, channels, resolution, resolution)``.
    """

    subnet: Subnet
    graph: ModelProto
    images: np.ndarray

    @cached_property
    def ranges(self) -> Ranges:
        """The range of every activation over ``images``."""
        return activation_ranges(self.graph, self.images)

    def in_precisions(self, precisions: Mapping[str, str]) -> ModelProto:
        """Return the graph with its units (module paths, as ``Subnet.units`` has them) in the given precisions."""
        if set(precisions.values()) == {"fp32"}:
            return self.graph
        return quantize_graph(self.graph, precisions, self.ranges)


def export_candidate(supernet: Supernet, candidate: Candidate, calibration: ImageSet) -> Exported:
    """Cut a candidate out of its supernet and write its graph.

    Args:
        supernet: Holds the weights; left as it was.
        candidate: The network.
        calibration: Training images, for batch norms and activation ranges.
    """
    with _TRACING:
        subnet = calibrated_subnet(supernet, candidate, calibration)
        graph = to_onnx(subnet, supernet.channels, candidate.resolution, batch="N")
    images = prepare(calibration.images[:RANGE_IMAGES], candidate.resolution, supernet.info).numpy()
    return Exported(subnet, graph, images)


def correct_images(
    session: "onnxruntime.InferenceSession", images: ImageSet, resolution: int, info: ImageInfo
) -> NDArray[np.bool_]:
    """Return for each of ``images`` whether the largest logit of an exported model is at its label, ``(n,)``."""
    predicted = [np.empty(0, np.int64)]
    for chunk in images.images.split(CHUNK):
        pixels = prepare(chunk, resolution, info).numpy()
        batches = np.split(pixels, range(SESSION_BATCH, len(pixels), SESSION_BATCH))
        predicted += [session.run(None, {"input": batch})[0].argmax(1) for batch in batches]
    correct: NDArray[np.bool_] = np.concatenate(predicted) == images.labels.numpy()
    return correct
