"""What a configuration costs: each layer's gain in int8, and a price where precisions meet.

Layers of one precision that follow each other are an island. Inside, nothing is converted; a value that crosses from
one island to another is quantized or dequantized, at a price for the crossing and for each of its elements. The prices
of a network on a device are fitted by ridge regression to some of its configurations that were measured there.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.compression.layers import LayeredGraph, Mask

Floats = NDArray[np.float64]

SAMPLES = 24
"""Configurations that are measured, besides fp32 and all of int8."""
RUN = 6
"""Layers in a row that a configuration is changed by at once."""
RIDGE = 1e-3
"""Of features scaled to 1."""


def layer_features(graph: LayeredGraph) -> Floats:
    """Return what each layer adds to the features when it is int8, ``(layers, features)``.

    Of each kind (dense convolution, depthwise convolution, matrix product): whether it is one, and its multiply-adds.
    """
    rows = []
    for layer in graph.layers:
        kind = 2 if layer.operator != "Conv" else int(layer.depthwise)
        row = np.zeros((3, 2))
        row[kind] = 1, layer.macs
        rows.append(row.ravel())
    return np.array(rows)


def boundary_features(graph: LayeredGraph, mask: Mask) -> Floats:
    """Return how many values cross to int8 and their elements, and how many cross back and theirs, ``(4,)``."""
    found = np.zeros((2, 2))
    for flow in graph.flows:
        source = flow.source >= 0 and mask[flow.source]
        readers = {mask[target] for target in flow.targets if target >= 0}
        if (not source) in readers:
            found[int(source)] += 1, flow.elements
    return found.ravel()


def sample_masks(graph: LayeredGraph, possible: Mask, rng: np.random.Generator, count: int = SAMPLES) -> list[Mask]:
    """Return fp32, all of int8, and ``count`` configurations of random islands, each once."""
    layers = len(possible)
    found: dict[Mask, None] = dict.fromkeys([(False,) * layers, possible])
    for _ in range(10 * count):  # a small network has few
        if len(found) == count + 2:
            break
        islands = int(rng.integers(1, max(2, layers // 4)))
        cuts = np.sort(rng.integers(0, layers, islands))
        start = int(rng.integers(2))
        mask = (np.searchsorted(cuts, np.arange(layers), side="right") + start) % 2 == 1
        found.setdefault(tuple(bool(one) and able for one, able in zip(mask, possible, strict=True)))
    return list(found)


@dataclass(frozen=True, eq=False)
class IslandLatency:
    """The fitted prices.

    Attributes:
        graph: The network.
        fp32_ms: Its latency in fp32.
        gains: Milliseconds that each layer saves in int8, ``(layers,)``; negative where it loses.
        prices: Milliseconds by ``boundary_features``, ``(4,)``.
        error: Median relative error of predictions of configurations that were left out of the fit, one at a time.
    """

    graph: LayeredGraph
    fp32_ms: float
    gains: Floats
    prices: Floats
    error: float

    def predict(self, mask: Mask) -> float:
        """Return the milliseconds of a configuration."""
        saved = float(self.gains[np.array(mask)].sum())
        return self.fp32_ms - saved + float(boundary_features(self.graph, mask) @ self.prices)


def fastest_within(latency: IslandLatency, most: Mask) -> Mask:
    """Return the configuration that is predicted to be the fastest of those whose int8 layers are among ``most``.

    Found by descent from ``most``: runs of neighbouring layers leave int8 or come back, the best change first. Layers
    that gain too little to pay for their boundaries are left out so, and all of them where none pays.
    """
    count = len(most)
    runs = [(start, start + length) for length in range(1, RUN + 1) for start in range(count - length + 1)] + [
        (0, count)
    ]
    best, now = most, latency.predict(most)
    while True:
        moves = {
            best[:start] + fill + best[stop:]
            for start, stop in runs
            for fill in ((False,) * (stop - start), most[start:stop])
        }
        priced = [(latency.predict(move), move) for move in moves - {best}]
        after, move = min(priced, default=(now, best))
        if after >= now - 1e-9 * abs(now):
            return best
        best, now = move, after


def fit_islands(graph: LayeredGraph, masks: Sequence[Mask], latencies_ms: Sequence[float]) -> IslandLatency:
    """Fit the prices to measured configurations.

    Args:
        graph: The network.
        masks: The configurations, fp32 first.
        latencies_ms: Theirs.
    """
    layers = layer_features(graph)
    design = np.array([[*layers[np.array(mask)].sum(axis=0), *boundary_features(graph, mask)] for mask in masks])
    design, measured = design.astype(np.float64), np.array(latencies_ms, np.float64)
    change = measured - measured[0]
    scale: Floats = np.abs(design).max(axis=0)
    scale[scale == 0] = 1.0
    prices = _ridge(design / scale, change) / scale
    kept = ~np.eye(len(masks), dtype=bool)
    left_out = [
        abs(float(design[row] / scale @ _ridge(design[rest] / scale, change[rest])) - change[row]) / measured[row]
        for row, rest in enumerate(kept)
        if row
    ]
    width = layers.shape[1]
    return IslandLatency(
        graph,
        float(measured[0]),
        -(layers @ prices[:width]),
        prices[width:],
        float(np.median(left_out)) if left_out else 0.0,
    )


def _ridge(design: Floats, target: Floats) -> Floats:
    penalty = RIDGE * np.eye(design.shape[1])
    return np.asarray(np.linalg.solve(design.T @ design + penalty, design.T @ target), np.float64)
