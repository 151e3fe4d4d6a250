"""How wide each layer of a network is, and networks of other widths.

Channels are pruned physically: what is left is an ordinary network whose convolutions, linear layers and batch norms
are narrower. Their widths are all that tells it from the one that it was pruned from, and the shapes of its tensors say
them; so a file of weights is enough to build it again.
"""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.errors import FileFormatError

CONVOLUTIONS = (nn.Conv2d, nn.ConvTranspose2d)
_SIZED = (*CONVOLUTIONS, nn.Linear, _BatchNorm)


@dataclass(frozen=True)
class Width:
    """Channels of a layer, in and out; of a batch norm or a depthwise convolution they are equal."""

    inputs: int
    outputs: int


Widths = Mapping[str, Width]
"""By the layers' paths."""


def is_depthwise(layer: nn.Module) -> bool:
    """Whether a layer is a convolution of one filter a channel."""
    return isinstance(layer, CONVOLUTIONS) and layer.groups == layer.in_channels == layer.out_channels > 1


def widths_of(network: nn.Module) -> dict[str, Width]:
    """Return the widths of the convolutions, linear layers and batch norms of a network."""
    found = {}
    for path, layer in network.named_modules():
        if isinstance(layer, CONVOLUTIONS):
            found[path] = Width(layer.in_channels, layer.out_channels)
        elif isinstance(layer, nn.Linear):
            found[path] = Width(layer.in_features, layer.out_features)
        elif isinstance(layer, _BatchNorm):
            found[path] = Width(layer.num_features, layer.num_features)
    return found


def load_widths(network: nn.Module, tensors: Mapping[str, Tensor], path: Path) -> None:
    """Load ``tensors`` into ``network``, in place, whose layers take their widths.

    Raises:
        FileFormatError: A tensor is missing, unknown, not finite, or of a shape that no width of its layer gives; the
            message names it and ``path``.
    """
    expected = network.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected:
            raise FileFormatError(f"{path}: tensor {name} is {'missing' if name in expected else 'unknown'}")
        if not torch.isfinite(tensors[name]).all():
            raise FileFormatError(f"{path}: tensor {name} holds NaN or infinity")
    for place, layer in network.named_modules():
        if isinstance(layer, _SIZED):
            prefix = f"{place}." if place else ""
            _resize(layer, {name: tensors[f"{prefix}{name}"] for name in layer.state_dict()})
    for name, tensor in network.state_dict().items():
        if tensor.shape != tensors[name].shape:
            raise FileFormatError(
                f"{path}: tensor {name} has shape {tuple(tensors[name].shape)}; allowed: {tuple(tensor.shape)}"
            )
    network.load_state_dict(dict(tensors))


def narrowed(network: nn.Module, widths: Widths) -> nn.Module:
    """Return a copy of ``network`` at other widths, of the leading channels: its latency is right, its answers are not.

    Args:
        network: Left as it is.
        widths: None wider than what ``network`` has.
    """
    smaller = copy.deepcopy(network)
    for path, layer in smaller.named_modules():
        if path in widths:
            rows, columns = _leading(layer, widths[path])
            outputs = widths[path].outputs
            given = {name: value[:outputs] if value.ndim == 1 else value for name, value in layer.state_dict().items()}
            _resize(layer, {name: value[:rows, :columns] if value.ndim > 1 else value for name, value in given.items()})
    return smaller


def _leading(layer: nn.Module, width: Width) -> tuple[int, int]:
    """Return how much of the first two axes of its weight a layer keeps at another width."""
    if is_depthwise(layer):
        return width.outputs, 1
    if isinstance(layer, nn.ConvTranspose2d):
        return width.inputs, width.outputs // layer.groups
    return width.outputs, width.inputs // (layer.groups if isinstance(layer, nn.Conv2d) else 1)


def _resize(layer: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    """Give a layer parameters and statistics of the shapes of ``tensors``, and the widths that follow from them."""
    depthwise = is_depthwise(layer)
    for name, tensor in tensors.items():
        old = getattr(layer, name)
        if old.ndim != tensor.ndim or old.shape[2:] != tensor.shape[2:]:
            return  # of another kernel: the caller's check of all shapes says so
        if isinstance(old, nn.Parameter):
            setattr(layer, name, nn.Parameter(tensor.clone(), requires_grad=old.requires_grad))
        else:
            setattr(layer, name, tensor.clone())
    if isinstance(layer, nn.Linear):
        layer.out_features, layer.in_features = layer.weight.shape
    elif isinstance(layer, _BatchNorm):
        layer.num_features = len(layer.running_mean if layer.running_mean is not None else layer.weight)
    elif isinstance(layer, CONVOLUTIONS):
        if depthwise:
            layer.groups = len(layer.weight)
        first, second = len(layer.weight), layer.weight.shape[1] * layer.groups
        transposed = isinstance(layer, nn.ConvTranspose2d)
        layer.out_channels, layer.in_channels = (second, first) if transposed else (first, second)
