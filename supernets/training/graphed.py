"""Steps that are recorded once and replayed as a CUDA graph: the GPU no longer waits for Python.

A small network's step is some thousand kernels that each take less time than their launch. The shapes of a recording
cannot change, so subnets run at the supernet's full size, ``supernets/gated.py``, and each stage has a recording for
each resolution. The optimizer's step is not in it.
"""

import functools
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from nas.errors import UsageError
from search_spaces import Candidate
from supernets.datasets import ImageSet
from supernets.gated import GatedForward
from supernets.supernet import Supernet
from supernets.training.parallel import Group
from supernets.training.plan import TrainingPlan, TrainingStage
from supernets.training.steps import Net, Steps

WARM_UP = 3  # runs before the recording, in which libraries choose and compile what they launch
Inputs = tuple[Tensor, ...]
Program = Callable[..., Tensor]
"""Gives the weights their gradients and returns the loss, for inputs of always the same shapes."""


def check_graphs(device: torch.device, group: Group) -> None:
    """Check that steps can be recorded.

    Raises:
        UsageError: Several processes train, or not on a GPU.
    """
    if device.type != "cuda" or group.size > 1:
        raise UsageError(f"CUDA graphs in {group.size} process(es) on {device.type}; allowed: one process on cuda")


class Recording:
    """A program's kernels, with the memory that they read and write.

    Args:
        program: What is recorded.
        inputs: Its first arguments.
        module: Holds the weights; their gradients, buffers and random draws are as if nothing had run.
    """

    def __init__(self, program: Program, inputs: Inputs, module: torch.nn.Module):
        self.inputs = [tensor.clone() for tensor in inputs]
        self.parameters = list(module.parameters())
        buffers = [(buffer, buffer.clone()) for buffer in module.buffers()]
        self.graph = torch.cuda.CUDAGraph()
        with torch.random.fork_rng(devices=[inputs[0].device]):
            self._run_aside(program)
            module.zero_grad(set_to_none=True)  # so that the gradients are made within the recording
            with torch.cuda.graph(self.graph):
                self.loss = program(*self.inputs)
        for buffer, value in buffers:
            buffer.copy_(value)
        self.gradients = [parameter.grad for parameter in self.parameters]

    def _run_aside(self, program: Program) -> None:
        """Run the program on another stream than the default one, which must see no work before a recording."""
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                program(*self.inputs)
        torch.cuda.current_stream().wait_stream(stream)

    def replay(self, inputs: Inputs) -> Tensor:
        """Do for ``inputs`` what was recorded; return the loss."""
        for mine, new in zip(self.inputs, inputs, strict=True):
            mine.copy_(new)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients, strict=True):
            parameter.grad = gradient
        return self.loss.clone()


class GraphedSteps(Steps):
    """Steps on one GPU; see the module.

    Args:
        supernet: As of ``Steps``; so are ``images``, ``plan`` and ``only``.
        images: What it learns from.
        plan: Augmentation, label smoothing and clipping.
        only: Train this subnet alone.
        record: What records a step.

    Raises:
        UsageError: Subnets are of another family than mbconv.
    """

    def __init__(
        self,
        supernet: Supernet,
        images: ImageSet,
        plan: TrainingPlan,
        only: Candidate | None,
        record: Callable[[Program, Inputs, Supernet], Recording] = Recording,
    ):
        super().__init__(supernet, images, plan, only)
        self.record = record
        self.gated = None if only else GatedForward(supernet)
        self.stage = ""
        self.recordings: dict[int, Recording] = {}  # by resolution

    def _learn(
        self, images: Tensor, labels: Tensor, candidates: Sequence[Candidate], stage: TrainingStage, teacher: Net | None
    ) -> Tensor:
        if stage.name != self.stage:
            self.stage, self.recordings = stage.name, {}
        gates = self.gated.stack(candidates, self.device) if self.gated else None
        inputs = (images, labels) if gates is None else (images, labels, gates)
        if images.shape[-1] not in self.recordings:
            program = functools.partial(self._program, candidates=candidates, stage=stage, teacher=teacher)
            self.recordings[images.shape[-1]] = self.record(program, inputs, self.supernet)
        return self.recordings[images.shape[-1]].replay(inputs)

    def _program(
        self,
        images: Tensor,
        labels: Tensor,
        gates: Tensor | None = None,
        *,
        candidates: Sequence[Candidate],
        stage: TrainingStage,
        teacher: Net | None,
    ) -> Tensor:
        """Give the weights their gradients, by those that ``gates`` choose, or by the one that is trained alone."""
        if self.gated is None or gates is None:
            return super()._learn(images, labels, candidates, stage, teacher)
        nets = [functools.partial(self.gated, gates=row) for row in gates]
        return self._backward(images, labels, nets, stage, teacher)
