"""A small ensemble of perceptrons, its members trained side by side as one batched matrix product.

APQ's accuracy predictor (Wang et al., 2020): the architecture enters by the first layer, the precisions by a linear
layer beside it, added before the second. Departures: two hidden layers of 48 and not three of 400, since a search asks
it for hundreds of thousands of networks a second; the precision layer starts at zero, so that at first the transferred
network answers as the fp32 one did.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

EPOCHS = 300
PATIENCE = 40  # epochs without improvement on a member's held-out pairs before training ends
BATCH = 64
WEIGHT_DECAY = 1e-3  # by evidence: 1e-4, as in OFA, costs a tenth in RMSE with 1,500 pairs


Floats = NDArray[np.float32]


class Ensemble(nn.Module):
    """``members`` perceptrons with two hidden layers of ``width``; parameters have the member as first dimension."""

    def __init__(self, members: int, architecture: int, precision: int, width: int, generator: torch.Generator):
        super().__init__()

        def uniform(rows: int, columns: int, fan_in: int) -> nn.Parameter:
            return nn.Parameter((torch.rand(members, rows, columns, generator=generator) * 2 - 1) / fan_in**0.5)

        self.architecture = uniform(architecture, width, max(1, architecture // 4))  # about a quarter of one-hots are 1
        self.precision = nn.Parameter(torch.zeros(members, precision, width))
        self.bias_1 = nn.Parameter(torch.zeros(members, 1, width))
        self.weight_2 = uniform(width, width, width)
        self.bias_2 = nn.Parameter(torch.zeros(members, 1, width))
        self.weight_3 = uniform(width, 1, width)
        self.bias_3 = nn.Parameter(torch.zeros(members, 1, 1))

    def forward(self, architecture: Tensor, precision: Tensor) -> Tensor:
        """Map features ``(members, n, ·)`` to targets ``(members, n)``."""
        hidden = torch.relu(architecture @ self.architecture + precision @ self.precision + self.bias_1)
        hidden = torch.relu(hidden @ self.weight_2 + self.bias_2)
        return (hidden @ self.weight_3 + self.bias_3)[..., 0]


def train_ensemble(
    ensemble: Ensemble,
    features: tuple[Tensor, Tensor],
    targets: Tensor,
    *,
    fitted: Tensor,
    held: Tensor,
    rates: Mapping[str, float],
    generator: torch.Generator,
) -> None:
    """Train by Adam on the squared error; each member ends with its weights of the epoch best on its held-out rows.

    Args:
        ensemble: Trained in place.
        features: Architecture ``(n, ·)`` and precision ``(n, ·)``.
        targets: Standardised ``(n,)``.
        fitted: Rows each member is fitted to, ``(members, ·)``.
        held: Rows each member is stopped by, ``(members, ·)``.
        rates: Learning rate of each parameter; those left out stay as they are.
        generator: Of the order of rows.
    """
    members, parameters = len(fitted), dict(ensemble.named_parameters())
    optimizer = torch.optim.Adam(
        [{"params": [parameters[name]], "lr": rate} for name, rate in rates.items()], weight_decay=WEIGHT_DECAY
    )
    best = {name: parameter.detach().clone() for name, parameter in parameters.items()}
    lowest, last_better = torch.full((members,), torch.inf), 0
    for epoch in range(EPOCHS):
        order = torch.stack([torch.randperm(fitted.shape[1], generator=generator) for _ in range(members)])
        for rows in torch.gather(fitted, 1, order).split(BATCH, dim=1):
            optimizer.zero_grad()
            _loss(ensemble, features, targets, rows).sum().backward()
            optimizer.step()
        with torch.no_grad():
            loss = _loss(ensemble, features, targets, held)
            better = loss < lowest
            lowest = torch.where(better, loss, lowest)
            for name, parameter in parameters.items():
                best[name][better] = parameter[better]
        if better.any():
            last_better = epoch
        elif epoch - last_better >= PATIENCE:
            break
    ensemble.load_state_dict(best)


def _loss(ensemble: Ensemble, features: tuple[Tensor, Tensor], targets: Tensor, rows: Tensor) -> Tensor:
    """Return each member's mean squared error ``(members,)`` on its ``rows`` ``(members, ·)``."""
    architecture, precision = features
    return (ensemble(architecture[rows], precision[rows]) - targets[rows]).square().mean(1)


@dataclass(frozen=True)
class FrozenEnsemble:
    """An ensemble in numpy, for prediction: the two first layers are one matrix.

    Attributes:
        first: ``(features, members * width)``.
        bias_1: ``(members * width,)``.
        second: ``(members, width, width)``.
        bias_2: ``(members, width)``.
        third: ``(members, width)``.
        bias_3: ``(members,)``.
    """

    first: Floats
    bias_1: Floats
    second: Floats
    bias_2: Floats
    third: Floats
    bias_3: Floats

    def __call__(self, features: Floats) -> Floats:
        """Return each member's answer ``(n, members)`` to ``features`` ``(n, features)``."""
        hidden = features @ self.first
        hidden += self.bias_1
        np.maximum(hidden, 0, out=hidden)
        width = self.second.shape[1]
        answers = np.empty((len(features), len(self.second)), np.float32)
        for member, weight in enumerate(self.second):
            deep = hidden[:, member * width : (member + 1) * width] @ weight
            deep += self.bias_2[member]
            np.maximum(deep, 0, out=deep)
            answers[:, member] = deep @ self.third[member]
        answers += self.bias_3
        return answers


def freeze(ensemble: Ensemble, is_precision: NDArray[np.bool_], mean: float, scale: float) -> FrozenEnsemble:
    """Return a trained ensemble in numpy, its answers in the unit of the targets before standardisation.

    Args:
        ensemble: Trained.
        is_precision: Which features go by the precision layer, ``(features,)``.
        mean: Of the targets.
        scale: Their deviation.
    """
    weights = {name: tensor.detach().cpu().numpy() for name, tensor in ensemble.named_parameters()}
    members, _, width = weights["architecture"].shape
    first = np.empty((len(is_precision), members, width), np.float32)
    first[~is_precision] = weights["architecture"].swapaxes(0, 1)
    first[is_precision] = weights["precision"].swapaxes(0, 1)
    return FrozenEnsemble(
        first=first.reshape(len(first), -1),
        bias_1=weights["bias_1"].reshape(-1),
        second=weights["weight_2"],
        bias_2=weights["bias_2"][:, 0],
        third=weights["weight_3"][..., 0] * np.float32(scale),
        bias_3=weights["bias_3"][:, 0, 0] * np.float32(scale) + np.float32(mean),
    )
