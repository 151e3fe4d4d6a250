"""Latency on a new device from a few measured networks and from what other devices say of them.

Three sorts of candidates, each fitted to the same few measurements:

* ``proxy D``: the logarithm of the latency is affine in that of the one known device D that fits best;
* ``sources``: a non-negative ridge over all known devices' latencies and a constant, on relative errors;
* ``fresh G``: a table of its own, regressed on what networks compute. Runtimes execute different graphs of one network
  (one removes dead branches, another does not), so there is one such candidate for each graph G that may be run.

The one with the least error on networks left out, one at a time, is taken; whatever a candidate chooses inside itself,
such as the proxy, it chooses anew without that network. No sort is best on all published devices
(``experiments/few_shot``).

The least of several errors flatters, so the interval is of others: of networks left out in folds, of the choice too.
Its radius is their conformal quantile, but the interval is around the fit to all networks, and such intervals cover
90 % only where the fit hardly depends on any one fold; without that nothing is guaranteed (Barber et al., 2021,
"Predictive inference with the jackknife+"). How often they cover on published devices is in ``experiments/few_shot``.

Every candidate is a power of a weighted sum of columns, and the power is 1 but for a proxy. So where the columns are
tables of a space, the result is one table (``latency_tables.features.weighted_sum``) and predicts as fast as any.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from latency_tables.measurement import Floats
from latency_tables.regression import robust_weights
from nas.errors import UsageError
from predictors.conformal import conformal_radius
from predictors.prediction import Prediction

Columns = Mapping[str, Floats]  # (n,) each

FEWEST = 10  # networks; a 90 % interval needs 9
CONSTANT = "constant"
WORST = 0.5  # a log error counts as this much at most: one wild measurement shall not decide
HUBER, REWEIGHTINGS = 1.5, 5
LEAST_EXPONENT = 0.05  # a device that says less than this of the new one is no proxy
MOST_EXPONENT = 4.0  # nor is one that varies so much less than the new one: beyond, noise is what is magnified
FOLDS = 10  # of the choice and the fit together
LEAST_MS = 1e-9


@dataclass(frozen=True, eq=False)
class Known:
    """What is known of ``n`` networks without measuring them on the new device.

    Attributes:
        sources: Their milliseconds on each known device, measured or predicted.
        amounts: What they compute, by the graph that may run; none negative.
    """

    sources: Columns
    amounts: Mapping[str, Columns]

    def rows(self, index: NDArray[np.intp] | NDArray[np.bool_]) -> "Known":
        """Return the same of some of the networks."""

        def part(columns: Columns) -> Columns:
            return {name: values[index] for name, values in columns.items()}

        return Known(part(self.sources), {graph: part(columns) for graph, columns in self.amounts.items()})


@dataclass(frozen=True)
class Mixture:
    """A fitted candidate: ``(sum of weight x column) ** exponent`` milliseconds.

    Attributes:
        name: ``proxy D``, ``sources`` or ``fresh G``.
        weights: By column: devices, ``CONSTANT``, or the amounts of a graph.
        exponent: 1 but for a proxy.
    """

    name: str
    weights: Mapping[str, float]
    exponent: float = 1.0

    def predict(self, columns: Columns) -> Floats:
        """Return milliseconds ``(n,)``, of columns that hold at least those with a weight."""
        some = next(iter(columns.values()))
        total = np.zeros(len(some))
        for name, weight in self.weights.items():
            total += weight * (1.0 if name == CONSTANT else columns[name])
        powered: Floats = np.maximum(total, LEAST_MS) ** self.exponent
        return powered


Fit = Callable[[Known, Floats], Mixture]


@dataclass(frozen=True, eq=False)
class FewShot:
    """The candidate that was taken, and how networks left out were predicted.

    Attributes:
        chosen: The candidate, fitted to all networks.
        errors: Mean absolute log error on networks left out, by sort of candidate, the least first: what chose.
        left_out: Each network's milliseconds by what is chosen and fitted without its fold, ``(n,)``.
        radius: Half-width of the 90 % interval in logarithms.
    """

    chosen: Mixture
    errors: Mapping[str, float]
    left_out: Floats
    radius: float

    def predict(self, known: Known) -> Prediction:
        """Return milliseconds of networks, with 90 % intervals."""
        return _interval(self.chosen.predict(_columns(self.chosen, known)), self.radius)


def few_shot(known: Known, ms: Floats) -> FewShot:
    """Fit to a few networks and their milliseconds ``(n,)`` on the new device.

    Raises:
        UsageError: Fewer than ``FEWEST`` networks, a latency that is not positive and finite, or nothing known.
    """
    ms = np.asarray(ms, np.float64)
    if len(ms) < FEWEST or not (np.isfinite(ms) & (ms > 0)).all():
        raise UsageError(f"{len(ms)} latencies; allowed: {FEWEST} or more, each positive and finite")
    fits = _candidates(known)
    if not fits:
        raise UsageError("nothing is known of the networks: neither another device's latencies nor what they compute")
    errors = _errors(fits, known, ms, np.arange(len(ms)))
    left_out = _unseen(partial(_best, fits), known, ms, np.arange(len(ms)) % FOLDS)
    radius = conformal_radius(np.log(ms / left_out))
    return FewShot(fits[next(iter(errors))](known, ms), errors, left_out, radius)


def _candidates(known: Known) -> dict[str, Fit]:
    fits: dict[str, Fit] = {"proxy": _proxy, "sources": _sources} if known.sources else {}
    return fits | {f"fresh {graph}": _fresh(graph) for graph in known.amounts}


def _errors(fits: Mapping[str, Fit], known: Known, ms: Floats, folds: NDArray[np.intp]) -> dict[str, float]:
    """Return the candidates' mean absolute log errors on networks left out, the least first."""
    sizes = {name: np.abs(np.log(ms / _unseen(fit, known, ms, folds))) for name, fit in fits.items()}
    errors = {name: float(np.minimum(size, WORST).mean()) for name, size in sizes.items()}
    return dict(sorted(errors.items(), key=lambda one: one[1]))


