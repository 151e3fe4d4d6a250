"""Layers with parameters, and poolings.

What follows a convolution or a linear layer and only scales its channels is folded into its weights: batch
normalisation, and a product with a constant, such as the layer scale of a residual branch.
"""

import operator
from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from supernets.graph.writer import Writer


def _conv(writer: Writer, node: fx.Node, module: nn.Conv2d) -> None:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise writer.unsupported(node, f"Conv2d with padding={module.padding!r}, mode {module.padding_mode!r}")
    weight, bias, folded = module.weight, module.bias, []
    norm = _norm_after(writer, node)
    if norm is not None:
        weight, bias = _fold(weight, bias, writer.modules[str(norm.target)])
        folded.append(norm)
    weight, bias, scale = _fold_scale(writer, norm or node, weight, bias, (len(weight), 1, 1))
    name = writer.emit(
        node,
        "Conv",
        [writer.value(node), *_parameters(writer, node, weight, bias)],
        kernel_shape=module.kernel_size,
        strides=module.stride,
        pads=[*module.padding, *module.padding],
        dilations=module.dilation,
        group=module.groups,
    )
    writer.names.update(dict.fromkeys([*folded, *scale], name))


def _norm_after(writer: Writer, node: fx.Node) -> fx.Node | None:
    """Return the batch normalisation that alone uses the output of ``node``, if there is one."""
    user = writer.only_user(node)
    if user is not None and user.op == "call_module":
        module = writer.modules[str(user.target)]
        if type(module) is nn.BatchNorm2d and module.track_running_stats:
            return user
    return None


def _fold_scale(
    writer: Writer, node: fx.Node, weight: torch.Tensor, bias: torch.Tensor | None, shape: tuple[int, ...]
) -> tuple[torch.Tensor, torch.Tensor | None, list[fx.Node]]:
    """Return weight and bias times the constant of ``shape`` that alone multiplies ``node``, and that product's node.

    Where there is no such product they are as they were, and the list of nodes is empty.
    """
    user = writer.only_user(node)
    if user is None or user.target is not operator.mul:
        return weight, bias, []
    factors = [writer.constants[value] for value in user.all_input_nodes if value in writer.constants]
    if not factors or factors[0].shape != shape:
        return weight, bias, []
    scale = factors[0].flatten()
    scaled = weight * scale.view(-1, *[1] * (weight.ndim - 1))
    return scaled, None if bias is None else bias * scale, [user]


def _fold(weight: torch.Tensor, bias: torch.Tensor | None, norm: nn.Module) -> tuple[torch.Tensor, torch.Tensor]:
    """Return weight (out, in, k, k) and bias (out,) of the convolution that computes conv and norm at once."""
    assert isinstance(norm, nn.BatchNorm2d) and norm.running_mean is not None and norm.running_var is not None
    scale = (norm.running_var + norm.eps).rsqrt()
    shift = -norm.running_mean if bias is None else bias - norm.running_mean
    if norm.affine:
        scale = scale * norm.weight
        return weight * scale.view(-1, 1, 1, 1), norm.bias + shift * scale
    return weight * scale.view(-1, 1, 1, 1), shift * scale


def _parameters(writer: Writer, node: fx.Node, weight: torch.Tensor, bias: torch.Tensor | None) -> list[str]:
    path = str(node.target)
    names = [writer.parameter(f"{path}.weight", weight)]
    return names if bias is None else [*names, writer.parameter(f"{path}.bias", bias)]


def _linear(writer: Writer, node: fx.Node, module: nn.Linear) -> None:
    weight, bias, scale = _fold_scale(writer, node, module.weight, module.bias, (len(module.weight),))
    name = writer.emit(node, "Gemm", [writer.value(node), *_parameters(writer, node, weight, bias)], transB=1)
    writer.names.update(dict.fromkeys(scale, name))


def _layer_norm(writer: Writer, node: fx.Node, module: nn.LayerNorm) -> None:
    if not module.elementwise_affine:
        raise writer.unsupported(node, "LayerNorm without weights")
    inputs = [writer.value(node), *_parameters(writer, node, module.weight, module.bias)]
    writer.emit(node, "LayerNormalization", inputs, axis=-len(module.normalized_shape), epsilon=module.eps)


def _global_pool(writer: Writer, node: fx.Node, module: nn.AdaptiveAvgPool2d | None = None) -> None:
    size = module.output_size if module is not None else node.args[1] if len(node.args) > 1 else None
    if size not in (1, (1, 1), [1, 1]):
        raise writer.unsupported(node, f"adaptive average pooling to {size}")
    writer.emit(node, "GlobalAveragePool", [writer.value(node)])


def _max_pool(writer: Writer, node: fx.Node, module: nn.MaxPool2d) -> None:
    if module.return_indices:
        raise writer.unsupported(node, "MaxPool2d with return_indices")
    writer.emit(node, "MaxPool", [writer.value(node)], **_window(module), dilations=_pair(module.dilation))


def _average_pool(writer: Writer, node: fx.Node, module: nn.AvgPool2d) -> None:
    if module.divisor_override is not None:
        raise writer.unsupported(node, "AvgPool2d with divisor_override")
    count = int(module.count_include_pad)
    writer.emit(node, "AveragePool", [writer.value(node)], **_window(module), count_include_pad=count)


def _window(module: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, Any]:
    """Return the ONNX attributes of a pooling's window."""
    return {
        "kernel_shape": _pair(module.kernel_size),
        "strides": _pair(module.stride),
        "pads": _pair(module.padding) * 2,
        "ceil_mode": int(module.ceil_mode),
    }


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else [*size]


LAYERS: dict[Any, Callable[..., None]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.LayerNorm: _layer_norm,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _global_pool,
    functional.adaptive_avg_pool2d: _global_pool,
}
"""How each is written, by what ``torch.fx`` calls it."""
