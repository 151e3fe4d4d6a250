"""Device ``bitfusion``: an accelerator with 4, 6 and 8-bit weights and activations. MODELLED, NOT MEASURED.

The kind of target that APQ (Wang et al., 2020) and HAQ searched for. Latency and energy are those of ``systolic``, the
sum over a network's convolutions and matrix products; what else a network does happens on the way to memory. So tables
of a space are computed, not regressed: ``BitFusion.tables`` is exact, and there is nothing to calibrate.

``w4a8`` stands for 4-bit weights and 8-bit activations. Of an ONNX graph every layer is taken for 8 bits, quantized or
not: the accelerator has no floats, and the graphs that are written here no fewer bits.
"""

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import pairwise
from math import prod
from typing import Any

import onnx
from onnx import GraphProto, numpy_helper, shape_inference

from latency_tables.costs import Images
from latency_tables.device import Device
from latency_tables.protocol import Runner
from latency_tables.reference_net import REFERENCE_VERSION, reference_model
from latency_tables.systolic import Accelerator, Layer, Work, load_accelerator, work
from latency_tables.table import LatencyTable, Part
from nas.errors import DeviceError, UsageError
from search_spaces import BlockChoice, MBConvSpace, SearchSpace

PRECISIONS = ("w8a8", "w6a6", "w4a4")
PRECISION = re.compile(r"w([468])a([468])")
MODEL_VERSION = "1"
NOT_YET = "4- and 6-bit networks cannot be trained, exported or verified yet"


@dataclass(frozen=True)
class ModelledTables:
    """What the parts of a space's networks cost on a modelled device.

    Attributes:
        latency: Milliseconds.
        energy: The same sort of table of millijoules: its ``predict_ms`` answers in millijoules.
    """

    latency: LatencyTable
    energy: LatencyTable


class BitFusion(Device):
    """The modelled accelerator, one image at a time."""

    name = "bitfusion"
    simulated = True

    def __init__(self, accelerator: Accelerator | None = None) -> None:
        self.runtime = f"BitFusion model {MODEL_VERSION} (modelled, not measured)"
        self.accelerator = accelerator or load_accelerator()
        self._now = 0.0

    @property
    def precisions(self) -> tuple[str, ...]:
        return PRECISIONS

    def describe(self) -> dict[str, Any]:
        return {
            "cpu": "none: a modelled accelerator",
            "runtime": "bitfusion model",
            "runtime_version": MODEL_VERSION,
            "threads": 1,
            "batch": 1,
            "precisions": list(self.precisions),
            "accelerator": asdict(self.accelerator),
            "reference_version": REFERENCE_VERSION,
            "simulated": True,
        }

    def clock(self) -> float:
        return self._now

    def load(self, model: bytes) -> Runner:
        return _ModelledRunner(self, self.cost(model)[0] * 1e-3)

    def reference(self) -> Runner:
        return self.load(reference_model().SerializeToString())

    def elapse(self, seconds: float) -> float:
        """Let its clock go on; return ``seconds``: a model has no noise."""
        self._now += seconds
        return seconds

    def cost(self, model: bytes) -> tuple[float, float]:
        """Return modelled milliseconds and millijoules of an ONNX graph, every layer at 8 bits.

        Raises:
            DeviceError: It is no ONNX model, or has no layer of known shape.
        """
        try:
            graph = shape_inference.infer_shapes(onnx.load_from_string(model)).graph
            layers = list(graph_layers(graph))
        except Exception as error:  # protobuf's and onnx's exceptions share no base class
            raise DeviceError(f"model: {self.name} (modelled) cannot read it ({type(error).__name__})") from error
        if not layers:
            raise DeviceError(f"model: {self.name} (modelled) finds no convolution or matrix product in it")
        return self._total(work(layer, 8, 8, self.accelerator) for layer in layers)

    def tables(self, space: SearchSpace, images: Images) -> ModelledTables:
        """Return the exact tables of a space of inverted residual blocks, for any menu of ``w4a4`` to ``w8a8``.

        Args:
            space: ``get_space(name, device.precisions)``, or any menu of 4, 6 and 8 bits.
            images: What its networks are for.

        Raises:
            UsageError: The space is of another family, or one of its precisions is not of 4, 6 or 8 bits.
        """
        if not isinstance(space, MBConvSpace):
            family = space.preset.family
            raise UsageError(f"space {space.name!r} of family {family!r} on {self.name}; allowed: family 'mbconv'")
        bits = {precision: _bits(precision) for precision in space.precisions}
        latency, energy = LatencyTable.zeros(space), LatencyTable.zeros(space)
        for (part, ms, at), (_, mj, _) in zip(latency.entries(), energy.entries(), strict=True):
            own = bits[part.choice.precision]
            layers = part_layers(space, images, part)
            ms[at], mj[at] = self._total(work(layer, *own, self.accelerator) for layer in layers)
        return ModelledTables(latency, energy)

    def _total(self, works: Iterator[Work]) -> tuple[float, float]:
        costs = [(one.milliseconds(self.accelerator), one.millijoules(self.accelerator)) for one in works]
        latency, energy = (sum(values) for values in zip(*costs, strict=True))
        return latency, energy


