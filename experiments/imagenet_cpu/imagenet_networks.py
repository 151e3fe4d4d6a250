"""The networks: timm's, with random weights and published accuracies, and once-for-all's, found for the device.

A network of timm is measured in two forms, because how a net is written is part of what is measured: as torch exports
it, and rewritten with operators that have integer kernels, as ours are. The faster of the two counts.
"""

import csv
import io
import tempfile
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from latency_tables.builder import timing_model
from latency_tables.costs import Images
from nas.compression.qdq import quantize_graph
from nas.files import read_bytes, write_bytes
from search_spaces import Candidate, get_space, make_space

PUBLISHED = Path(__file__).with_name("published.csv")
AS_EXPORTED, REWRITTEN = "as exported", "rewritten"
FORMS = (AS_EXPORTED, REWRITTEN)
PRECISIONS = ("fp32", "int8")
SPACE = "ofa-mbv3"
IMAGES = Images(3, 1000)
UNIT = "network"  # all nodes of timm's networks are in one unit
OPSET = 17


@dataclass(frozen=True)
class Network:
    """A network in one precision and form.

    Attributes:
        name: Its name, or a candidate's id.
        source: ``timm`` or ``ofa``.
        precision: What it is run in.
        form: Of ``FORMS``; empty for our own, which have one.
        top1: Published, or predicted and brought to measured ones, in fp32; a fraction.
        low: Lower end of the 90 % interval of ``top1``; that itself where it is published.
        pixels: Of its images.
        candidate: Of once-for-all's.
    """

    name: str
    source: str
    precision: str
    form: str
    top1: float
    low: float
    pixels: int
    candidate: dict[str, Any] | None = None

    @property
    def key(self) -> str:
        """What its measurements are kept under."""
        return " ".join(filter(None, (self.name, self.precision, self.form)))


def timm_networks(names: list[str] | None = None) -> list[Network]:
    """Return timm's networks of ``published.csv`` in every precision and form, or those of some names."""
    with PUBLISHED.open() as file:
        rows = [row for row in csv.DictReader(file) if names is None or row["model"] in names]
    return [
        Network(row["model"], "timm", precision, form, float(row["top1"]) / 100, float(row["top1"]) / 100, pixels)
        for row in rows
        for pixels in [int(row["pixels"])]
        for precision in PRECISIONS
        for form in FORMS
    ]


def model_of(network: Network, form: str, cache: Path) -> bytes:
    """Return the ONNX model of a network, in the device's ``form`` of int8; timm's graphs are kept in ``cache``."""
    if network.candidate is not None:
        space = make_space(get_space(SPACE).preset, PRECISIONS)
        return timing_model(space, space.genes(Candidate.from_dict(network.candidate)), IMAGES, form)
    path = cache / f"{network.name}-{network.pixels}.onnx"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        write_bytes(path, exported(network.name, network.pixels))
    graph = onnx.load_model_from_string(read_bytes(path))
    if network.form == REWRITTEN:
        graph = rewritten(graph)
    for number, node in enumerate(graph.graph.node):
        node.name = f"{UNIT}/{node.op_type}_{number}"
    if network.precision == "int8":
        graph = quantize_graph(graph, {UNIT: "int8"}, None, form=form)
    return bytes(graph.SerializeToString())


def exported(name: str, pixels: int) -> bytes:
    """Return a network of timm as torch writes it, constants folded and batch norms in their convolutions."""
    import timm
    import torch

    with torch.random.fork_rng(devices=[]), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter by tracing is deprecated; the other takes seconds a network
        torch.manual_seed(0)
        model = timm.create_model(name, pretrained=False, exportable=True).eval()
        buffer = io.BytesIO()
        torch.onnx.export(
            model, (torch.randn(1, 3, pixels, pixels),), buffer, dynamo=False, opset_version=OPSET,
            input_names=["input"], output_names=["logits"],
        )  # fmt: skip
    return _folded(buffer.getvalue())


def _folded(model: bytes) -> bytes:
    """Return a graph without the constants and copies that onnxruntime's basic optimisations remove."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as folder:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        options.optimized_model_filepath = str(Path(folder, "folded.onnx"))
        onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        return Path(options.optimized_model_filepath).read_bytes()


def rewritten(model: ModelProto) -> ModelProto:
    """Return a graph with hard sigmoids as Add, Clip and Mul, and means over height and width as GlobalAveragePool."""
    nodes: list[NodeProto] = []
    scalars = {"three": 3.0, "zero": 0.0, "six": 6.0, "sixth": 1 / 6}
    axes = {tensor.name: numpy_helper.to_array(tensor).tolist() for tensor in model.graph.initializer if _small(tensor)}
    for node in model.graph.node:
        options = {one.name: helper.get_attribute_value(one) for one in node.attribute}
        if node.op_type == "HardSigmoid" and abs(options.get("alpha", 0.2) - 1 / 6) < 1e-3:
            shifted, clipped = f"{node.output[0]}_shifted", f"{node.output[0]}_clipped"
            nodes.append(helper.make_node("Add", [node.input[0], "three"], [shifted]))
            nodes.append(helper.make_node("Clip", [shifted, "zero", "six"], [clipped]))
            nodes.append(helper.make_node("Mul", [clipped, "sixth"], node.output))
        elif node.op_type == "ReduceMean" and _over_pixels(node, options, axes):
            nodes.append(helper.make_node("GlobalAveragePool", node.input[:1], node.output))
        else:
            nodes.append(node)
    found = ModelProto()
    found.CopyFrom(model)
    del found.graph.node[:]
    found.graph.node.extend(nodes)
    found.graph.initializer.extend(
        helper.make_tensor(name, TensorProto.FLOAT, [], [value]) for name, value in scalars.items()
    )
    return found


def _over_pixels(node: NodeProto, options: dict[str, Any], axes: dict[str, Any]) -> bool:
    """Return whether a mean is over height and width, and keeps them."""
    own = options.get("axes") or (axes.get(node.input[1]) if len(node.input) > 1 else None)
    return bool(options.get("keepdims", 1)) and list(own or []) in ([2, 3], [-2, -1], [-1, -2], [3, 2])


def _small(tensor: TensorProto) -> bool:
    return tensor.data_type == TensorProto.INT64 and len(tensor.dims) <= 1
