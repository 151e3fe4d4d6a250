"""The graph of a candidate for timing: its architecture and precisions as they ship, weights that do not matter."""

import torch

from latency_tables.costs import Images
from nas.compression import quantize_graph
from nas.compression.qdq import FORM
from search_spaces import FLOATS, Genes, SearchSpace
from supernets.families import make_subnet
from supernets.graph import to_onnx


def timing_model(space: SearchSpace, row: Genes, images: Images, form: str = FORM) -> bytes:
    """Return the ONNX graph of one row ``(num_genes,)``, as exported models have it, batch axis left open.

    Weights are random, and of activation ranges the signs alone are right: all that kernels depend on. Biases are none
    of them 0, because OpenVINO leaves out an addition of zeros. ``form`` is the device's form of int8.
    """
    candidate = space.candidate(row)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        subnet = make_subnet(space, candidate, channels=images.channels, classes=images.classes).eval()
        for name, parameter in subnet.named_parameters():
            if name.endswith("bias"):
                torch.nn.init.normal_(parameter, std=0.1)
    graph = to_onnx(subnet, images.channels, candidate.resolution, batch="N")
    if not set(candidate.precisions) <= set(FLOATS):
        graph = quantize_graph(graph, dict(subnet.units()), None, form=form)
    return bytes(graph.SerializeToString())