@dataclass
class _ModelledRunner:
    device: BitFusion
    seconds: float

    def run(self, count: int) -> float:
        return self.device.elapse(self.seconds * count)


def _bits(precision: str) -> tuple[int, int]:
    """Return the bits of weights and activations of a precision."""
    match = PRECISION.fullmatch(precision)
    if match is None:
        raise UsageError(f"precision {precision!r} on bitfusion; allowed: w4a4 to w8a8, of 4, 6 or 8 bits each")
    return int(match[1]), int(match[2])


def part_layers(space: MBConvSpace, images: Images, part: Part) -> list[Layer]:
    """Return the layers of a part of a network."""
    preset = space.preset
    if isinstance(part.choice, BlockChoice):
        return _block_layers(space, part, part.choice)
    if part.name == "stem":
        side = space.feature_size(part.resolution, 0)
        layers = [Layer(3, preset.stem_stride, side, images.channels, preset.stem_width)]
        if preset.stem_block_width:
            layers += _separable(3, 1, side, preset.stem_width, preset.stem_block_width)
        return layers
    last = space.block_positions[-1]
    side = -(-space.feature_size(part.resolution, len(space.block_positions) - 1) // last.stride)
    widths = [width for width in (preset.head_width, preset.head_mix_width, images.classes) if width]
    dense = [Layer(1, 1, 1, width_in, width_out) for width_in, width_out in pairwise(widths)]
    return [Layer(1, 1, side, last.out_width, preset.head_width), *dense]


def _block_layers(space: MBConvSpace, part: Part, choice: BlockChoice) -> list[Layer]:
    position, middle = space.block_positions[part.number - 1], choice.middle
    side = space.feature_size(part.resolution, part.number - 1)
    expand = Layer(1, 1, side, position.in_width, middle)
    depthwise, project = _separable(
        choice.kernel, position.stride, -(-side // position.stride), middle, position.out_width
    )
    squeezed = space.preset.squeezed(middle)
    squeeze = [Layer(1, 1, 1, middle, squeezed), Layer(1, 1, 1, squeezed, middle)] if position.se else []
    return [expand, depthwise, *squeeze, project]


def _separable(kernel: int, stride: int, side: int, width_in: int, width_out: int) -> list[Layer]:
    return [Layer(kernel, stride, side, width_in, width_in, width_in), Layer(1, 1, side, width_in, width_out)]


def graph_layers(graph: GraphProto) -> Iterator[Layer]:
    """Yield the convolutions and matrix products of a graph whose shapes are inferred.

    Of a product of two activations, such as attention's, the second is moved and held as weights are, at every image.
    """
    shapes = {
        value.name: [max(1, dimension.dim_value) for dimension in value.type.tensor_type.shape.dim]
        for value in (*graph.value_info, *graph.input, *graph.output)
    }
    shapes |= {tensor.name: list(numpy_helper.to_array(tensor).shape) for tensor in graph.initializer}
    for node in graph.node:
        if node.op_type == "Conv":
            weight, result = shapes[node.input[1]], shapes[node.output[0]]
            options = {option.name: option for option in node.attribute}
            groups = options["group"].i if "group" in options else 1
            stride = options["strides"].ints[0] if "strides" in options else 1
            yield Layer(weight[2], stride, result[2], weight[1] * groups, weight[0], groups)
        elif node.op_type in ("Gemm", "MatMul"):
            yield from _products(shapes[node.input[1]], shapes[node.output[0]], prod(shapes[node.input[0]]))


def _products(second: list[int], result: list[int], elements: int) -> list[Layer]:
    """Return the layers of one matrix product: one, or one for each matrix where the second operand is a stack.

    Args:
        second: Shape of the second operand, two or more dimensions.
        result: Shape of the result.
        elements: How many the first operand has.
    """
    stack, rows = (prod(result[:-2]), result[-2]) if len(second) > 2 else (1, prod(result[:-1]))
    return [Layer(1, 1, 1, elements // (stack * rows), result[-1], rows=rows)] * stack
