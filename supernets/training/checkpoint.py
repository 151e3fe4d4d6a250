"""The state of a training run: weights, the optimizer's state, and where it stands; atomic, with the log beside it."""

import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from nas.errors import FileFormatError, TrainingError, UsageError
from nas.files import is_file, read_tensors, write_tensors
from search_spaces import Candidate, Preset
from search_spaces.preset import without_defaults
from supernets.datasets import Splits
from supernets.supernet import Supernet
from supernets.training.log import write_log
from supernets.training.plan import TrainingPlan
from supernets.weights import load_tensors, weights_digest

SCHEMA, SCHEMA_VERSION = "training-checkpoint", 3
FILE_NAME = "checkpoint.safetensors"
RANDOM = "random"  # weights that a run begins with

Identity = dict[str, str]
"""Everything that decides how a run goes, by name: a hash of each."""


@dataclass
class Progress:
    """Where a run stands.

    Attributes:
        stage: Index of the stage.
        epoch: Epochs done of the stage.
        step: Steps done of the epoch.
        loss: Sum of the losses of those steps.
        optimizer: The optimizer's state, by parameter and name.
        average: The moving average of the weights, within a stage that has one.
        log: A line an epoch.
    """

    stage: int = 0
    epoch: int = 0
    step: int = 0
    loss: float = 0.0
    optimizer: dict[str, Tensor] = field(default_factory=dict)
    average: dict[str, Tensor] = field(default_factory=dict)
    log: list[dict[str, Any]] = field(default_factory=list)

    @property
    def begins_stage(self) -> bool:
        """Whether nothing of the stage is done."""
        return self.epoch == self.step == 0

    def end_epoch(self, line: dict[str, Any]) -> None:
        """Go to the beginning of the next epoch."""
        self.epoch, self.step, self.loss = self.epoch + 1, 0, 0.0
        self.log.append(line)

    def next_stage(self) -> "Progress":
        """Return the beginning of the next stage."""
        return Progress(self.stage + 1, log=self.log)


def run_identity(
    preset: Preset,
    splits: Splits,
    plan: TrainingPlan,
    seed: int,
    trained: Supernet | None = None,
    only: Candidate | None = None,
) -> Identity:
    """Return what decides how a run goes.

    Images that only the log's accuracies are counted on do not, nor does the number of processes.
    """
    return {
        "space": preset.digest,
        "beginning": RANDOM if trained is None else weights_digest(trained),
        "data": _data_digest(splits),
        "plan": _digest(without_defaults(plan)),
        "seed": str(seed),
        "subnet": "every one" if only is None else only.id,
    }


def _data_digest(splits: Splits) -> str:
    digest = hashlib.sha256(json.dumps([splits.name, splits.classes, splits.mean, splits.std]).encode())
    for part in (splits.train, splits.calibration):
        if part is not None:
            digest.update(str(tuple(part.images.shape)).encode())
            digest.update(part.images.cpu().contiguous().numpy().data)
            digest.update(part.labels.cpu().contiguous().numpy().data)
    return digest.hexdigest()[:12]


def _digest(content: Any) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def has_run(out: Path) -> bool:
    """Tell whether a folder holds a training run."""
    return is_file(out / FILE_NAME)


def save_checkpoint(out: Path, supernet: Supernet, run: Identity, progress: Progress) -> None:
    """Write the state and the log of a run into ``out``.

    Raises:
        TrainingError: A weight or what the optimizer keeps is not finite; nothing is written.
    """
    parts = {"model": supernet.state_dict(), "optimizer": progress.optimizer, "average": progress.average}
    tensors = {f"{part}.{name}": tensor for part, found in parts.items() for name, tensor in found.items()}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise TrainingError(f"{name} is no longer finite")
    info = {"run": run, **{key: getattr(progress, key) for key in ("stage", "epoch", "step", "loss", "log")}}
    write_tensors(out / FILE_NAME, tensors, SCHEMA, SCHEMA_VERSION, info)
    write_log(out, progress.log)


def load_checkpoint(out: Path, supernet: Supernet, run: Identity) -> Progress:
    """Load the state in ``out`` into ``supernet`` and return where it stands; the beginning if there is none.

    Raises:
        UsageError: The state belongs to another run; the message says what of it is another.
        FileFormatError: The file is damaged.
    """
    path = out / FILE_NAME
    if not has_run(out):
        return Progress()
    tensors, info = read_tensors(path, SCHEMA, SCHEMA_VERSION)
    try:
        recorded, stands = dict(info["run"]), (int(info["stage"]), int(info["epoch"]), int(info["step"]))
        progress = Progress(*stands, float(info["loss"]), _part(tensors, "optimizer."))
        progress.average, progress.log = _part(tensors, "average."), list(info["log"])
    except (KeyError, TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: its header does not say where the run stands ({error})") from error
    if differing := [name for name in run if recorded.get(name) != run[name]]:
        raise UsageError(
            f"{path} is of a run with another {', another '.join(differing)}; name another folder with --out"
        )
    load_tensors(supernet, _part(tensors, "model."), path)
    return progress


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {name[len(prefix) :]: tensor for name, tensor in tensors.items() if name.startswith(prefix)}


def optimizer_state(supernet: Supernet, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what the optimizer keeps, under ``<parameter>:<key>``; a parameter without a gradient yet has nothing."""
    names: dict[Tensor, str] = {parameter: name for name, parameter in supernet.named_parameters()}
    return {
        f"{names[parameter]}:{key}": value
        for parameter, kept in optimizer.state.items()
        for key, value in kept.items()
        if isinstance(value, Tensor)
    }


def restore_optimizer(supernet: Supernet, optimizer: torch.optim.Optimizer, state: dict[str, Tensor]) -> None:
    """Put back what ``optimizer_state`` returned."""
    parameters = dict(supernet.named_parameters())
    for place, value in state.items():
        name, _, key = place.rpartition(":")
        parameter = parameters[name]
        kept = value.to(parameter.device, parameter.dtype) if value.ndim else value.clone()
        optimizer.state[parameter][key] = kept
