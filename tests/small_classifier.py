"""A small trained classifier with what networks have: strides, depthwise layers, a skip, hard-swish; and its images."""

import warnings
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import onnx
import torch
from onnx import ModelProto, TensorProto, helper
from torch import Tensor, nn

from latency_tables.simulated import CostModel, SimulatedDevice
from nas.compression.canonical import canonical
from nas.compression.layers import LayeredGraph, layered
from supernets.graph import to_onnx

SIDE, CHANNELS, CLASSES = 12, 1, 3


class SmallNet(nn.Module):
    """Five convolutions and a linear layer; a function of its own for ``module:function``."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Conv2d(CHANNELS, 16, 3, 2, 1), nn.BatchNorm2d(16), nn.ReLU())
        self.expand = nn.Sequential(nn.Conv2d(16, 32, 1), nn.ReLU6())
        self.depthwise = nn.Sequential(nn.Conv2d(32, 32, 3, 1, 1, groups=32), nn.Hardswish())
        self.project = nn.Conv2d(32, 16, 1)
        self.last = nn.Sequential(nn.Conv2d(16, 32, 3, 2, 1), nn.ReLU())
        self.head = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(32, CLASSES))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        return self.head(self.last(x + self.project(self.depthwise(self.expand(x)))))


NAMES = ["stem.0", "expand.0", "depthwise.0", "project", "last.0", "head.2"]


@dataclass(frozen=True, eq=False)
class Small:
    """The network, its layered graph, and images ``(n, 1, 12, 12)`` with labels."""

    network: nn.Module
    graph: LayeredGraph
    images: Tensor
    labels: Tensor


@cache
def small_classifier() -> Small:
    """Return it, trained for a second; not to be changed."""
    rng = torch.Generator().manual_seed(0)
    labels = torch.randint(0, CLASSES, (192,), generator=rng)
    centres = 0.7 * torch.randn(CLASSES, CHANNELS, SIDE, SIDE, generator=rng)
    images = centres[labels] + torch.randn(192, CHANNELS, SIDE, SIDE, generator=rng)
    network = trained(images, labels)
    return Small(
        network, layered(canonical(to_onnx(network, CHANNELS, SIDE, "N"), "small", CHANNELS, SIDE)), images, labels
    )


def trained(images: Tensor, labels: Tensor) -> nn.Module:
    """Train the network on half of the images."""
    torch.manual_seed(0)
    network = SmallNet()
    optimizer = torch.optim.Adam(network.parameters(), 1e-2)
    for _ in range(15):
        optimizer.zero_grad()
        nn.functional.cross_entropy(network(images[:96]), labels[:96]).backward()
        optimizer.step()
    return network.eval().requires_grad_(False)


def untrained() -> nn.Module:
    """Return the network as ``module:function`` would."""
    torch.manual_seed(1)
    return SmallNet()


def foreign(network: nn.Module, path: Path, opset: int = 18) -> ModelProto:
    """Return a network as torch's exporter writes it, of a fixed batch and with other names."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (torch.zeros(2, CHANNELS, SIDE, SIDE),), path, dynamo=False, opset_version=opset,
            input_names=["pixels"], output_names=["scores"],
        )  # fmt: skip
    return onnx.load(path)


def graph_of(*nodes: onnx.NodeProto, inputs: int = 1, opset: int = 21, axes: int = 4) -> ModelProto:
    given = [helper.make_tensor_value_info(f"x{i}", TensorProto.FLOAT, ["N", 1, 4, 4][:axes]) for i in range(inputs)]
    out = [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["N", None])]
    return helper.make_model(
        helper.make_graph(list(nodes), "g", given, out), opset_imports=[helper.make_opsetid("", opset)], ir_version=10
    )


FLATTEN = helper.make_node("Flatten", ["x0"], ["y"])


def steep_device() -> SimulatedDevice:
    """Return a simulated device on which multiply-adds dominate, so that int8 is worth it for a network this small."""
    costs = CostModel(mac_fp32_ns=2.0, mac_int8_ns=0.5, element_ns=0.1, quantize_element_ns=0.1, node_ns=10.0)
    return SimulatedDevice(costs=costs)
