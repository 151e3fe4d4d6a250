"""Which axes of a metaformer supernet's tensors are one set of channels, and their sorting.

Channels that a stage's blocks add to run through every block of the stage; those inside an MLP through one block.
Tensors are called as in subnets.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from supernets.channel_order import banded_order

MLPS = {"mlp": "mlp.project.conv.weight", "token_mlp": "token_mlp.project.weight"}
"""The MLPs that a block may have, and the tensor that reads the channels inside."""

INSIDE = ("mlp.expand.", "token_mlp.expand.", "attention.qkv.", "attention.biases", "attention.offsets")
"""What of a block the first axis is not the stage's channels of."""

READERS = ("mlp.expand.conv.weight", "token_mlp.expand.weight", "attention.qkv.weight")
"""What of a block reads the stage's channels, by its second axis."""

Axis = tuple[str, int]  # a tensor's name and one of its axes


@dataclass(frozen=True)
class Channels:
    """The axes that one set of channels has: of tensors that write or scale them, and of tensors that read them."""

    written: tuple[Axis, ...]
    read: tuple[Axis, ...]


def mlps_of(tensors: Mapping[str, Tensor], stage: int) -> Iterator[Channels]:
    """Yield the channels inside each MLP of a stage."""
    for block, names in _blocks(tensors, stage).items():
        for mlp, reader in MLPS.items():
            written = tuple((f"{block}.{name}", 0) for name in names if name.startswith(f"{mlp}.expand."))
            if written:
                yield Channels(written, ((f"{block}.{reader}", 1),))


def stream_of(tensors: Mapping[str, Tensor], stage: int, stages: int) -> Channels:
    """Return the channels that the blocks of a stage add to."""
    written, read = [], []
    for block, names in _blocks(tensors, stage).items():
        written += [(f"{block}.{name}", 0) for name in names if not name.startswith(INSIDE)]
        read += [(f"{block}.{name}", 1) for name in names if name in READERS]
    if stage == 0:
        written += [(name, 0) for name in _per_channel(tensors, "stem.second.")]
    if stage == stages - 1:
        written += [(name, 0) for name in _per_channel(tensors, "head.norm.")]
        read.append(("head.classifier.weight", 1))
    else:
        read.append((f"blocks.block_{stage + 1}_0.embed.conv.weight", 1))
    return Channels(tuple(written), tuple(read))


@torch.no_grad()
def sort(tensors: Mapping[str, Tensor], channels: Channels, bounds: Sequence[int]) -> None:
    """Order channels by the L1 norm of the weights that read them, the largest first, none across one of ``bounds``."""
    importance = sum(tensors[name].abs().transpose(0, axis).flatten(1).sum(1) for name, axis in channels.read)
    assert isinstance(importance, Tensor)
    order = banded_order(importance, list(bounds))
    for name, axis in (*channels.written, *channels.read):
        tensors[name].copy_(tensors[name].index_select(axis, order))


def _blocks(tensors: Mapping[str, Tensor], stage: int) -> dict[str, list[str]]:
    """Return the paths of a stage's blocks to the names of their tensors, without that path."""
    blocks: dict[str, list[str]] = {}
    for name in _per_channel(tensors, f"blocks.block_{stage}_"):
        parts = name.split(".", 2)
        blocks.setdefault(".".join(parts[:2]), []).append(parts[2])
    return blocks


def _per_channel(tensors: Mapping[str, Tensor], prefix: str) -> list[str]:
    """Return the names that begin with ``prefix``, but for scalars, such as a batch norm's count of batches."""
    return [name for name, tensor in tensors.items() if name.startswith(prefix) and tensor.ndim]
