"""NetAdapt: channels removed, layer by layer, until a network meets a latency on a device."""

from nas.compression.pruning.groups import IMPORTANCES, PruningGroup, find_groups
from nas.compression.pruning.layer_table import LayerTable, layer_shapes, measure_layers, table_models
from nas.compression.pruning.netadapt import Adaptation, Pruned, floors, netadapt
from nas.compression.pruning.plan import PruningPlan
from nas.compression.pruning.state import Iteration, PruningState, load_state
from nas.compression.pruning.task import (
    CLASSIFICATION,
    DEPTH,
    Examples,
    Task,
    check_outputs,
    classification,
    depth_estimation,
)

__all__ = [
    "CLASSIFICATION",
    "DEPTH",
    "IMPORTANCES",
    "Adaptation",
    "Examples",
    "Iteration",
    "LayerTable",
    "Pruned",
    "PruningGroup",
    "PruningPlan",
    "PruningState",
    "Task",
    "check_outputs",
    "classification",
    "depth_estimation",
    "find_groups",
    "floors",
    "layer_shapes",
    "load_state",
    "measure_layers",
    "netadapt",
    "table_models",
]
