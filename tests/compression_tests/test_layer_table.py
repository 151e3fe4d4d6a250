"""The look-up of layers: what is measured, and what is read between its points."""

from collections.abc import Mapping

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_pruning import SIDE, coupled
from torch import nn

from nas.compression.pruning import find_groups, floors, layer_shapes, measure_layers
from nas.compression.pruning.layer_table import EMPTY, LayerShape
from nas.compression.widths import Width, widths_of

IMAGE = torch.zeros(1, 1, SIDE, SIDE)


def by_width(graphs: Mapping[str, bytes]) -> dict[str, float]:
    """Take inputs times outputs milliseconds, plus 5 for being there."""
    found = {EMPTY: 5.0}
    for key in graphs.keys() - {EMPTY}:
        inputs, outputs = next(word for word in key.split() if ">" in word).split(">")
        found[key] = 5.0 + int(inputs) * int(outputs)
    return found


def test_the_table_has_what_was_measured_and_reads_between() -> None:
    network = coupled()
    widths, groups = widths_of(network), find_groups(network, IMAGE)
    table = measure_layers(layer_shapes(network, IMAGE), widths, floors(groups, widths, 8), 8, by_width)

    def product(at: Mapping[str, Width]) -> float:
        return sum(at[path].inputs * at[path].outputs for path in table.layers)

    assert table.ms(widths) == product(widths)
    half = groups[1].without(widths, 16)
    assert table.ms(half) == product(half)  # a point of the grid, also of the depthwise one
    between = groups[1].without(widths, 12)
    off = table.ms(between) - product(between)  # bilinear in all but the square of the depthwise one
    assert off == pytest.approx((24**2 + 16**2) / 2 - 20**2)


def test_equal_layers_are_measured_once_and_their_sizes_are_seen() -> None:
    network = nn.Sequential(nn.Conv2d(1, 8, 3, 2, 1), nn.Conv2d(8, 8, 3, 1, "same"), nn.Conv2d(8, 8, 3, 1, 1)).eval()
    layers = layer_shapes(network, IMAGE)
    assert [layers[path].size for path in "012"] == [(8, 8), (4, 4), (4, 4)]
    assert layers["1"] == layers["2"] and layers["1"].padding == (1, 1)
    assert not network[0]._forward_pre_hooks


@pytest.mark.parametrize(
    "layer",
    [
        nn.Conv2d(8, 16, 3, 2, 1),
        nn.Conv2d(8, 8, 5, 1, 2, groups=8),
        nn.Conv2d(8, 16, (1, 3), dilation=2, groups=2),
        nn.ConvTranspose2d(8, 16, 2, 2),
        nn.Linear(8, 16),
    ],
)
def test_a_layers_graph_computes_results_of_its_shape(layer: nn.Module) -> None:
    image = torch.rand(1, 8) if isinstance(layer, nn.Linear) else torch.rand(1, 8, 8, 8)
    shape: LayerShape = layer_shapes(nn.Sequential(layer), image)["0"]
    width = widths_of(nn.Sequential(layer))["0"]
    session = onnxruntime.InferenceSession(shape.graph(width), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": image.numpy().astype(np.float32)})
    assert found.shape == tuple(layer(image).shape)
