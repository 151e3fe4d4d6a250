"""The state of a training run after a whole epoch: weights, momentum, and where it stands; written atomically."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import FileFormatError, UsageError
from nas.files import read_tensors, write_bytes, write_tensors
from supernets.supernet import Supernet
from supernets.training.plan import TrainingPlan
from supernets.weights import load_tensors

SCHEMA, SCHEMA_VERSION = "training-checkpoint", 1
FILE_NAME = "checkpoint.safetensors"
LOG_NAME = "train_log.jsonl"


@dataclass
class Progress:
    """Where a run stands: epochs done of a stage, the optimizer's momentum by parameter, and the log so far."""

    stage: int = 0
    epoch: int = 0
    momentum: dict[str, Tensor] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)

    def next_stage(self) -> "Progress":
        """Return the beginning of the next stage."""
        return Progress(self.stage + 1, log=self.log)


def run_identity(supernet: Supernet, plan: TrainingPlan, seed: int) -> str:
    """Return a hash of everything that decides how a run goes."""
    parts = [asdict(plan), asdict(supernet.space.preset), asdict(supernet.info), seed]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()[:16]


def save_checkpoint(out: Path, supernet: Supernet, plan: TrainingPlan, seed: int, progress: Progress) -> None:
    """Write the state and the log of a run into ``out``."""
    tensors = {f"model.{name}": tensor for name, tensor in supernet.state_dict().items()}
    tensors |= {f"momentum.{name}": tensor for name, tensor in progress.momentum.items()}
    info = {
        "run": run_identity(supernet, plan, seed),
        "stage": progress.stage,
        "epoch": progress.epoch,
        "log": progress.log,
    }
    write_tensors(out / FILE_NAME, tensors, SCHEMA, SCHEMA_VERSION, info)
    write_bytes(out / LOG_NAME, "".join(json.dumps(line) + "\n" for line in progress.log).encode())


def load_checkpoint(out: Path, supernet: Supernet, plan: TrainingPlan, seed: int) -> Progress:
    """Load the state in ``out`` into ``supernet`` and return where it stands; the beginning if there is none.

    Raises:
        UsageError: The state belongs to a run of another plan, space, seed or data set.
        FileFormatError: The file is damaged.
    """
    path = out / FILE_NAME
    if not path.exists():
        return Progress()
    tensors, info = read_tensors(path, SCHEMA, SCHEMA_VERSION)
    if info.get("run") != run_identity(supernet, plan, seed):
        raise UsageError(
            f"{path} is of a run with another space, plan, seed or data set; name another folder with --out"
        )
    load_tensors(supernet, _part(tensors, "model."), path)
    try:
        return Progress(int(info["stage"]), int(info["epoch"]), _part(tensors, "momentum."), list(info["log"]))
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: its header does not say where the run stands ({error})") from error


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def momentum_of(supernet: Supernet, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return the momentum buffers by parameter name; a parameter that had no gradient yet has none."""
    state = optimizer.state
    found = {name: state[p].get("momentum_buffer") for name, p in supernet.named_parameters() if p in state}
    return {name: buffer for name, buffer in found.items() if buffer is not None}


def restore_momentum(supernet: Supernet, optimizer: torch.optim.Optimizer, momentum: dict[str, Tensor]) -> None:
    """Put back the buffers that ``momentum_of`` returned."""
    for name, parameter in supernet.named_parameters():
        if name in momentum:
            optimizer.state[parameter]["momentum_buffer"] = momentum[name].to(parameter.device, parameter.dtype)
