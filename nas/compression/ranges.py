"""The range of every activation of an fp32 graph, calibrated once and reused for any choice of precisions.

The range is the least and the greatest value seen. Percentiles (99.99 and 99.999 of onnxruntime's calibrator) were no
better on a trained net, 256 images and 5,000 to test: accuracy .893 and .891 against .892, within the standard error of
.004, at twice the time; 99.9 tripled the error of the logits.
"""

import tempfile
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, numpy_helper
from onnxruntime.quantization.calibrate import CalibrationDataReader, MinMaxCalibrater

from nas.compression.sessions import open_session
from nas.errors import DataError, UsageError

RANGE_IMAGES = 512
"""Calibration images that are plenty; a caller gives as many."""
BATCH = 16
"""Images per inference while calibrating."""

ASSUMED, ASSUMED_POSITIVE = (-4.0, 6.0), (0.0, 6.0)
"""The range of an activation where none were calibrated; not symmetric, as real ones are not."""
NEVER_NEGATIVE = {"Relu", "Clip", "Softmax"}  # every Clip of these networks is from 0
RESHAPING = {"Flatten", "Reshape", "Split", "Transpose"}  # a second input is a shape
KEEPS_SIGN = {"Add", "Mul", "MaxPool", "AveragePool", "GlobalAveragePool", *RESHAPING}


@dataclass(frozen=True)
class Ranges:
    """``limits`` maps the name of an activation of the graph to its (lowest, highest) value."""

    limits: Mapping[str, tuple[float, float]]


def activation_ranges(model: ModelProto, images: np.ndarray) -> Ranges:
    """Run ``images`` through an fp32 graph and note the range of every activation.

    Args:
        model: An fp32 graph of one input, whatever its batch size.
        images: Preprocessed as for inference, float32 (n, channels, resolution, resolution); 256 are enough.

    Raises:
        UsageError: The images do not fit the graph, or what it makes of them is not finite.
        DataError: There are no images, or values in them are not finite.
    """
    expected = tuple(dim.dim_value for dim in model.graph.input[0].type.tensor_type.shape.dim)[1:]
    if images.shape[1:] != expected or images.dtype != np.float32:
        raise UsageError(
            f"the calibration images are {images.dtype} {images.shape}; the graph takes float32 {(None, *expected)}"
        )
    if len(images) == 0:
        raise DataError("there are no calibration images; give at least one, better 256")
    if not np.isfinite(images).all():
        raise DataError("the calibration images hold values that are not finite; check what they were read from")
    with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
        plain, augmented = Path(folder, "plain.onnx"), Path(folder, "augmented.onnx")
        onnx.save(_with_open_batch(model), plain)
        calibrator = MinMaxCalibrater(plain, augmented_model_path=str(augmented))
        calibrator.augment_graph()
        calibrator.infer_session = open_session(augmented)  # optimised; its own takes five times as long
        with warnings.catch_warnings():  # numpy's, where there are only NaNs; an error follows
            warnings.simplefilter("ignore", RuntimeWarning)
            calibrator.collect_data(_Batches(model.graph.input[0].name, images))
            found = calibrator.compute_data()
    limits = {name: (float(data.lowest.item()), float(data.highest.item())) for name, data in found.items()}
    in_order = [name for node in model.graph.node for name in node.output if name in limits]
    if wrong := [name for name in in_order if not np.isfinite(limits[name]).all()]:
        raise UsageError(f"{wrong[0]!r} of the graph is not finite on the calibration images; check its weights")
    return Ranges(limits)


def assumed_ranges(model: ModelProto) -> Ranges:
    """Return ranges of an fp32 graph for timing: of any width, but with the signs that images would give.

    A range from 0 has zero point 0, and OpenVINO's kernels take longer for an input with another one. Where every range
    had both signs, the largest ``fashion-mbv3`` in int8 took 1.33 times what it takes as it is exported, others 1.07 to
    1.13 times; with these ranges, and biases that are not 0, 0.99 to 1.01 times. onnxruntime's kernels do not mind.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    found: set[str] = set()

    def never_negative(name: str) -> bool:
        return name in found or (name in tensors and bool((numpy_helper.to_array(tensors[name]) >= 0).all()))

    for node in model.graph.node:
        sources = node.input[:1] if node.op_type in RESHAPING else node.input
        if node.op_type in NEVER_NEGATIVE or (node.op_type in KEEPS_SIGN and all(map(never_negative, sources))):
            found.update(node.output)
    return Ranges({name: ASSUMED_POSITIVE if name in found else ASSUMED for name in activations(model)})


def activations(model: ModelProto) -> list[str]:
    """Return the names of the graph's activations: its input, then the outputs of its nodes in order."""
    return [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]


class _Batches(CalibrationDataReader):  # type: ignore[misc]
    """Images in batches, as onnxruntime's calibrators want them."""

    def __init__(self, name: str, images: np.ndarray):
        self.batches: Iterator[dict[str, np.ndarray]] = (
            {name: images[start : start + BATCH]} for start in range(0, len(images), BATCH)
        )

    def get_next(self) -> dict[str, np.ndarray] | None:
        return next(self.batches, None)


def _with_open_batch(model: ModelProto) -> ModelProto:
    """Return a copy of ``model`` that takes any number of images."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return copy
