"""Accuracy from genes: an ensemble fitted to measured pairs, first in fp32, then taught what precision costs.

The predictor is OFA's and APQ's in kind (see ``ensemble``). Its interval is split-conformal: errors on architectures
that no member has seen in any precision, each divided by the spread of the members there, so it is wider where they
disagree.
"""

import zlib
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from nas.errors import FileFormatError, UsageError
from nas.files import read_tensors, write_tensors
from predictors.conformal import conformal_radius
from predictors.ensemble import Ensemble, Floats, FrozenEnsemble, freeze, train_ensemble
from predictors.prediction import Prediction
from search_spaces import Genes, SearchSpace, as_written, make_space, preset_from_dict

SCHEMA, SCHEMA_VERSION = "accuracy-predictor", 1
CHUNK = 1024  # rows predicted at a time
FEWEST_PAIRS = 60
CALIBRATION = 0.15  # share of the architectures that sets the interval
FEWEST_CALIBRATING = 9
HELD_OUT = 0.12  # share of the others that stops a member, each its own
FIT_RATE = 1e-3
TRANSFER_RATE = 1e-4  # what was fitted to fp32 pairs hardly moves
FRESH_RATE = 3e-3  # the precision layer learns fast


@dataclass(frozen=True)
class _State:
    """Numbers beside the weights: of the targets' standardisation and of the interval."""

    mean: float
    scale: float
    radius: float
    floor: float
    knows_precision: bool


