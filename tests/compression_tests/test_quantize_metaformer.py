"""A metaformer's int8 units run in integer kernels, attention's matrix products too, and stay close."""

from collections import Counter
from dataclasses import replace

import numpy as np
import pytest
import torch

from nas.compression import activation_ranges, executed_operators, parity, quantize_graph
from search_spaces import Candidate, get_space
from supernets import ImageInfo, Subnet
from supernets.graph import to_onnx
from supernets.metaformer import MetaformerSupernet

SPACE = get_space("fashion-former")


def make_subnet(candidate: Candidate) -> Subnet:
    """Return a subnet with scales, statistics and a classifier as after training."""
    torch.manual_seed(0)
    net = MetaformerSupernet(SPACE, ImageInfo("noise", tuple(map(str, range(10))), (0.5,), (0.25,)))
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("scale"):
                parameter.uniform_(0.2, 1.0)
            elif name.endswith(("biases", "classifier.weight")):
                parameter.normal_(0, 0.3)
        subnet = net.extract(candidate).train()
        for _ in range(10):
            subnet(torch.randn(16, 1, candidate.resolution, candidate.resolution))
    return subnet.eval()


def make_images(count: int, resolution: int = 28) -> np.ndarray:
    return np.random.default_rng(1).normal(size=(count, 1, resolution, resolution)).astype(np.float32)


def candidates() -> list[Candidate]:
    rows = SPACE.with_precision(SPACE.sample(2, np.random.default_rng(0)), "int8")
    return [SPACE.candidate(row) for row in (SPACE.largest("int8"), SPACE.smallest("int8"), *rows)]


@pytest.mark.parametrize("number", range(4))
def test_all_int8_passes_the_gates(number: int) -> None:
    candidate = candidates()[number]
    subnet, images = make_subnet(candidate), make_images(64, candidate.resolution)
    graph = to_onnx(subnet, 1, candidate.resolution, "N")
    precisions = dict(subnet.units())
    quantized = quantize_graph(graph, precisions, activation_ranges(graph, images))
    report = parity(subnet, graph, quantized, precisions, images, min_agreement=0.7)
    assert report.quantization_error < 0.15 and report.kernels["Conv"] > 0


def test_attention_runs_in_integers_and_normalisation_in_floats() -> None:
    candidate = candidates()[0]
    subnet = make_subnet(candidate)
    graph = to_onnx(subnet, 1, 28, "N")
    quantized = quantize_graph(graph, dict(subnet.units()), activation_ranges(graph, make_images(32)))
    found, asked = executed_operators(quantized), Counter(node.op_type for node in graph.graph.node)
    blocks = sum(block.mixer == "attention" for block in candidate.active_blocks())
    assert blocks == 2 and found["QLinearMatMul"] == asked["MatMul"] == 2 * blocks
    assert found["QGemm"] == asked["Gemm"] == 4 * blocks + 1
    assert found["LayerNormalization"] == 2 * blocks + 1
    assert found["QuantizeLinear"] == 1 + found["LayerNormalization"]  # the images, and after each normalisation
    assert not {"Conv", "Gemm", "MatMul", "Softmax", "Add"} & set(found)


def test_only_the_int8_units_run_in_integer_kernels() -> None:
    candidate = candidates()[0]
    subnet = make_subnet(replace(candidate, stem="fp32", head="fp32"))
    graph = to_onnx(subnet, 1, 28, "N")
    precisions = dict.fromkeys((name for name, _ in subnet.units()), "fp32") | {"blocks.block_2_2": "int8"}
    found = executed_operators(quantize_graph(graph, precisions, activation_ranges(graph, make_images(32))))
    assert (found["QLinearMatMul"], found["MatMul"], found["QGemm"], found["QLinearConv"]) == (2, 2, 4, 0)