def _best(fits: Mapping[str, Fit], known: Known, ms: Floats) -> Mixture:
    """Return the candidate that is best on networks left out, fitted to all."""
    best = next(iter(fits if len(fits) == 1 else _errors(fits, known, ms, np.arange(len(ms)) % FOLDS)))
    return fits[best](known, ms)


def _unseen(fit: Fit, known: Known, ms: Floats, folds: NDArray[np.intp]) -> Floats:
    """Return each network's milliseconds by what is fitted without its fold, ``(n,)``."""
    unseen = np.empty(len(ms))
    for fold in np.unique(folds):
        held = folds == fold
        mixture = fit(known.rows(~held), ms[~held])
        unseen[held] = mixture.predict(_columns(mixture, known.rows(held)))
    return unseen


def _columns(mixture: Mixture, known: Known) -> Columns:
    graph = mixture.name.removeprefix("fresh ")
    return known.amounts[graph] if mixture.name.startswith("fresh ") else known.sources


def _sources(known: Known, ms: Floats) -> Mixture:
    names = [*known.sources, CONSTANT]
    matrix = np.column_stack([*known.sources.values(), np.ones(len(ms))])
    return Mixture("sources", dict(zip(names, map(float, robust_weights(matrix, ms)), strict=True)))


def _fresh(graph: str) -> Fit:
    def fit(known: Known, ms: Floats) -> Mixture:
        columns = known.amounts[graph]
        weights = robust_weights(np.column_stack(list(columns.values())), ms)
        return Mixture(f"fresh {graph}", dict(zip(columns, map(float, weights), strict=True)))

    return fit


def _proxy(known: Known, ms: Floats) -> Mixture:
    fits = {name: _log_affine(np.log(values), np.log(ms)) for name, values in known.sources.items()}
    name = min(fits, key=lambda name: fits[name][2])
    offset, exponent, _ = fits[name]
    return Mixture(f"proxy {name}", {name: float(np.exp(offset / exponent))}, exponent)


def _log_affine(known: Floats, wanted: Floats) -> tuple[float, float, float]:
    """Return offset, slope and mean absolute error of ``wanted = offset + slope * known``, both ``(n,)``, by Huber."""
    row_weights = np.ones(len(wanted))
    for _ in range(REWEIGHTINGS):
        middle, target = np.average(known, weights=row_weights), np.average(wanted, weights=row_weights)
        spread = float(row_weights @ (known - middle) ** 2)
        slope = float(row_weights @ ((known - middle) * (wanted - target))) / max(spread, 1e-12)
        slope = min(max(slope, LEAST_EXPONENT), MOST_EXPONENT)
        offset = float(target - slope * middle)
        residual = np.abs(offset + slope * known - wanted)
        deviation = max(1.4826 * float(np.median(residual)), 1e-6)
        row_weights = np.minimum(1.0, HUBER * deviation / np.maximum(residual, 1e-12))
    return offset, slope, float(np.minimum(residual, WORST).mean())


def _interval(ms: Floats, radius: float) -> Prediction:
    mean = ms.astype(np.float32)
    return Prediction(mean, mean * np.float32(np.exp(-radius)), mean * np.float32(np.exp(radius)))
