"""Any torch network of one image batch in and one tensor out as an ONNX graph.

Our own writer where it knows all layers; else torch's TorchScript exporter, which folds batch norms too and takes less
than a second (``torch.onnx.export(dynamo=True)`` takes 1.4 to 4 s and a package more).
"""

import tempfile
import warnings
from pathlib import Path

import onnx
import torch
from onnx import ModelProto
from torch import Tensor, nn

from nas.errors import UsageError
from supernets.graph import INPUT, OUTPUT, to_onnx

EXPORT_OPSET = 20
"""The newest that torch's TorchScript exporter writes."""


def network_graph(network: nn.Module, image: Tensor, name: str) -> ModelProto:
    """Return a network as a graph with an open batch, from ``input`` to ``logits``.

    Args:
        network: In evaluation mode.
        image: One as it takes them, ``(1, c, r, r)``.
        name: What to call it in errors.

    Raises:
        UsageError: It does not export.
    """
    _, channels, resolution, _ = image.shape
    try:
        return to_onnx(network, channels, resolution, "N")
    except Exception:  # the network's own code runs in the tracer, and may raise anything
        pass
    try:
        return _by_torch(network, image)
    except Exception as error:  # likewise
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        shape = tuple(image.shape[1:])
        raise UsageError(f"{name} does not export to ONNX from images {shape}: {reason}") from error


def _by_torch(network: nn.Module, image: Tensor) -> ModelProto:
    with tempfile.TemporaryDirectory(prefix="hwnas-") as folder, warnings.catch_warnings(), torch.no_grad():
        path = Path(folder, "model.onnx")
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (image,), path, dynamo=False, opset_version=EXPORT_OPSET, input_names=[INPUT],
            output_names=[OUTPUT], dynamic_axes={INPUT: {0: "N"}, OUTPUT: {0: "N"}},
        )  # fmt: skip
        return onnx.load(path)
