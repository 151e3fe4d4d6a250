"""The range of every activation of an fp32 graph, calibrated once and reused for any choice of precisions."""

import contextlib
import io
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto
from onnxruntime.quantization import CalibrationMethod
from onnxruntime.quantization.calibrate import CalibrationDataReader, create_calibrator

from nas.errors import UsageError

BATCH = 64
"""Images per inference while calibrating."""


@dataclass(frozen=True)
class Ranges:
    """``limits`` maps the name of an activation to its (lowest, highest) value."""

    limits: Mapping[str, tuple[float, float]]


def activation_ranges(model: ModelProto, images: np.ndarray, method="minmax", extra=None) -> Ranges:
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(io.StringIO()):
        path = Path(folder, "model.onnx")
        onnx.save(_with_open_batch(model), path)
        calibrator = create_calibrator(
            path, augmented_model_path=str(Path(folder, "augmented.onnx")),
            calibrate_method={"minmax": CalibrationMethod.MinMax, "percentile": CalibrationMethod.Percentile, "entropy": CalibrationMethod.Entropy}[method],
            extra_options=extra or {},
        )
        calibrator.collect_data(_Batches(model.graph.input[0].name, images))
        found = calibrator.compute_data()
    return Ranges({name: tuple(float(np.squeeze(v)) for v in data.range_value) for name, data in found.items()})


def activations(model: ModelProto) -> list[str]:
    """Return the names of the graph's activations: its input, then the outputs of its nodes in order."""
    return [model.graph.input[0].name, *(name for node in model.graph.node for name in node.output)]


class _Batches(CalibrationDataReader):
    def __init__(self, name: str, images: np.ndarray):
        self.batches = iter([{name: images[i : i + BATCH]} for i in range(0, len(images), BATCH)])

    def get_next(self):
        return next(self.batches, None)


def _with_open_batch(model: ModelProto) -> ModelProto:
    """Return a copy of ``model`` that takes any number of images."""
    copy = ModelProto()
    copy.CopyFrom(model)
    del copy.graph.value_info[:]
    for value in (*copy.graph.input, *copy.graph.output):
        value.type.tensor_type.shape.dim[0].dim_param = "N"
    return copy
