"""How graphs are run where they are checked and calibrated: in onnxruntime, on one thread, without spinning.

The options are the ``cpu`` device's (``latency_tables.onnxruntime_cpu``), which lies above this package; its sessions
are those that are timed and whose images are counted. Here the level of optimisation can be chosen beside, because the
gates compare one level with another.
"""

from pathlib import Path

import onnxruntime
from onnx import ModelProto
from onnxruntime import GraphOptimizationLevel as Level


def open_session(
    model: ModelProto | str | Path, level: Level = Level.ORT_ENABLE_ALL, *, save_optimized: Path | None = None
) -> onnxruntime.InferenceSession:
    """Open a session of a graph or of the file of one.

    Args:
        model: The graph.
        level: How far onnxruntime rewrites it.
        save_optimized: Where to write what it became.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    for pool in ("intra_op", "inter_op"):
        options.add_session_config_entry(f"session.{pool}.allow_spinning", "0")
    if save_optimized is not None:
        options.optimized_model_filepath = str(save_optimized)
    source = model.SerializeToString() if isinstance(model, ModelProto) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
