"""A plain torch network as an ONNX graph, in milliseconds."""

from supernets.graph.translation import IR_VERSION, OPSET, to_onnx
from supernets.graph.writer import INPUT, OUTPUT

__all__ = ["INPUT", "IR_VERSION", "OPSET", "OUTPUT", "to_onnx"]
