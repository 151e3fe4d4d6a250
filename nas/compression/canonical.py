"""Any ONNX classifier in the one form that quantization, sensitivities and deployment work on.

onnxruntime's basic optimisations fold batch norms into convolutions and compute what is constant, so that the weights
that are judged are the weights that run. The input is called ``input``, float ``(N, channels, side, side)`` with an
open batch, and the output ``logits``. Hard-sigmoid, which no quantizer knows, is spelt as ``supernets.graph`` does.
"""

import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import torch
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime import GraphOptimizationLevel as Level
from torch import Tensor

from nas.compression.sessions import open_session
from nas.errors import UsageError
from supernets.graph import INPUT, OUTPUT

OPSETS = (13, 23)
"""The operator sets that are taken: from the first with scales per channel, to the last that was tried."""


def canonical(model: ModelProto, name: str, channels: int, side: int) -> ModelProto:
    """Return a classifier of images in the form above.

    Args:
        model: In floats, of one input ``(batch, channels, side, side)`` and one output ``(batch, classes)``.
        name: What to call it in errors.
        channels: Of the images.
        side: Of the images, in pixels.

    Raises:
        UsageError: It has another form, or onnxruntime does not take it.
    """
    given, found = _one(model, name)
    opset = next((one.version for one in model.opset_import if one.domain in ("", "ai.onnx")), 0)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise UsageError(f"{name}: operator set {opset}; allowed: {OPSETS[0]} to {OPSETS[1]}; export it again in 21")
    if quantized := next((node for node in model.graph.node if "Quantize" in node.op_type), None):
        raise UsageError(f"{name}: it is quantized already ({quantized.op_type}); allowed: a model in floats")
    model = _optimised(_with_shape(model, channels, side), name)
    _rename(model, {given: INPUT, found: OUTPUT})
    _spell_out(model)
    domains = {node.domain for node in model.graph.node} | {""}
    used = [one for one in model.opset_import if one.domain in domains]
    del model.opset_import[:], model.graph.value_info[:]
    model.opset_import.extend(used)
    _check_batch(model, name)
    return model


def graph_reference(model: ModelProto) -> Callable[[Tensor], Tensor]:
    """Return what gives an ONNX graph's logits, without any rewriting of it."""
    session = open_session(model, Level.ORT_DISABLE_ALL)
    given = session.get_inputs()[0]
    step = given.shape[0] if isinstance(given.shape[0], int) else None

    def logits(images: Tensor) -> Tensor:
        size = step or len(images)
        filled = torch.cat([images, images[-1:].expand(-len(images) % size, -1, -1, -1)])  # to whole batches
        parts = [session.run(None, {given.name: part.numpy()})[0] for part in filled.split(size)]
        return torch.from_numpy(np.concatenate(parts)[: len(images)])

    return logits


def image_shape(model: ModelProto, name: str) -> tuple[int, int, int]:
    """Return the channels, height and width that a model declares; 0 for each that it leaves open.

    Raises:
        UsageError: Its input is not one batch of images.
    """
    given, _ = _one(model, name)
    value = next(value for value in model.graph.input if value.name == given)
    sizes = [axis.dim_value for axis in value.type.tensor_type.shape.dim]
    if len(sizes) != 4 or value.type.tensor_type.elem_type != TensorProto.FLOAT:
        raise UsageError(f"{name}: its input {given!r} has {len(sizes)} axes; allowed: float (batch, channels, h, w)")
    return sizes[1], sizes[2], sizes[3]


def _one(model: ModelProto, name: str) -> tuple[str, str]:
    """Return the names of the one input and the one output."""
    constants = {tensor.name for tensor in model.graph.initializer}
    given = [value.name for value in model.graph.input if value.name not in constants]
    found = [value.name for value in model.graph.output]
    if len(given) != 1 or len(found) != 1:
        raise UsageError(
            f"{name}: {len(given)} inputs and {len(found)} outputs; allowed: one of each, images to logits"
        )
    return given[0], found[0]


def _with_shape(model: ModelProto, channels: int, side: int) -> ModelProto:
    copy = ModelProto()
    copy.CopyFrom(model)
    constants = {tensor.name for tensor in copy.graph.initializer}
    inputs = [value for value in copy.graph.input if value.name not in constants]
    del copy.graph.input[:]
    copy.graph.input.append(
        helper.make_tensor_value_info(inputs[0].name, TensorProto.FLOAT, ["N", channels, side, side])
    )
    output = copy.graph.output[0].name
    del copy.graph.output[:]
    copy.graph.output.append(helper.make_tensor_value_info(output, TensorProto.FLOAT, ["N", None]))
    return copy


def _optimised(model: ModelProto, name: str) -> ModelProto:
    with tempfile.TemporaryDirectory(prefix="hwnas-") as folder:
        path = Path(folder, "basic.onnx")
        try:
            open_session(model, Level.ORT_ENABLE_BASIC, save_optimized=path)
        except Exception as error:  # onnxruntime's exceptions share no base class but this
            reason = (str(error).splitlines() or [type(error).__name__])[0]
            raise UsageError(f"{name}: onnxruntime cannot load it: {reason}") from error
        return onnx.load(path)


def _check_batch(model: ModelProto, name: str) -> None:
    """Check that any number of images can be run at once."""
    shape = [3, *(axis.dim_value for axis in model.graph.input[0].type.tensor_type.shape.dim[1:])]
    try:
        found = open_session(model).run(None, {INPUT: np.zeros(shape, np.float32)})[0].shape
    except Exception as error:  # onnxruntime's exceptions share no base class but this
        raise UsageError(f"{name}: its batch cannot be opened; export it with an open batch axis") from error
    if len(found) != 2 or found[0] != shape[0]:
        raise UsageError(f"{name}: it makes {tuple(found)} of 3 images; allowed: logits (3, classes)")


def _rename(model: ModelProto, names: dict[str, str]) -> None:
    """Rename values, and out of the way what else has these names."""
    taken = {new: f"{new}_inner" for new in names.values() if new not in names}
    names = taken | {old: new for old, new in names.items() if old != new}
    for node in model.graph.node:
        for part in (node.input, node.output):
            part[:] = [names.get(value, value) for value in part]
    for value in (*model.graph.input, *model.graph.output, *model.graph.initializer):
        value.name = names.get(value.name, value.name)


def _spell_out(model: ModelProto) -> None:
    """Write every HardSigmoid as Add, Clip and Mul, which have integer kernels."""
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes += _hard_sigmoid(node, model) if node.op_type == "HardSigmoid" else [node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _hard_sigmoid(node: NodeProto, model: ModelProto) -> list[NodeProto]:
    options = {one.name: one.f for one in node.attribute}
    alpha, beta = options.get("alpha", 0.2), options.get("beta", 0.5)
    numbers = {"shift": beta / alpha, "low": 0.0, "high": 1 / alpha, "scale": alpha}
    base = node.name or node.output[0]
    names = {part: f"{base}/{part}" for part in numbers}
    model.graph.initializer.extend(
        numpy_helper.from_array(np.array(value, np.float32), names[part]) for part, value in numbers.items()
    )
    shifted, clipped = f"{base}/shifted", f"{base}/clipped"
    return [
        helper.make_node("Add", [node.input[0], names["shift"]], [shifted], name=f"{base}/Add"),
        helper.make_node("Clip", [shifted, names["low"], names["high"]], [clipped], name=f"{base}/Clip"),
        helper.make_node("Mul", [clipped, names["scale"]], [node.output[0]], name=f"{base}/Mul"),
    ]
