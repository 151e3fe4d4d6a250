"""What a network's loss says of its layers' weights and activations: Hessian traces and Fisher information.

The network is the fp32 graph read back as torch, so that the weights are those that are quantized, batch norms folded.
Hutchinson's estimator (Yao et al., 2020, as HAWQ-V2 takes it): with Rademacher v, E[v'Hv] is the trace; one product Hv
over all layers serves each of them, since what different layers contribute to each other's has mean 0. The Fisher
information (FIT, Zandonati et al., 2022) is the mean square of gradients of single images.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from nas.compression.layers import LayeredGraph
from nas.errors import UsageError
from supernets.graph.reader import from_onnx

Floats = NDArray[np.float64]

CHUNK = 8
"""Images behind one probe."""
LEAST_PROBES, PROBES, TOLERANCE = 8, 64, 0.1


@dataclass(frozen=True, eq=False)
class Differentiable:
    """A graph as torch, and the modules of its layers in their order."""

    network: nn.Module
    modules: tuple[nn.Conv2d | nn.Linear, ...]

    @property
    def weights(self) -> list[Tensor]:
        """Their weights."""
        return [module.weight for module in self.modules]


def hard_sigmoid(x: Tensor) -> Tensor:
    """Return what torch's own does, which cannot be differentiated twice."""
    return functional.relu6(x + 3) / 6


_TWICE: dict[object, object] = {functional.hardsigmoid: hard_sigmoid}


def differentiable(graph: LayeredGraph) -> Differentiable:
    """Return a graph as torch.

    Raises:
        UsageError: It has an operator that is not read as torch.
    """
    network = from_onnx(graph.model)
    for node in network.graph.nodes:
        node.target = _TWICE.get(node.target, node.target)
    network.recompile()
    modules = tuple(module for module in network.modules() if isinstance(module, nn.Conv2d | nn.Linear))
    if len(modules) != len(graph.layers):
        raise UsageError(f"{len(modules)} of {len(graph.layers)} layers can be read as torch")
    network.requires_grad_(False)
    for module in modules:
        module.weight.requires_grad_(True)
    return Differentiable(network, modules)


def hessian_traces(
    model: Differentiable,
    images: Tensor,
    labels: Tensor,
    *,
    rng: torch.Generator,
    probes: int = PROBES,
    tolerance: float = TOLERANCE,
) -> Floats:
    """Estimate the trace of the Hessian of the mean loss in each layer's weights, ``(layers,)``.

    Args:
        model: The network, in evaluation mode.
        images: ``(n, channels, side, side)``; each probe takes a chunk of them.
        labels: ``(n,)``.
        rng: Draws the probes.
        probes: At most so many.
        tolerance: No more are drawn once the layers' standard errors sum to this part of the sum of their traces, by
            absolute values: means of either sign must not stop it early (nncf issue 2155).
    """
    count = max(1, len(images) // CHUNK)
    chunks = list(zip(images.tensor_split(count), labels.tensor_split(count), strict=True))
    found: list[list[float]] = []
    for number in range(probes):
        pictures, answers = chunks[number % count]
        loss = functional.cross_entropy(model.network(pictures), answers)
        gradients = torch.autograd.grad(loss, model.weights, create_graph=True)
        signs = [_rademacher(weight, rng) for weight in model.weights]
        products = torch.autograd.grad(gradients, model.weights, grad_outputs=signs, allow_unused=True)
        found.append([0.0 if hv is None else float((v * hv).sum()) for v, hv in zip(signs, products, strict=True)])
        samples = np.array(found)
        if len(found) >= max(LEAST_PROBES, count):
            errors = samples.std(axis=0, ddof=1) / np.sqrt(len(found))
            if errors.sum() <= tolerance * np.abs(samples.mean(axis=0)).sum():
                break
    traces: Floats = samples.mean(axis=0)
    return traces


def _rademacher(weight: Tensor, rng: torch.Generator) -> Tensor:
    return torch.randint(0, 2, weight.shape, generator=rng).to(weight.dtype).mul_(2).sub_(1)


@dataclass(frozen=True, eq=False)
class Fisher:
    """Traces of the empirical Fisher information in weights, in what layers read, in what they compute."""

    weights: Floats
    inputs: Floats
    outputs: Floats


def fisher_traces(model: Differentiable, images: Tensor, labels: Tensor) -> Fisher:
    """Return the mean over images of squared gradients of each image's own loss."""
    kept: list[tuple[Tensor, Tensor]] = []

    def keep(module: nn.Module, given: tuple[Tensor, ...], result: Tensor) -> None:
        kept.append((given[0], result))

    hooks = [module.register_forward_hook(keep) for module in model.modules]
    total = np.zeros((3, len(model.modules)))
    try:
        for image, label in zip(images.split(1), labels.split(1), strict=True):
            kept.clear()
            loss = functional.cross_entropy(model.network(image.clone().requires_grad_(True)), label)
            inputs, outputs = zip(*kept, strict=True)
            total += _squares(loss, model.weights, inputs, outputs)
    finally:
        for hook in hooks:
            hook.remove()
    return Fisher(*(total / len(images)))


def _squares(loss: Tensor, weights: Sequence[Tensor], inputs: Sequence[Tensor], outputs: Sequence[Tensor]) -> Floats:
    gradients = torch.autograd.grad(loss, [*weights, *inputs, *outputs], allow_unused=True)
    sums = [0.0 if gradient is None else float(gradient.square().sum()) for gradient in gradients]
    return np.array(sums).reshape(3, len(weights))