class AccuracyPredictor:
    """Predicts accuracies, as fractions.

    Args:
        space: The space, with every precision that the pairs have.
        supernet: Fingerprint of the supernet whose pairs it is fitted to, if known.
        members: Perceptrons in the ensemble.
        width: Of their hidden layers.
        seed: Of weights, splits and order.
    """

    def __init__(
        self, space: SearchSpace, *, supernet: str = "", members: int = 4, width: int = 48, seed: int = 0
    ) -> None:
        self.space = space
        self.supernet = supernet
        self.members, self.width, self.seed = members, width, seed
        self._fitted_space = space
        self._state: _State | None = None
        self._ensemble = self._new_ensemble()
        self._frozen: FrozenEnsemble | None = None

    @property
    def knows_precision(self) -> bool:
        """Whether it can predict networks with quantized units."""
        return self._state is not None and self._state.knows_precision

    def fit(self, genes: Genes, accuracy: ArrayLike) -> Self:
        """Fit from nothing, to pairs in fp32 or, to learn precision at once, also to networks with quantized units.

        Args:
            genes: Canonical rows ``(n, num_genes)``, 60 or more.
            accuracy: Fractions ``(n,)``.

        Raises:
            UsageError: Too few pairs, or accuracies that do not fit them.
        """
        self._check_own_space()
        targets = _checked(genes, accuracy)
        knows_precision = _has_quantized(self.space, self.space.encode(genes))
        self._ensemble = self._new_ensemble()
        names = [name for name, _ in self._ensemble.named_parameters() if knows_precision or name != "precision"]
        state = _State(float(targets.mean()), float(targets.std()) or 1.0, 0.0, 1.0, knows_precision)
        return self._train(state, genes, targets, dict.fromkeys(names, FIT_RATE))

    def transfer(self, genes: Genes, accuracy: ArrayLike, replay: tuple[Genes, ArrayLike] | None = None) -> Self:
        """Teach a predictor fitted to fp32 pairs what precision costs (APQ's transfer); the interval is set anew.

        Args:
            genes: Networks with quantized units, canonical rows ``(n, num_genes)``, 60 or more.
            accuracy: Fractions ``(n,)``.
            replay: The fp32 pairs, fitted to once more so that they are not forgotten.

        Raises:
            UsageError: The predictor is not fitted, too few pairs, or accuracies that do not fit them.
        """
        self._check_own_space()
        state, targets = self._fitted()[0], _checked(genes, accuracy)
        with torch.no_grad():
            self._ensemble.precision.zero_()
        rates = {name: TRANSFER_RATE for name, _ in self._ensemble.named_parameters()} | {"precision": FRESH_RATE}
        extra = None if replay is None else (replay[0], _checked(*replay))
        return self._train(replace(state, knows_precision=True), genes, targets, rates, extra)

    def predict(self, genes: Genes) -> Prediction:
        """Predict ``n`` networks from canonical rows ``(n, num_genes)``; intervals hold with a probability of 90 %.

        Raises:
            UsageError: The predictor is not fitted, or knows fp32 alone and a network has quantized units.
        """
        state, frozen = self._fitted()
        answers = np.empty((len(genes), len(frozen.second)), np.float32)
        for at in range(0, len(genes), CHUNK):
            features = self.space.encode(genes[at : at + CHUNK])
            if not state.knows_precision and _has_quantized(self.space, features):
                raise UsageError("the accuracy predictor knows fp32 alone; transfer() it on pairs with quantized units")
            answers[at : at + CHUNK] = frozen(features)
        mean = answers.mean(1).clip(0, 1)
        half = np.float32(state.radius) * (_spread(answers) + np.float32(state.floor))
        return Prediction(mean, np.maximum(mean - half, 0), np.minimum(mean + half, 1))

    def save(self, path: Path) -> None:
        """Write the predictor as safetensors, atomically.

        Raises:
            UsageError: The predictor is not fitted.
        """
        state, space = self._fitted()[0], self._fitted_space
        info = {
            "preset": space.preset.to_dict(),
            "precisions": space.precisions,
            "supernet": self.supernet,
            "state": asdict(state),
        }
        write_tensors(path, self._ensemble.state_dict(), SCHEMA, SCHEMA_VERSION, info)

    @classmethod
    def load(cls, path: Path, space: SearchSpace | None = None, supernet: str = "") -> Self:
        """Read a predictor.

        Args:
            path: What ``save`` wrote.
            space: The space to predict, whose menu may lack precisions that the predictor knows; without it, its own.
            supernet: Fingerprint of the supernet in use; compared if both are known.

        Raises:
            FileFormatError: The file is damaged, or is of another space or supernet.
        """
        tensors, info = read_tensors(path, SCHEMA, SCHEMA_VERSION)
        try:
            own = make_space(preset_from_dict(info["preset"], str(path)), info["precisions"])
            state = _State(**info["state"])
            members, _, width = tensors["architecture"].shape
            predictor = cls(own, supernet=str(info["supernet"]), members=members, width=width)
            predictor._ensemble.load_state_dict(tensors)
        except (KeyError, TypeError, ValueError, AttributeError, RuntimeError, UsageError) as error:
            raise FileFormatError(f"{path}: does not describe an accuracy predictor ({error})") from error
        numbers = [state.mean, state.scale, state.radius, state.floor]
        if not all(np.isfinite(numbers)) or not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise FileFormatError(f"{path}: holds NaN or infinity")
        predictor._check_supernet(path, supernet)
        predictor._settle(state)
        if space is not None:
            predictor._restrict(path, space)
        return predictor

    def _check_supernet(self, path: Path, supernet: str) -> None:
        if supernet and self.supernet and supernet != self.supernet:
            raise FileFormatError(f"{path}: predicts supernet {self.supernet}, not {supernet}; collect pairs anew")

    def _restrict(self, path: Path, space: SearchSpace) -> None:
        """Predict for ``space``, the same choices with a menu of fewer precisions, or of the same in another order.

        Floats of any kind are predicted as fp32: gate A holds their logits to those of fp32.
        """
        own = self._fitted_space
        if (own.name, own.preset.digest) != (space.name, space.preset.digest):
            raise FileFormatError(
                f"{path}: predicts space {own.name} ({own.preset.digest}), not {space.name} ({space.preset.digest}); "
                "collect pairs of this space and fit another"
            )
        if not set(map(as_written, space.precisions)) <= set(own.precisions):
            raise FileFormatError(
                f"{path}: knows precisions {', '.join(own.precisions)}, not all of {', '.join(space.precisions)}"
            )
        columns = [own.feature_names.index(_as_written(name)) for name in space.feature_names]
        frozen = self._fitted()[1]
        self.space, self._frozen = space, replace(frozen, first=frozen.first[columns])

    def _new_ensemble(self) -> Ensemble:
        precision = int(_is_precision(self.space).sum())
        architecture = self.space.num_features - precision
        generator = torch.Generator().manual_seed(self.seed)
        return Ensemble(self.members, architecture, precision, self.width, generator)

    def _check_own_space(self) -> None:
        if self.space is not self._fitted_space:
            raise UsageError("the accuracy predictor was loaded for a device's menu; load it without a space to fit it")

    def _fitted(self) -> tuple[_State, FrozenEnsemble]:
        if self._state is None or self._frozen is None:
            raise UsageError("the accuracy predictor has not been fitted; call fit() or load() first")
        return self._state, self._frozen

    def _settle(self, state: _State) -> FrozenEnsemble:
        """Take ``state`` beside the ensemble's weights, and be fitted."""
        frozen = freeze(self._ensemble, _is_precision(self._fitted_space), state.mean, state.scale)
        self._state, self._frozen = state, frozen
        return frozen

    def _train(
        self,
        state: _State,
        genes: Genes,
        targets: NDArray[np.float64],
        rates: dict[str, float],
        replay: tuple[Genes, NDArray[np.float64]] | None = None,
    ) -> Self:
        """Train on the pairs but for the architectures that set the interval; ``replay`` stops no member."""
        count = len(genes)
        if replay is not None:
            genes, targets = np.concatenate([genes, replay[0]]), np.concatenate([targets, replay[1]])
        features, is_precision = self.space.encode(genes), _is_precision(self.space)
        calibrates = _calibrates(features[:, ~is_precision])
        rows = torch.from_numpy(np.flatnonzero(~calibrates))
        own, extra = rows[rows < count], rows[rows >= count]
        generator = torch.Generator().manual_seed(self.seed + 1)
        orders = torch.stack([own[torch.randperm(len(own), generator=generator)] for _ in range(self.members)])
        held, fitted = _split(orders, HELD_OUT)
        train_ensemble(
            self._ensemble,
            (torch.from_numpy(features[:, ~is_precision]), torch.from_numpy(features[:, is_precision])),
            torch.from_numpy((targets - state.mean) / state.scale).float(),
            fitted=torch.cat([fitted, extra.expand(self.members, -1)], dim=1),
            held=held,
            rates=rates,
            generator=generator,
        )
        answers = self._settle(state)(features[calibrates])
        spread = _spread(answers)
        floor = max(float(spread.mean()), 1e-6)
        errors = (answers.mean(1) - targets[calibrates]) / (spread + floor)
        self._settle(replace(state, radius=conformal_radius(errors), floor=floor))
        return self


