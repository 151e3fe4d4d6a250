"""Compression: precision and pruning, chosen per block."""

from nas.compression.gates import ParityReport, executed_operators, parity, quantized_convs
from nas.compression.qdq import quantize_graph
from nas.compression.ranges import RANGE_IMAGES, Ranges, activation_ranges
from nas.compression.units import expected_quantized_convs

__all__ = [
    "RANGE_IMAGES",
    "ParityReport",
    "Ranges",
    "activation_ranges",
    "executed_operators",
    "expected_quantized_convs",
    "parity",
    "quantize_graph",
    "quantized_convs",
]
