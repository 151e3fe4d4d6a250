"""Compression: precision and pruning, chosen per block."""

from nas.compression.engine import HOST, Engine, Session, executed_operators, quantized_convs
from nas.compression.exported import Exported, correct_images, correct_prepared, export_candidate, export_prepared
from nas.compression.gates import ParityReport, parity
from nas.compression.mixed import MixedPlan, MixedResult
from nas.compression.pruning import PruningPlan, netadapt
from nas.compression.qdq import FORMS, quantize_graph
from nas.compression.quantize import quantize_mixed
from nas.compression.ranges import RANGE_IMAGES, Ranges, activation_ranges
from nas.compression.units import expected_quantized_convs

__all__ = [
    "FORMS",
    "HOST",
    "RANGE_IMAGES",
    "Engine",
    "Exported",
    "MixedPlan",
    "MixedResult",
    "ParityReport",
    "PruningPlan",
    "Ranges",
    "Session",
    "activation_ranges",
    "correct_images",
    "correct_prepared",
    "executed_operators",
    "expected_quantized_convs",
    "export_candidate",
    "export_prepared",
    "netadapt",
    "parity",
    "quantize_graph",
    "quantize_mixed",
    "quantized_convs",
]
