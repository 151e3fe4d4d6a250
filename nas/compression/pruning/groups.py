"""Which channels of a network go together, which matter least, and the network without them.

A filter that goes takes with it its batch norm, what reads it, and whatever is added to it elsewhere: torch-pruning's
dependency graph (Fang et al., "DepGraph", CVPR 2023) finds these groups and cuts them out physically.
"""

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm

from nas.compression.widths import CONVOLUTIONS, Width, Widths, is_depthwise, narrowed, widths_of
from nas.errors import UsageError
from nas.registry import unknown_name

IMPORTANCES = {
    "magnitude": "sum of absolute weights, over all layers of a group",
    "l2": "sum of squared weights, likewise",
    "taylor": "weight times gradient: how much the loss would change",
}


@dataclass(frozen=True)
class PruningGroup:
    """Channels that go together.

    Attributes:
        root: The path of the first layer whose filters they are.
        channels: How many there are.
        inputs: How many inputs each layer loses with one of them.
        outputs: How many outputs likewise.
    """

    root: str
    channels: int
    inputs: Mapping[str, float]
    outputs: Mapping[str, float]

    def without(self, widths: Widths, removed: int) -> dict[str, Width]:
        """Return ``widths`` after ``removed`` of the channels are gone."""
        changed = dict(widths)
        for path in self.inputs.keys() | self.outputs.keys():
            fewer_in, fewer_out = (round(removed * lost.get(path, 0)) for lost in (self.inputs, self.outputs))
            changed[path] = Width(changed[path].inputs - fewer_in, changed[path].outputs - fewer_out)
        return changed

    def counts(self, widths: Widths, round_to: int) -> list[int]:
        """Return how many channels may be left of those that there are: multiples of ``round_to``, descending."""
        return list(range((widths[self.root].outputs - 1) // round_to * round_to, 0, -round_to))


def find_groups(network: nn.Module, image: Tensor) -> list[PruningGroup]:
    """Return the groups of a network, in the order of its layers.

    Left out are those that the outputs are made of, and those of grouped convolutions that are not depthwise.

    Args:
        network: In evaluation mode; left as it is.
        image: One as it takes them, ``(1, c, h, w)``.

    Raises:
        UsageError: torch-pruning is not installed, cannot trace the network, or finds nothing to prune.
    """
    widths, paths = widths_of(network), [path for path, _ in network.named_modules()]
    found = [group for group, _ in _groups(network, image) if _leaves_outputs(network, group, widths, image)]
    if not found:
        raise UsageError("the model has no channels that can be pruned; allowed: networks of convolutions")
    return sorted(found, key=lambda group: paths.index(group.root))


def rank_channels(network: nn.Module, image: Tensor, importance: str) -> dict[str, list[int]]:
    """Return for each layer that is a root its channels, the least important first.

    Args:
        network: With gradients, where the importance is Taylor's.
        image: One as it takes them.
        importance: Of ``IMPORTANCES``.
    """
    from torch_pruning import importance as importances

    makers = {
        "magnitude": lambda: importances.GroupMagnitudeImportance(p=1),
        "l2": lambda: importances.GroupMagnitudeImportance(p=2),
        "taylor": importances.GroupTaylorImportance,
    }
    if importance not in makers:
        raise unknown_name("importance", importance, IMPORTANCES)
    score = makers[importance]()
    return {group.root: torch.argsort(score(found), stable=True).tolist() for group, found in _groups(network, image)}


def cut(network: nn.Module, image: Tensor, root: str, channels: Sequence[int]) -> nn.Module:
    """Return a copy of ``network`` without these channels of the layer ``root`` and all that goes with them."""
    import torch_pruning

    smaller = copy.deepcopy(network)
    layer = smaller.get_submodule(root)
    group = _graph(smaller, image).get_pruning_group(layer, torch_pruning.prune_conv_out_channels, list(channels))
    group.prune()
    return smaller


def _groups(network: nn.Module, image: Tensor) -> Iterator[tuple[PruningGroup, Any]]:
    """Yield the groups that ours can describe, each with torch-pruning's own."""
    paths, modules = zip(*network.named_modules(), strict=True)
    order = {module: number for number, module in enumerate(modules)}
    for found in _graph(network, image).get_all_groups(root_module_types=list(CONVOLUTIONS)):
        group = _describe(found, order, paths)
        if group is not None:
            yield group, found


def _graph(network: nn.Module, image: Tensor) -> Any:
    try:
        import torch_pruning
    except ImportError as error:
        raise UsageError(f"pruning needs torch-pruning ({error}); install it: pip install torch-pruning") from error
    try:
        with torch.enable_grad():
            return torch_pruning.DependencyGraph().build_dependency(network, image, verbose=False)
    except Exception as error:  # the network's own code runs in it, and may raise anything
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise UsageError(
            f"the model cannot be traced for pruning: {reason}; allowed: networks of convolutions, of one tensor"
        ) from error


def _describe(group: Any, order: Mapping[nn.Module, int], paths: Sequence[str]) -> PruningGroup | None:
    """Return a group of torch-pruning's as ours; None where it holds a layer that ours does not narrow."""
    total, inputs, outputs = len(group[0].idxs), {}, {}
    roots = []
    for dependency, indices in group:
        layer = dependency.target.module
        if layer not in order or next(layer.parameters(recurse=False), None) is None:
            continue  # an addition or the like
        grouped = isinstance(layer, CONVOLUTIONS) and layer.groups > 1 and not is_depthwise(layer)
        if grouped or not isinstance(layer, _NARROWED):
            return None
        path, ratio, out = paths[order[layer]], len(indices) / total, "out_channels" in dependency.handler.__name__
        coupled = is_depthwise(layer) or isinstance(layer, _BatchNorm)
        if coupled or not out:
            inputs[path] = ratio
        if coupled or out:
            outputs[path] = ratio
        if out and isinstance(layer, CONVOLUTIONS) and list(indices) == list(range(total)):
            roots.append((coupled, order[layer], path))
    return PruningGroup(min(roots)[-1], total, inputs, outputs) if roots else None


_NARROWED = (*CONVOLUTIONS, nn.Linear, _BatchNorm)


@torch.no_grad()
def _leaves_outputs(network: nn.Module, group: PruningGroup, widths: Widths, image: Tensor) -> bool:
    """Whether the network without one channel of the group runs and has outputs of the same shape."""
    if group.channels < 2:
        return False
    try:
        return narrowed(network, group.without(widths, 1))(image).shape == network(image).shape
    except RuntimeError:  # shapes that do not fit each other
        return False
