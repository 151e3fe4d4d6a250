"""Convolutions with the batch normalisation after them, poolings and linear layers."""

from collections.abc import Callable
from typing import Any

import torch
from torch import fx, nn
from torch.nn import functional

from supernets.graph.writer import Writer


def _conv(writer: Writer, node: fx.Node, module: nn.Conv2d) -> None:
    if isinstance(module.padding, str) or module.padding_mode != "zeros":
        raise writer.unsupported(node, f"Conv2d with padding={module.padding!r}, mode {module.padding_mode!r}")
    weight, bias = module.weight, module.bias
    norm = _norm_after(writer, node)
    if norm is not None:
        weight, bias = _fold(weight, bias, writer.modules[str(norm.target)])
    inputs = [writer.value(node), *_parameters(writer, node, weight, bias)]
    name = writer.emit(
        node,
        "Conv",
        inputs,
        kernel_shape=module.kernel_size,
        strides=module.stride,
        pads=[*module.padding, *module.padding],
        dilations=module.dilation,
        group=module.groups,
    )
    if norm is not None:
        writer.names[norm] = name


def _norm_after(writer: Writer, node: fx.Node) -> fx.Node | None:
    """Return the batch normalisation that alone uses the output of ``node``, if there is one."""
    users = list(node.users)
    if len(users) == 1 and users[0].op == "call_module":
        module = writer.modules[str(users[0].target)]
        if type(module) is nn.BatchNorm2d and module.track_running_stats:
            return users[0]
    return None


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
    writer.emit(node, "Gemm", [writer.value(node), *_parameters(writer, node, module.weight, module.bias)], transB=1)


def _global_pool(writer: Writer, node: fx.Node, module: nn.AdaptiveAvgPool2d | None = None) -> None:
    size = module.output_size if module is not None else node.args[1] if len(node.args) > 1 else None
    if size not in (1, (1, 1), [1, 1]):
        raise writer.unsupported(node, f"adaptive average pooling to {size}")
    writer.emit(node, "GlobalAveragePool", [writer.value(node)])


def _max_pool(writer: Writer, node: fx.Node, module: nn.MaxPool2d) -> None:
    if module.ceil_mode or module.return_indices:
        raise writer.unsupported(node, "MaxPool2d with ceil_mode or return_indices")
    writer.emit(node, "MaxPool", [writer.value(node)], **_window(module), dilations=_pair(module.dilation))


def _average_pool(writer: Writer, node: fx.Node, module: nn.AvgPool2d) -> None:
    if module.ceil_mode or module.divisor_override is not None:
        raise writer.unsupported(node, "AvgPool2d with ceil_mode or divisor_override")
    count = int(module.count_include_pad)
    writer.emit(node, "AveragePool", [writer.value(node)], **_window(module), count_include_pad=count)


def _window(module: nn.MaxPool2d | nn.AvgPool2d) -> dict[str, list[int]]:
    """Return the ONNX attributes of a pooling's window."""
    return {
        "kernel_shape": _pair(module.kernel_size),
        "strides": _pair(module.stride),
        "pads": _pair(module.padding) * 2,
    }


def _pair(size: int | tuple[int, ...]) -> list[int]:
    return [size, size] if isinstance(size, int) else [*size]


CONVOLUTIONS: dict[Any, Callable[..., None]] = {
    nn.Conv2d: _conv,
    nn.Linear: _linear,
    nn.MaxPool2d: _max_pool,
    nn.AvgPool2d: _average_pool,
    nn.AdaptiveAvgPool2d: _global_pool,
    functional.adaptive_avg_pool2d: _global_pool,
}
"""How each is written, by what ``torch.fx`` calls it."""
