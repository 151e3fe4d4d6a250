"""Compression: precision and pruning, chosen per block."""

from nas.compression.qdq import quantize_graph
from nas.compression.ranges import Ranges, activation_ranges
from nas.compression.units import expected_quantized_convs

__all__ = ["Ranges", "activation_ranges", "expected_quantized_convs", "quantize_graph"]
