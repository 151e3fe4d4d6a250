"""Static 8-bit quantization of chosen units of a graph, in onnxruntime's QDQ form.

onnxruntime's own quantizer decides where quantize and dequantize nodes go. It takes 0.3 s for a network of 41
convolutions, most of it in Python loops over channels and over the list of initializers, so it is given a graph whose
weights are already quantized (by its formula, vectorised, and tested to be equal) and which holds only the initializers
that it has to see: 60 ms all int8, 30 ms half. Weights are int8 per output channel with zero point 0; activations are 8
bit per tensor, affine.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType
from onnxruntime.quantization.calibrate import TensorData
from onnxruntime.quantization.qdq_quantizer import QDQQuantizer
from onnxruntime.quantization.quant_utils import add_infer_metadata

from nas.compression.ranges import Ranges, activations, assumed_ranges
from nas.compression.units import quantized_nodes
from nas.errors import UsageError
from nas.registry import unknown_name

OP_TYPES = (
    *("Conv", "Gemm", "MatMul", "Relu", "Clip", "Add", "Mul", "GlobalAveragePool"),
    *("AveragePool", "MaxPool", "Flatten", "Reshape", "Transpose", "Split"),
)
"""What is quantized inside an int8 unit: every operator of these networks that has an integer kernel.

