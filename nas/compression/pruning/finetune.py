"""The trainings in NetAdapt: some steps of each proposal, some epochs of what is left at the end."""

import contextlib
import math
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor, nn

from nas.compression.pruning.plan import PruningPlan
from nas.compression.pruning.task import Task
from nas.errors import TrainingError


@contextlib.contextmanager
def randomness(*numbers: int) -> Iterator[torch.Generator]:
    """Yield a generator that follows from ``numbers`` alone; so does what torch draws in the block, as dropout does."""
    seed = int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0] >> np.uint64(1))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        yield torch.Generator().manual_seed(seed)


def short_training(network: nn.Module, task: Task, plan: PruningPlan, seeds: Sequence[int]) -> nn.Module:
    """Train a proposal, in place, for the plan's few steps."""
    optimizer = _begin(network, plan, plan.short_rate)
    with randomness(*seeds) as generator:
        for _ in range(plan.short_steps):
            _step(network, optimizer, task, *task.batch(plan.batch_size, generator))
    return network.eval()


def train_epoch(
    network: nn.Module, task: Task, plan: PruningPlan, epoch: int, seeds: Sequence[int], momenta: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Train a network, in place, for one of the plan's epochs.

    Args:
        network: What is left.
        task: Its data.
        plan: Its numbers.
        epoch: From 0; the learning rate follows from it.
        seeds: What the epoch's draws follow from.
        momenta: Of each parameter, as the epoch before returned them; empty at first.

    Returns:
        The momenta.
    """
    optimizer = _begin(network, plan, plan.long_rate)
    parameters = dict(network.named_parameters())
    for name, value in momenta.items():
        optimizer.state[parameters[name]]["momentum_buffer"] = value.clone()
    with randomness(*seeds) as generator:
        order = torch.randperm(len(task.train.images), generator=generator)
        batches = [rows for rows in order.split(plan.batch_size) if len(rows) > 1]  # batch norms need two images
        for number, rows in enumerate(batches):
            done = (epoch + number / len(batches)) / plan.long_epochs
            optimizer.param_groups[0]["lr"] = plan.long_rate * 0.5 * (1 + math.cos(math.pi * done))
            _step(network, optimizer, task, *task.training_batch(rows, generator))
    network.eval()
    states = {name: optimizer.state[value].get("momentum_buffer") for name, value in parameters.items()}
    return {name: value for name, value in states.items() if value is not None}


def gradients(network: nn.Module, task: Task, plan: PruningPlan, seeds: Sequence[int]) -> None:
    """Give a network, in evaluation mode, the gradients of its loss over some training batches.

    Zeros for what takes no part in the outputs.
    """
    network.requires_grad_(True)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    with randomness(*seeds) as generator, torch.enable_grad():
        for _ in range(plan.importance_batches):
            images, targets = task.batch(plan.batch_size, generator)
            task.kind.loss(network(images), targets).backward()


def _begin(network: nn.Module, plan: PruningPlan, rate: float) -> torch.optim.Optimizer:
    network.train().to(memory_format=torch.channels_last)
    network.requires_grad_(True)
    return torch.optim.SGD(
        network.parameters(), rate, momentum=plan.momentum, weight_decay=plan.weight_decay, nesterov=plan.momentum > 0
    )


def _step(network: nn.Module, optimizer: torch.optim.Optimizer, task: Task, images: Tensor, targets: Tensor) -> None:
    optimizer.zero_grad()
    loss = task.kind.loss(network(images), targets)
    if not torch.isfinite(loss):
        raise TrainingError("the loss of a fine-tuned network is not finite; give lower learning rates")
    loss.backward()
    optimizer.step()
