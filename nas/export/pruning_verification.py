"""The whole network and the pruned one as graphs on the device: the same answers as in torch, timed, judged."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from onnx import ModelProto
from torch import Tensor, nn

from latency_tables import FULL, Device, Measurement
from nas.compression import Session
from nas.compression.exported import SESSION_BATCH
from nas.compression.network_graph import network_graph
from nas.compression.pruning import Task
from nas.errors import VerificationError
from supernets.graph import INPUT

IMAGES = 8  # that both answer
LIMIT = 1e-3  # of the largest difference of an output, relative to the largest output


@dataclass(frozen=True, eq=False)
class Verified:
    """A network as it was timed.

    Attributes:
        graph: The file's content.
        latency: By the full protocol, interleaved with the other network.
        validation: The metric of the graph on the device, over the validation images.
        test: Likewise over the test images.
        difference: From torch's outputs, the largest, relative to the largest output.
    """

    graph: ModelProto
    latency: Measurement
    validation: float
    test: float
    difference: float


def verify(
    whole: nn.Module, pruned: nn.Module, task: Task, device: Device, baseline_ms: float | None
) -> dict[str, Verified]:
    """Export, check, time and judge both networks, named ``whole`` and ``pruned``.

    Args:
        whole: The network as it was.
        pruned: What is left of it.
        task: Their data.
        device: What they are for.
        baseline_ms: As in ``Device.measure_many``: so that latencies compare to those that pruning went by.

    Raises:
        UsageError: A network does not export.
        VerificationError: A graph does not compute what its network does.
        DeviceError: The device refuses a graph.
    """
    networks = {"whole": whole, "pruned": pruned}
    image = torch.zeros(1, task.channels, task.resolution, task.resolution)
    graphs = {name: network_graph(network, image, f"the {name} network") for name, network in networks.items()}
    models = {name: graph.SerializeToString() for name, graph in graphs.items()}
    sessions = {name: _runner(device.session(model)) for name, model in models.items()}
    images = task.prepared(task.validation.images[:IMAGES])
    differences = {name: _difference(name, network, sessions[name], images) for name, network in networks.items()}
    latencies = device.measure_many(models, plan=FULL, baseline_ms=baseline_ms)
    return {
        name: Verified(
            graph,
            latencies[name],
            task.score(sessions[name], task.validation),
            task.score(sessions[name], task.test),
            differences[name],
        )
        for name, graph in graphs.items()
    }


def _runner(session: Session) -> Callable[[Tensor], Tensor]:
    """Return a session as a function of prepared images."""

    def run(images: Tensor) -> Tensor:
        batches = (batch.contiguous().numpy() for batch in images.split(SESSION_BATCH))
        return torch.from_numpy(np.concatenate([session.run(None, {INPUT: batch})[0] for batch in batches]))

    return run


def _difference(name: str, network: nn.Module, run: Callable[[Tensor], Tensor], images: Tensor) -> float:
    with torch.no_grad():
        expected = network.eval()(images)
    found = float((run(images) - expected).abs().max() / expected.abs().max().clamp(min=1e-6))
    if found > LIMIT:
        raise VerificationError(
            f"the {name} network's graph differs from torch's outputs by {found:.2g} of the largest; allowed: {LIMIT:g}"
        )
    return found