Then a unit runs without a float node inside: over small nets at 28 pixels, one thread, all-int8 takes 0.325 ms, without
GlobalAveragePool 0.330, with Conv alone 0.421 (fp32: 0.414). Operators that have no integer kernel, such as Div,
LayerNormalization and Gelu, would only add dequantize-quantize pairs around themselves. Changes of shape keep the scale
of their input: beside attention they save three such pairs in seven.
"""


@dataclass(frozen=True)
class Form:
    """A form of int8: the type of activations, and whether weights have 7 bits."""

    activations: QuantType
    reduce_range: bool = False

    @property
    def top(self) -> int:
        """The largest weight."""
        return 64 if self.reduce_range else 127


FORMS = {"u8s8": Form(QuantType.QUInt8), "u8s7": Form(QuantType.QUInt8, True), "s8s8": Form(QuantType.QInt8)}
"""What kernels want. ``u8s8``: x86 with VNNI. ``u8s7``: x86 without it, whose 16-bit sums of u8 x s8 products saturate.
``s8s8``: ARM, whose kernels want both operands signed."""

FORM = "u8s8"


def quantize_graph(
    model: ModelProto,
    precisions: Mapping[str, str],
    ranges: Ranges | None,
    *,
    form: str = FORM,
) -> ModelProto:
    """Quantize the int8 units of an fp32 graph.

    A unit's residual addition belongs to the unit, so at a boundary between an int8 and an fp32 unit there is one
    quantize-dequantize pair, of which onnxruntime keeps the half on the fp32 side.

    Args:
        model: An fp32 graph as ``supernets.graph.to_onnx`` writes it; not changed.
        precisions: Unit (a module path) to ``"fp32"`` or ``"int8"``; nodes in no unit stay fp32.
        ranges: From ``activation_ranges`` of the same graph. None takes ``assumed_ranges``: the kernels are the right
            ones and the logits are not, so for timing only.
        form: Of ``FORMS``: the device's ``quantization``.

    Returns:
        The graph with QuantizeLinear and DequantizeLinear nodes; a copy of ``model`` where no unit is int8.

    Raises:
        UsageError: A unit, precision or form is unknown, or ``ranges`` lacks an activation of the graph.
    """
    if form not in FORMS:
        raise unknown_name("form of int8", form, FORMS)
    nodes = quantized_nodes(model, precisions)
    if not nodes:
        copy = ModelProto()
        copy.CopyFrom(model)
        return copy
    limits = _limits(model, ranges)
    skeleton, payload = _quantize_weights(model, {node.name for node in nodes}, limits, FORMS[form].top)
    quantizer = QDQQuantizer(
        skeleton,
        per_channel=True,
        reduce_range=FORMS[form].reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=FORMS[form].activations,
        tensors_range={
            name: TensorData(lowest=np.float32(low), highest=np.float32(high)) for name, (low, high) in limits.items()
        },
        nodes_to_quantize=[node.name for node in nodes],
        nodes_to_exclude=[],
        op_types_to_quantize=OP_TYPES,
        extra_options={},
    )
    quantized: ModelProto = quantizer.quantize_model()
    quantized.graph.initializer.extend(payload)
    quantizer.model.topological_sort()
    del quantized.graph.value_info[:]
    return quantized


def _limits(model: ModelProto, ranges: Ranges | None) -> dict[str, tuple[float, float]]:
    """Return the range of every activation of ``model``."""
    names = activations(model)
    ranges = ranges or assumed_ranges(model)
    absent = [name for name in names if name not in ranges.limits]
    if absent:
        raise UsageError(f"the ranges have no entry for {absent[0]!r}; calibrate them on the graph that is quantized")
    return {name: ranges.limits[name] for name in names}


def _quantize_weights(
    model: ModelProto, chosen: set[str], limits: Mapping[str, tuple[float, float]], top: int
) -> tuple[ModelProto, list[TensorProto]]:
    """Put an int8 initializer and a DequantizeLinear in the place of the weights of the ``chosen`` nodes.

    Returns:
        The graph with the initializers that the quantizer has to see, and the others, to be added back after it.
    """
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    uses = Counter(name for node in model.graph.node for name in node.input)
    nodes: list[NodeProto] = []
    seen: dict[str, TensorProto] = {}
    payload: dict[str, TensorProto] = {}
    typed = activations(model)
    for node in model.graph.node:
        for name in node.input:
            if name in tensors:
                (seen if node.name in chosen else payload)[name] = tensors[name]
        if node.name in chosen and _has_plain_weight(node, tensors, uses):
            weight = seen.pop(node.input[1]).name
            bias = numpy_helper.to_array(tensors[node.input[2]]) if len(node.input) > 2 else np.zeros(1, np.float32)
            values, scales = _per_channel(numpy_helper.to_array(tensors[weight]), bias, limits[node.input[0]], top)
            parts = [f"{weight}_{part}" for part in ("quantized", "scale", "zero_point")]
            payload[parts[0]] = numpy_helper.from_array(values, parts[0])
            seen[parts[1]] = numpy_helper.from_array(scales, parts[1])
            payload[parts[2]] = numpy_helper.from_array(np.zeros(len(scales), np.int8), parts[2])
            name = f"{weight}/DequantizeLinear"
            nodes.append(helper.make_node("DequantizeLinear", parts, [weight], name=name, axis=0))
            typed.append(weight)
        nodes.append(node)
    graph = helper.make_graph(nodes, model.graph.name, model.graph.input, model.graph.output, list(seen.values()))
    declared = {value.name for value in (*model.graph.input, *model.graph.output)}
    graph.value_info.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in typed if name not in declared
    )
    skeleton = helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)
    add_infer_metadata(skeleton)  # without this mark the quantizer infers the types again, through files
    return skeleton, [tensor for name, tensor in payload.items() if name not in seen]


def _has_plain_weight(node: NodeProto, tensors: Mapping[str, TensorProto], uses: Mapping[str, int]) -> bool:
    """Whether the second input is a weight of this node alone with the output channels first."""
    if node.op_type == "Gemm":
        channels_first = any(attribute.name == "transB" and attribute.i for attribute in node.attribute)
    else:
        channels_first = node.op_type == "Conv"
    return channels_first and node.input[1] in tensors and uses[node.input[1]] == 1


def _per_channel(
    weight: np.ndarray, bias: np.ndarray, input_limits: tuple[float, float], top: int
) -> tuple[np.ndarray, np.ndarray]:
    """Quantize a weight (out, ...) to int8 of at most ``top``, with one scale per output channel.

    A channel's scale is widened where its bias, in steps of input scale x weight scale, would overflow 32 bits: batch
    normalisation folded into a dead channel leaves tiny weights beside an ordinary bias.
    """
    low, high = np.float32(min(input_limits[0], 0.0)), np.float32(max(input_limits[1], 0.0))
    input_scale = float(np.float32((float(high) - float(low)) / 255)) or 1.0
    scale = np.abs(weight).reshape(len(weight), -1).max(axis=1).astype(np.float64) / top
    scale[scale < np.finfo(np.float32).tiny] = 1.0
    scale = np.maximum(scale, 1.0001 * np.abs(bias.astype(np.float64)) / (2**31 - 1) / input_scale).astype(np.float32)
    steps = np.rint(weight / scale.reshape(-1, *[1] * (weight.ndim - 1)))
    return np.clip(steps, -top, top).astype(np.int8), scale
