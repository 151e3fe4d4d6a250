"""How graphs are opened in onnxruntime: everywhere with the same options, of which threads and providers are chosen.

Without spinning, in sequence. The level of optimisation can be chosen too, because the gates compare one with another.
"""

from collections.abc import Sequence
from pathlib import Path

import onnxruntime
from onnx import ModelProto
from onnxruntime import GraphOptimizationLevel as Level

SESSION_OPTIONS = {f"session.{pool}.allow_spinning": "0" for pool in ("intra_op", "inter_op")}
CPU_PROVIDER = "CPUExecutionProvider"
CPU_DESCRIPTION = {"provider": CPU_PROVIDER, "graph_optimization": "all", "spinning": False}  # of sessions to time


def open_session(
    model: ModelProto | bytes | str | Path,
    level: Level = Level.ORT_ENABLE_ALL,
    *,
    threads: int = 1,
    providers: Sequence[str | tuple[str, dict[str, str]]] = (CPU_PROVIDER,),
    save_optimized: Path | None = None,
) -> onnxruntime.InferenceSession:
    """Open a session of a graph or of the file of one.

    Args:
        model: The graph, as it is, serialised, or as the path of its file.
        level: How far onnxruntime rewrites it.
        threads: How many threads an operator is shared between.
        providers: What executes it, in order of preference, each with its options if it has any.
        save_optimized: Where to write what it became.
    """
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = level
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    options.execution_mode = onnxruntime.ExecutionMode.ORT_SEQUENTIAL
    options.log_severity_level = 3
    for key, value in SESSION_OPTIONS.items():
        options.add_session_config_entry(key, value)
    if save_optimized is not None:
        options.optimized_model_filepath = str(save_optimized)
    if isinstance(model, ModelProto):
        model = model.SerializeToString()
    source = model if isinstance(model, bytes) else str(model)
    return onnxruntime.InferenceSession(source, options, providers=list(providers))
