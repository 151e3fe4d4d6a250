"""Short quantization-aware training of a chosen configuration, from its fp32 graph back to an fp32 graph.

The graph is read as torch; each int8 layer sees its weights per channel, and what it reads and computes per tensor, as
the integers will have them (torch's own fake quantization, whose gradient is straight-through inside the range and zero
beyond). Scales of activations stay as calibrated; those of weights follow the weights. What was learned is written into
the graph's initializers, so that everything after it, calibration, quantization and gates, is as for any graph.
"""

from collections.abc import Callable, Iterable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from onnx import ModelProto, TensorProto, numpy_helper
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrize

from nas.compression.curvature import differentiable
from nas.compression.layers import LayeredGraph, Mask
from nas.compression.qdq import FORM, FORMS
from nas.compression.ranges import Ranges
from nas.errors import TrainingError, UsageError

LEVELS = 255
"""Of an 8-bit activation."""
Limits = tuple[float, float]


@dataclass(frozen=True)
class Recipe:
    """How to train.

    Attributes:
        epochs: Passes over the images.
        learning_rate: Of SGD with momentum 0.9 at the start of one cosine.
        distillation: The part of the loss that compares with fp32's probabilities; the rest compares with labels.
    """

    epochs: int = 1
    learning_rate: float = 1e-3
    distillation: float = 0.5


RECIPE = Recipe()
"""Where nothing is said."""

Batches = Callable[[], Iterable[tuple[Tensor, Tensor]]]
"""Gives the batches of one epoch: images as the network takes them, and labels."""


def fine_tuned(
    graph: LayeredGraph,
    mask: Mask,
    ranges: Ranges,
    batches: Batches,
    recipe: Recipe = RECIPE,
    *,
    form: str = FORM,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> LayeredGraph:
    """Train a graph as it will be in a configuration.

    Args:
        graph: In fp32; not changed.
        mask: Which layers are int8.
        ranges: Of its activations.
        batches: Gives the images.
        recipe: How to train.
        form: The form of int8 that the device's kernels want.
        progress: Called with (epochs done, epochs).

    Returns:
        The graph with other weights.

    Raises:
        UsageError: It cannot be read as torch.
        TrainingError: The loss is not finite.
    """
    if len({layer.weight for layer in graph.layers}) < len(graph.layers):
        raise UsageError("layers that share weights cannot be trained apart; leave the fine-tuning out")
    top = FORMS[form].top
    model, teacher = differentiable(graph), differentiable(graph).network.requires_grad_(False)
    parameters = [tensor.requires_grad_(True) for module in model.modules for tensor in module.parameters()]
    optimizer = torch.optim.SGD(parameters, recipe.learning_rate, momentum=0.9)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, recipe.epochs)
    with ExitStack() as hooks:
        layers = zip(graph.products(), graph.computed(), model.modules, mask, strict=True)
        for node, result, module, int8 in layers:
            if int8:
                _fake_quantize(module, ranges.limits[node.input[0]], ranges.limits[result], top, hooks)
        for epoch in range(recipe.epochs):
            for images, labels in batches():
                loss = _loss(model.network(images), teacher(images), labels, recipe.distillation)
                if not torch.isfinite(loss):
                    raise TrainingError(f"the loss of epoch {epoch + 1} is not finite; lower the learning rate")
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            schedule.step()
            progress(epoch + 1, recipe.epochs)
    return _written(graph, model.modules)


def _loss(logits: Tensor, taught: Tensor, labels: Tensor, distillation: float) -> Tensor:
    hard = functional.cross_entropy(logits, labels)
    return (1 - distillation) * hard + distillation * functional.cross_entropy(logits, taught.softmax(1))


def _fake_quantize(module: nn.Conv2d | nn.Linear, given: Limits, result: Limits, top: int, hooks: ExitStack) -> None:
    """Make a layer compute as in int8 until ``hooks`` close."""
    parametrize.register_parametrization(module, "weight", _RoundedWeight(top))
    before = module.register_forward_pre_hook(lambda layer, inputs: (_rounded(inputs[0], given),))
    after = module.register_forward_hook(lambda layer, inputs, output: _rounded(output, result))
    hooks.callback(before.remove)
    hooks.callback(after.remove)
    hooks.callback(partial(parametrize.remove_parametrizations, module, "weight", leave_parametrized=False))


class _RoundedWeight(nn.Module):
    """Weights with the output channels first, rounded per channel to ``top`` steps of either sign."""

    def __init__(self, top: int) -> None:
        super().__init__()
        self.top = top

    def forward(self, weight: Tensor) -> Tensor:
        scale = weight.detach().flatten(1).abs().amax(1).clamp(min=1e-30) / self.top
        zeros = torch.zeros(len(weight), dtype=torch.int32)
        return torch.fake_quantize_per_channel_affine(weight, scale, zeros, 0, -self.top, self.top)


def _rounded(x: Tensor, limits: Limits) -> Tensor:
    low, high = min(limits[0], 0.0), max(limits[1], 0.0)
    scale = (high - low) / LEVELS or 1.0
    return torch.fake_quantize_per_tensor_affine(x, scale, round(-low / scale), 0, LEVELS)


def _written(graph: LayeredGraph, modules: Iterable[nn.Conv2d | nn.Linear]) -> LayeredGraph:
    """Return the graph with the modules' weights and biases."""
    model = ModelProto()
    model.CopyFrom(graph.model)
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for node, module in zip(graph.products(), modules, strict=True):
        weight = module.weight.detach().numpy()
        stored = tensors[node.input[1]]
        transposed = node.op_type == "MatMul" or (
            node.op_type == "Gemm" and not any(one.name == "transB" and one.i for one in node.attribute)
        )
        _replace(stored, weight.T if transposed else weight)
        if module.bias is not None:
            _replace(tensors[node.input[2]], module.bias.detach().numpy())
    return LayeredGraph(model, graph.layers, graph.flows)


def _replace(tensor: TensorProto, values: np.ndarray) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(values, np.float32), tensor.name))
