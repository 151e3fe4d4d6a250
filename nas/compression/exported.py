"""A candidate as the file that ships: cut out, batch norms calibrated, written as a graph, its int8 units quantized."""

import threading
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto
from torch import Tensor

from nas.compression.engine import Session
from nas.compression.qdq import FORM, quantize_graph
from nas.compression.ranges import RANGE_IMAGES, Ranges, activation_ranges
from search_spaces import FLOATS, Candidate
from supernets import ImageInfo, Subnet, Supernet, prepare, recalibrated_subnet
from supernets.datasets import ImageSet
from supernets.evaluation import RECALIBRATION_IMAGES
from supernets.graph import to_onnx

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

    def in_precisions(self, precisions: Mapping[str, str], form: str = FORM) -> ModelProto:
        """Return the graph with its units (module paths, as ``Subnet.units`` has them) in the given precisions.

        Args:
            precisions: Unit to precision.
            form: The form of int8 that the device's kernels want.
        """
        if set(precisions.values()) <= set(FLOATS):
            return self.graph
        return quantize_graph(self.graph, precisions, self.ranges, form=form)


def export_candidate(supernet: Supernet, candidate: Candidate, calibration: ImageSet) -> Exported:
    """Cut a candidate out of its supernet and write its graph.

    Args:
        supernet: Holds the weights; left as it was.
        candidate: The network.
        calibration: Training images, for batch norms and activation ranges.
    """
    images = prepare(calibration.images[:RECALIBRATION_IMAGES], candidate.resolution, supernet.info)
    return export_prepared(supernet, candidate, images)


def export_prepared(supernet: Supernet, candidate: Candidate, images: Tensor) -> Exported:
    """Do the same with training images ``(n, channels, r, r)`` already prepared at the candidate's resolution."""
    with _TRACING:
        subnet = recalibrated_subnet(supernet, candidate, images)
        graph = to_onnx(subnet, supernet.channels, candidate.resolution, batch="N")
    return Exported(subnet, graph, images[:RANGE_IMAGES].numpy())


def correct_images(session: Session, images: ImageSet, resolution: int, info: ImageInfo) -> NDArray[np.bool_]:
    """Return for each of ``images`` whether the largest logit of an exported model is at its label, ``(n,)``."""
    prepared = (prepare(chunk, resolution, info) for chunk in images.images.split(CHUNK))
    return correct_prepared(session, prepared, images.labels)


def correct_prepared(session: Session, chunks: Iterable[Tensor], labels: Tensor) -> NDArray[np.bool_]:
    """Do the same with ``chunks`` of images already prepared, and the ``labels`` of them all."""
    predicted = [np.empty(0, np.int64)]
    for chunk in chunks:
        batches = chunk.split(SESSION_BATCH)
        predicted += [session.run(None, {"input": batch.numpy()})[0].argmax(1) for batch in batches]
    correct: NDArray[np.bool_] = np.concatenate(predicted) == labels.numpy()
    return correct
