"""Training in several processes, started by torchrun: every process trains the same subnets on its part of each batch.

Each augments its own part alone, by the draws that one process would have for these images.

The gradients are averaged over the processes before each step, and batch norms take the statistics of the whole batch,
so that N processes compute what one does with the same batch, dropout's draws apart. The gradients of a step are summed
over its subnets and then averaged once, as one flat tensor: torch's DistributedDataParallel averages after every
backward pass, and has to be told which weights each subnet leaves out.
"""

import os
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.nn import functional
from torch.overrides import TorchFunctionMode

from nas.errors import UsageError


@dataclass(frozen=True)
class Group:
    """The processes of one training; ``rank`` is this one's number, from 0."""

    rank: int = 0
    size: int = 1

    @property
    def first(self) -> bool:
        """Whether this is the process that writes and reports."""
        return self.rank == 0

    def part(self, tensor: Tensor) -> Tensor:
        """Return this process's rows of a whole batch."""
        return tensor.chunk(self.size)[self.rank]

    def average(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its mean over the processes."""
        if self.size == 1:
            return
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        flat /= self.size
        for tensor, mean in zip(tensors, flat.split([tensor.numel() for tensor in tensors]), strict=True):
            tensor.copy_(mean.view(tensor.shape))

    def wait(self) -> None:
        """Wait until every process is here."""
        if self.size > 1:
            dist.barrier()

    def whole_batch_norms(self) -> AbstractContextManager[Any]:
        """Return the context in which training batch norms take the statistics of the whole batch."""
        return _WholeBatchNorms() if self.size > 1 else nullcontext()


ALONE = Group()


@contextmanager
def process_group(device: str) -> Iterator[tuple[Group, str]]:
    """Join the processes that torchrun started; yield them and this process's torch device.

    Args:
        device: ``cpu`` (gloo) or ``cuda`` (NCCL, one GPU a process).

    Raises:
        UsageError: There are several processes, and ``device`` names one GPU or there are too few.
    """
    given = [os.environ.get(name, default) for name, default in (("WORLD_SIZE", "1"), ("LOCAL_RANK", ""))]
    if given[0] == "1":
        yield ALONE, device
        return
    if not all(value.isdigit() for value in given):
        raise UsageError(f"WORLD_SIZE is {given[0]!r}, LOCAL_RANK {given[1]!r}; allowed: as torchrun sets them")
    size, local = map(int, given)
    gpu = torch.device(device).type == "cuda"
    if gpu and torch.device(device).index is not None:
        raise UsageError(f"--torch-device {device} with {size} processes; allowed: cpu, or cuda without a number")
    if gpu and local >= torch.cuda.device_count():
        raise UsageError(f"process {local} has no GPU: there are {torch.cuda.device_count()}; start fewer processes")
    dist.init_process_group("nccl" if gpu else "gloo")
    try:
        yield Group(dist.get_rank(), size), f"cuda:{local}" if gpu else device
    finally:
        dist.destroy_process_group()


class _WholeBatchNorms(TorchFunctionMode):
    """Computes training batch norms from the batches of all processes.

    torch's SyncBatchNorm knows neither CPUs nor a part of its channels.
    """

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func is functional.batch_norm:
            return _batch_norm(*args, **kwargs)
        return func(*args, **kwargs)


def _batch_norm(
    x: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> Tensor:
    """Do what ``functional.batch_norm`` does, in training over the batches of all processes, each of equal size."""
    if not training:
        return functional.batch_norm(x, running_mean, running_var, weight, bias, False, momentum, eps)
    size, wide = dist.get_world_size(), x.float()
    mean = _mean_over_processes(wide.mean((0, 2, 3)), size)
    centred = wide - mean.view(1, -1, 1, 1)
    variance = _mean_over_processes(centred.square().mean((0, 2, 3)), size)
    if running_mean is not None and running_var is not None:
        count = size * x.numel() // x.shape[1]
        running_mean.lerp_(mean.detach(), momentum)
        running_var.lerp_(variance.detach() * (count / (count - 1)), momentum)
    scale = (variance + eps).rsqrt()
    scale = scale if weight is None else scale * weight
    y = centred * scale.view(1, -1, 1, 1)
    return (y if bias is None else y + bias.view(1, -1, 1, 1)).to(x.dtype)


def _mean_over_processes(tensor: Tensor, size: int) -> Tensor:
    total: Tensor = _Sum.apply(tensor)
    return total / size


class _Sum(torch.autograd.Function):
    """The sum over the processes; each one's loss depends on it, so gradients are summed on the way back."""

    @staticmethod
    def forward(ctx: Any, tensor: Tensor) -> Tensor:
        return _summed(tensor)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return _summed(gradient)


def _summed(tensor: Tensor) -> Tensor:
    total = tensor.clone()
    dist.all_reduce(total)
    return total
