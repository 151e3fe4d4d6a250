"""Latency from genes: an additive table, a correction where it is earned, and a conformal interval.

``mean = table(genes) * exp(correction(genes))``; both are array lookups, so that a million candidates take about a
second. The correction is a ridge on log(measured / table) over counts of parts. It is kept only if its errors fall by
``EARNED`` at least in nested cross-validation, where neither the table nor the correction, nor the tables that the
correction learns from, have seen the networks that judge; on published measurements a correction made a good table
worse as often as better. The interval is split-conformal, fold by fold (``conformal``), from those very errors, wild
ones included. Of a device that only a few networks were measured on, the mean may be a power of the table
(``few_calibration``).
"""

from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_tables.costs import Images
from latency_tables.features import cost_features, count_features, feature_matrix, weighted_sum
from latency_tables.fingerprint import digest
from latency_tables.measurement import Floats
from latency_tables.regression import CostRegression, check_measured
from latency_tables.table import MEND, LatencyTable, TableIdentity, read_identity
from nas.errors import FileFormatError, UsageError
from nas.files import read_json, write_json
from predictors.conformal import conformal_radius, cross_folds
from predictors.prediction import Prediction
from search_spaces import Genes, SearchSpace, make_space, preset_from_dict

SCHEMA = "hwnas latency predictor"
SCHEMA_VERSION = 1
FOLDS = 10
EARNED = 0.05  # relative fall of the mean absolute log error that keeps a correction
SHRINKAGE = 100.0  # ridge penalty of the correction, on standardised counts
LARGEST_LOG_RATIO = 0.3  # from the median error; beyond it the correction takes a measurement to be disturbed

OFFSET = "offset"
LEAST_MS = 1e-9


