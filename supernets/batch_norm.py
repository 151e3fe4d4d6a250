"""Batch norm statistics of one subnet, measured anew: without this a subnet's accuracy can be near chance.

Each batch norm must see a whole batch of images, but nothing else must. On a processor the layers between two of them
therefore run on a few images at a time, whose activations stay in the cache, and the statistics of these chunks are
joined into those of the batch, with the same result to rounding.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, fx, nn
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import update_bn

CHUNK_PIXELS = 2**18  # of the images that run at a time: 16 at 128 pixels
Moments = tuple[Tensor, Tensor]
"""Mean and biased variance of each channel."""


@torch.no_grad()
def recalibrate_batch_norm(model: nn.Module, images: Tensor | Iterable[Tensor], batch_size: int = 200) -> None:
    """Replace the running statistics by the mean over batches of ``images``, in place (OFA: 2,000 images, batch 200).

    Not for several threads at once: ``torch.fx`` traces what any of them runs. A network whose batch norms a trace does
    not meet once each, as layers, is run by torch's ``update_bn``, in which dropout drops.

    Args:
        model: A network with batch norms; left in the mode it was in.
        images: Preprocessed training images ``(n, c, h, w)``; a last batch that is not full is left out if others are.
            Or an iterable of batches, each of which counts.
        batch_size: Images a batch, where they are one tensor.
    """
    batches = images
    if isinstance(images, Tensor):
        batches = images.split(batch_size)
        if len(batches) > 1 and len(batches[-1]) < batch_size:
            batches = batches[:-1]
    mode = model.training
    model.eval()
    try:
        trace = _trace(model)
        if trace is None:
            update_bn(batches, model)
        else:
            trace.recalibrate(batches)
    finally:
        model.train(mode)


def _trace(model: nn.Module) -> "_Trace | None":
    """Return the steps of a network of one input that meets each of its batch norms once, as a layer; else None."""
    try:
        trace = _Trace(model)
    except fx.proxy.TraceError:  # its path depends on the data
        return None
    own = [module for module in model.modules() if isinstance(module, _BatchNorm) and module.track_running_stats]
    met = [norm for norm in map(trace.norm, trace.nodes) if norm is not None]
    return trace if trace.inputs == 1 and len(met) == len(own) and set(met) == set(own) else None


class _Trace:
    """The steps of a network up to its last batch norm."""

    def __init__(self, model: nn.Module):
        nodes = list(fx.Tracer().trace(model).nodes)
        self.modules = dict(model.named_modules())
        self.model = model
        norms = [number for number, node in enumerate(nodes) if self.norm(node) is not None]
        self.image = nodes[0]
        self.inputs = sum(node.op == "placeholder" for node in nodes)
        self.nodes = nodes[1 : norms[-1] + 1] if norms else []
        self.read_last = _read_last(self.nodes)

    def recalibrate(self, batches: Iterable[Tensor]) -> None:
        """Give every batch norm the mean over batches of its input's mean and unbiased variance."""
        found: dict[_BatchNorm, list[Moments]] = defaultdict(list)
        for batch in batches:
            chunk = max(1, CHUNK_PIXELS // batch[0, 0].numel()) if batch.device.type == "cpu" else len(batch)
            for norm, moments in self._moments(batch.split(chunk)):
                found[norm].append(moments)
        for norm, every in found.items():
            assert norm.running_mean is not None and norm.running_var is not None
            assert norm.num_batches_tracked is not None
            norm.running_mean.copy_(torch.stack([mean for mean, _ in every]).mean(0))
            norm.running_var.copy_(torch.stack([variance for _, variance in every]).mean(0))
            norm.num_batches_tracked.fill_(len(every))

    def _moments(self, chunks: Sequence[Tensor]) -> Iterable[tuple[_BatchNorm, Moments]]:
        """Run one batch, given in chunks; yield each batch norm with mean and unbiased variance over the batch."""
        values: list[dict[fx.Node, Any]] = [{self.image: chunk} for chunk in chunks]
        joined: dict[fx.Node, Moments] = {}
        segment: list[fx.Node] = []
        for node in self.nodes:
            norm = self.norm(node)
            if norm is not None:
                source = node.args[0]
                assert isinstance(source, fx.Node)
                parts = [self._advance(segment, known, joined)[source] for known in values]
                count = sum(part.numel() for part in parts) // parts[0].shape[1]
                mean, variance = joined[node] = _join([_moments_of(part) for part in parts], parts)
                yield norm, (mean, variance * (count / max(1, count - 1)))
                segment = []
            segment.append(node)

    def _advance(
        self, segment: Iterable[fx.Node], known: dict[fx.Node, Any], joined: Mapping[fx.Node, Moments]
    ) -> dict[fx.Node, Any]:
        """Add the values of a segment's nodes to those ``known`` of a chunk, and drop what nothing reads any more."""
        for node in segment:
            args, kwargs = fx.map_arg((node.args, node.kwargs), known.__getitem__)
            known[node] = self._value(node, args, kwargs, joined)
            for read in self.read_last[node]:
                del known[read]
        return known

    def _value(
        self, node: fx.Node, args: tuple[Any, ...], kwargs: dict[str, Any], joined: Mapping[fx.Node, Moments]
    ) -> Any:
        """Compute what one traced node stands for."""
        norm, target = self.norm(node), node.target
        if norm is not None:
            return F.batch_norm(args[0], *joined[node], norm.weight, norm.bias, False, 0.0, norm.eps)
        if node.op == "call_module":
            return self.modules[str(target)](*args, **kwargs)
        if node.op == "call_method":
            return getattr(args[0], str(target))(*args[1:], **kwargs)
        if node.op == "get_attr":
            owner, _, name = str(target).rpartition(".")
            return getattr(self.modules[owner], name)
        assert callable(target)
        return target(*args, **kwargs)

    def norm(self, node: fx.Node) -> _BatchNorm | None:
        """Return the batch norm that a node runs, if it runs one."""
        module = self.modules.get(str(node.target)) if node.op == "call_module" else None
        return module if isinstance(module, _BatchNorm) and module.track_running_stats else None


def _read_last(nodes: Sequence[fx.Node]) -> dict[fx.Node, list[fx.Node]]:
    """Return for each node those whose values no later one reads."""
    seen: set[fx.Node] = set()
    last: dict[fx.Node, list[fx.Node]] = {}
    for node in reversed(nodes):
        last[node] = [read for read in node.all_input_nodes if read not in seen]
        seen.update(node.all_input_nodes)
    return last


def _moments_of(x: Tensor) -> Moments:
    mean, variance = torch.batch_norm_update_stats(x, None, None, 0.0)
    return mean, variance


def _join(moments: Sequence[Moments], parts: Sequence[Tensor]) -> Moments:
    """Return mean and variance over all ``parts`` from those of each."""
    weights = torch.tensor([len(part) for part in parts], dtype=torch.float32, device=parts[0].device)
    weights = (weights / weights.sum())[:, None]
    means = torch.stack([mean for mean, _ in moments])
    mean = (weights * means).sum(0)
    variances = torch.stack([variance for _, variance in moments])
    return mean, (weights * (variances + (means - mean).square())).sum(0)
