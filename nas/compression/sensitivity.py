"""How much each layer suffers from int8: by curvature, by Fisher information, or measured.

All in units of the loss on calibration images, the expected increase when that layer alone is quantized:

    hessian    1/2 mean trace of H_i x |Q(W_i) - W_i|^2           (HAWQ-V2, Dong et al., 2020; a trace below 0 is 0, as
               there coarser rounding would count as better)
    fisher     1/2 (mean trace of F_i x |Q(W_i) - W_i|^2 + traces of what it reads and computes x step^2 / 12)   (FIT)
    measured   the loss with layer i in int8, less that of fp32
    random     an order drawn by chance, for comparison
"""

from collections.abc import Callable

import numpy as np
import torch
from onnx import ModelProto, numpy_helper

from nas.compression.curvature import Differentiable, Floats, differentiable, fisher_traces, hessian_traces
from nas.compression.layers import LayeredGraph, Mask
from nas.compression.trials import Trials, only
from nas.errors import UsageError
from nas.registry import unknown_name

STEPS = 255  # of an 8-bit activation
Progress = Callable[[int, int], None]


def single_losses(trials: Trials, progress: Progress = lambda done, total: None) -> Floats:
    """Return by how much the loss grows when each layer alone is int8, ``(layers,)``."""
    count = len(trials.graph.layers)
    plain = trials.loss(only([], count))
    losses = []
    for place in range(count):
        losses.append(trials.loss(only(place, count)) - plain)
        progress(place + 1, count)
    return np.array(losses)


def hessian(trials: Trials, rng: np.random.Generator) -> Floats:
    """Return the sensitivities by Hutchinson's traces."""
    model, images, labels = _tensors("hessian", trials)
    traces = hessian_traces(model, images, labels, rng=_generator(rng)).clip(min=0)
    return 0.5 * _mean(traces, trials.graph) * weight_errors(trials)


def fisher(trials: Trials, rng: np.random.Generator) -> Floats:
    """Return the sensitivities by Fisher information, with an activation term."""
    model, images, labels = _tensors("fisher", trials)
    found = fisher_traces(model, images, labels)
    read, written = activation_errors(trials)
    weights = _mean(found.weights, trials.graph) * weight_errors(trials)
    return 0.5 * (weights + found.inputs * read + found.outputs * written)


def measured(trials: Trials, rng: np.random.Generator) -> Floats:
    """Return the measured increases of the loss."""
    return single_losses(trials)


def chance(trials: Trials, rng: np.random.Generator) -> Floats:
    """Return random numbers of the size of a small loss."""
    return rng.random(len(trials.graph.layers))


SENSITIVITIES: dict[str, Callable[[Trials, np.random.Generator], Floats]] = {
    "hessian": hessian,
    "fisher": fisher,
    "measured": measured,
    "random": chance,
}


def sensitivities(name: str, trials: Trials, rng: np.random.Generator) -> Floats:
    """Return the sensitivities of that name, ``(layers,)``.

    Raises:
        UsageError: No such name, or the graph cannot be read as torch and the name needs gradients.
    """
    if name not in SENSITIVITIES:
        raise unknown_name("sensitivity", name, SENSITIVITIES)
    return SENSITIVITIES[name](trials, rng)


def _tensors(name: str, trials: Trials) -> tuple[Differentiable, torch.Tensor, torch.Tensor]:
    """Return the graph as torch, which sensitivity ``name`` needs, the images and their labels."""
    try:
        model = differentiable(trials.graph)
    except UsageError as error:
        raise UsageError(f"sensitivity {name!r} needs gradients: {error}; take 'measured', which needs none") from error
    return model, torch.from_numpy(trials.images), torch.from_numpy(trials.labels)


def _generator(rng: np.random.Generator) -> torch.Generator:
    return torch.Generator().manual_seed(int(rng.integers(2**62)))


def _mean(traces: Floats, graph: LayeredGraph) -> Floats:
    return traces / np.array([layer.weights for layer in graph.layers])


def weight_errors(trials: Trials) -> Floats:
    """Return the squared distance between each layer's weights and what int8 makes of them, ``(layers,)``."""
    quantized = _all_int8(trials)
    stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
    plain = {tensor.name: numpy_helper.to_array(tensor) for tensor in trials.graph.model.graph.initializer}
    axes = {
        node.input[0]: next((one.i for one in node.attribute if one.name == "axis"), 1)
        for node in quantized.graph.node
        if node.op_type == "DequantizeLinear"
    }
    errors = []
    for layer in trials.graph.layers:
        name = f"{layer.weight}_quantized"
        if name not in stored:
            errors.append(0.0)
            continue
        values, scale = stored[name].astype(np.float64), stored[f"{layer.weight}_scale"].astype(np.float64)
        if scale.size > 1:
            scale = scale.reshape([-1 if axis == axes[name] % values.ndim else 1 for axis in range(values.ndim)])
        errors.append(float(((values * scale - plain[layer.weight]) ** 2).sum()))
    return np.array(errors)


def activation_errors(trials: Trials) -> tuple[Floats, Floats]:
    """Return the mean squared rounding error of what each layer reads and of what it writes after its activation."""
    limits = trials.ranges.limits

    def error(name: str) -> float:
        low, high = limits[name]
        return ((max(high, 0.0) - min(low, 0.0)) / STEPS) ** 2 / 12

    read = np.array([error(node.input[0]) for node in trials.graph.products()])
    return read, np.array([error(name) for name in trials.graph.computed()])


def _all_int8(trials: Trials) -> ModelProto:
    every: Mask = (True,) * len(trials.graph.layers)
    return trials.build(trials.allowed(every))