def _calibrates(architectures: Floats) -> NDArray[np.bool_]:
    """Return which of ``(n, features)`` set the interval: by their hash, so an architecture does in every precision."""
    keys = np.array([zlib.crc32(row.tobytes()) for row in architectures])
    return keys <= max(CALIBRATION * 2**32, np.sort(keys)[FEWEST_CALIBRATING - 1])


def _split(rows: Tensor, share: float) -> tuple[Tensor, Tensor]:
    """Cut the last dimension into its first ``share`` and the rest."""
    count = round(share * rows.shape[-1])
    return rows[..., :count], rows[..., count:]


def _is_precision(space: SearchSpace) -> NDArray[np.bool_]:
    """Return which features are precisions, ``(num_features,)``."""
    return np.array(["precision=" in name for name in space.feature_names])


def _has_quantized(space: SearchSpace, features: Floats) -> bool:
    quantized = _is_precision(space) & ~np.char.endswith(list(map(_as_written, space.feature_names)), "=fp32")
    return bool(features[:, quantized].any())


def _as_written(feature: str) -> str:
    """Return the feature that stands for ``feature`` where only fp32 stands for floats."""
    name, mark, precision = feature.partition("precision=")
    return name + mark + as_written(precision) if mark else feature


def _spread(answers: Floats) -> Floats:
    """Return the standard deviation of the members' answers ``(n,)``."""
    spread: Floats = answers.std(1)
    return spread


def _checked(genes: Genes, accuracy: ArrayLike) -> NDArray[np.float64]:
    targets = np.asarray(accuracy, np.float64)
    if targets.shape != (len(genes),) or len(genes) < FEWEST_PAIRS:
        raise UsageError(f"{len(genes)} rows with accuracies {targets.shape}; allowed: {FEWEST_PAIRS} or more of each")
    if not ((targets >= 0) & (targets <= 1)).all():
        raise UsageError("accuracies outside 0 to 1; allowed: fractions")
    return targets