class LatencyPredictor:
    """Predicts milliseconds.

    Args:
        space: The space, with the device's menu of precisions.
        table: A table fitted elsewhere; without one, ``fit`` fits it too.
        channels: Channels of the images; the preset's where left out.
        classes: Classes of the classifier; the preset's where left out.
    """

    def __init__(
        self,
        space: SearchSpace,
        table: LatencyTable | None = None,
        *,
        channels: int | None = None,
        classes: int | None = None,
    ) -> None:
        self.space = space
        self.table = table
        self.images = Images(channels or space.preset.channels, classes or space.preset.classes)
        self.exponent = 1.0
        self.correction: dict[str, float] = {}
        self.radius: float | None = None
        self._given = table
        self._log_correction: LatencyTable | None = None

    def fit(self, genes: Genes, targets: Floats, *, seed: int = 0) -> "LatencyPredictor":
        """Fit to measured networks.

        Args:
            genes: Canonical rows ``(n, num_genes)``.
            targets: Milliseconds ``(n,)``.
            seed: Decides the folds.

        Raises:
            UsageError: Too few networks, or a latency that is not positive and finite.
        """
        ms = np.asarray(targets, np.float64)
        check_measured(genes, ms)
        folds = cross_folds(len(ms), FOLDS, np.random.default_rng(seed))
        if self._given is None:
            self.table = self._regression.fit(genes, ms)
        errors = self._unseen_errors(genes, ms, folds)
        counts = count_features(self.space)
        matrix = feature_matrix(counts, genes)
        left = errors - self._unseen_corrections(matrix, genes, ms, folds)
        self.exponent, self.correction, self._log_correction = 1.0, {}, None
        if np.abs(left).mean() <= (1 - EARNED) * np.abs(errors).mean():
            weights, offset = _ridge(matrix, errors)
            self._correct({OFFSET: offset, **dict(zip(counts, map(float, weights), strict=True))})
            errors = left
        self.radius = conformal_radius(errors)
        return self

    @cached_property
    def _regression(self) -> CostRegression:
        return CostRegression(cost_features(self.space, self.images))

    def _unseen_errors(self, genes: Genes, ms: Floats, folds: NDArray[np.intp]) -> Floats:
        """Return log(measured / table) of networks, each by a table that has not seen its fold, ``(n,)``."""
        given = self._given
        table_ms = self._regression.crossed(genes, ms, folds) if given is None else given.predict_ms(genes)
        return np.log(ms / np.maximum(table_ms, 1e-9))

    def _unseen_corrections(self, matrix: Floats, genes: Genes, ms: Floats, folds: NDArray[np.intp]) -> Floats:
        """Return the correction of each network, learned from the other folds alone, ``(n,)``."""
        corrections = np.empty(len(ms))
        for fold in np.unique(folds):
            held, rest = folds == fold, folds != fold
            weights, offset = _ridge(matrix[rest], self._unseen_errors(genes[rest], ms[rest], folds[rest]))
            corrections[held] = matrix[held] @ weights + offset
        return corrections

    def _correct(self, weights: dict[str, float]) -> None:
        counts = count_features(self.space)
        table = weighted_sum(counts, np.array([weights[name] for name in counts]))
        table.constant_ms[0] = weights[OFFSET]
        self.correction, self._log_correction = weights, table

    def predict(self, genes: Genes) -> Prediction:
        """Return milliseconds for canonical rows ``(n, num_genes)``, with 90 % intervals.

        Raises:
            UsageError: The predictor has not been fitted.
        """
        table, radius = self._fitted()
        mean = table.predict_ms(genes)
        if self._log_correction is not None:
            mean *= np.exp(self._log_correction.predict_ms(genes))
        if self.exponent != 1:
            mean = np.maximum(mean, np.float32(LEAST_MS)) ** np.float32(self.exponent)
        return Prediction(mean, mean * np.float32(np.exp(-radius)), mean * np.float32(np.exp(radius)))

    def part(self, space: SearchSpace) -> "LatencyPredictor":
        """Return the fitted predictor of a space that is this one with fewer sizes and precisions.

        Raises:
            UsageError: The predictor has not been fitted.
            ValueError: The space has a choice that this one lacks.
        """
        table, radius = self._fitted()
        found = LatencyPredictor(space, table.part(space), channels=self.images.channels, classes=self.images.classes)
        found.exponent, found.radius = self.exponent, radius
        if self.correction:
            found._correct({name: self.correction[name] for name in (OFFSET, *count_features(space))})
        return found

    def _fitted(self) -> tuple[LatencyTable, float]:
        if self.table is None or self.radius is None:
            raise UsageError("the latency predictor has not been fitted; call fit() or load() first")
        return self.table, self.radius

    def save(self, path: Path, device: Mapping[str, Any] | None = None) -> None:
        """Write ``path`` (JSON) and, beside it, the table as ``<stem>_table.csv`` and ``.json``.

        Args:
            path: Where to.
            device: ``Device.describe()`` of the device that was measured.

        Raises:
            UsageError: The predictor has not been fitted.
        """
        table, radius = self._fitted()
        space, path = self.space, Path(path)
        table.save(
            table_path(path),
            TableIdentity(
                space=space.name,
                space_digest=space.preset.digest,
                precisions=space.precisions,
                channels=self.images.channels,
                classes=self.images.classes,
                device=dict(device or {}),
                fingerprint=digest(device or {}),
            ),
        )
        write_json(
            path,
            SCHEMA,
            SCHEMA_VERSION,
            {
                "radius_log": radius,
                "exponent": self.exponent,
                "correction": self.correction,
                "preset": space.preset.to_dict(),
            },
        )

    @classmethod
    def load(cls, path: Path, space: SearchSpace | None = None) -> "LatencyPredictor":
        """Read a predictor.

        Args:
            path: What ``save`` was given.
            space: The space it must be of; rebuilt from the file where left out.

        Raises:
            FileFormatError: A file is missing, damaged, or of another space.
        """
        path = Path(path)
        content = read_json(path, SCHEMA, SCHEMA_VERSION)
        if space is None:
            identity = read_identity(table_path(path).with_suffix(".json"))
            space = make_space(preset_from_dict(content.get("preset", {}), str(path)), identity.precisions)
        table, identity = LatencyTable.load(table_path(path), space)
        predictor = cls(space, table, channels=identity.channels, classes=identity.classes)
        predictor.radius = _number(path, content, "radius_log", 0, 10)
        predictor.exponent = _number(path, {"exponent": 1.0, **content}, "exponent", 1e-3, 10)
        correction = content.get("correction")
        if correction:
            wanted = {OFFSET, *count_features(space)}
            if (
                not isinstance(correction, dict)
                or set(correction) != wanted
                or not all(map(_is_number, correction.values()))
            ):
                raise FileFormatError(f"{path}: its correction does not fit space {space.name!r}; {MEND}")
            predictor._correct(correction)
        return predictor


def table_path(path: Path) -> Path:
    """Return where the table of the predictor ``path`` lies."""
    return path.with_name(f"{path.stem}_table.csv")


def _number(path: Path, content: Mapping[str, Any], name: str, low: float, high: float) -> float:
    value: Any = content.get(name)
    if not _is_number(value) or not low <= value < high:
        raise FileFormatError(f"{path}: {name} is {value!r}; allowed: {low:g} to {high:g}; {MEND}")
    return float(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and bool(np.isfinite(value))


def _ridge(matrix: Floats, errors: Floats) -> tuple[Floats, float]:
    """Return weights and offset of a ridge regression on standardised columns; wild errors count as large ones."""
    middle = np.median(errors)
    errors = middle + np.clip(errors - middle, -LARGEST_LOG_RATIO, LARGEST_LOG_RATIO)
    centre, spread = matrix.mean(axis=0), matrix.std(axis=0)
    spread[spread < 1e-9] = np.inf
    columns = (matrix - centre) / spread
    gram = columns.T @ columns + SHRINKAGE * np.eye(columns.shape[1])
    weights = np.linalg.solve(gram, columns.T @ (errors - errors.mean())) / spread
    return weights, float(errors.mean() - centre @ weights)
