"""The networks that a calibration is judged by, one by one: errors among those that are alike, and of plainer fits.

A predictor can be good on the whole and wrong on one kind of network, and its error says little without that of the
next best thing: multiply-adds alone, which most of the literature counts, and the table without its correction.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from latency_tables.network_costs import NetworkCosts
from latency_tables.regression import robust_weights
from latency_tables.rows import MeasuredRow, genes_of, latencies_of
from predictors.latency import LatencyPredictor
from predictors.ranks import spearman
from search_spaces import FLOATS

RANGES = 3  # of depths, and of resolutions, at most
STRATIFIED = ("blocks", "resolution", "int8")
TABLE, MACS = "table, no correction", "multiply-adds only"
NOISE = "noise of a measurement"


@dataclass(frozen=True)
class JudgedNetwork:
    """A network that was held out from the fit.

    Attributes:
        role: ``random`` or ``searched``.
        blocks: How many it has, stem and head left out.
        resolution: Pixels of its input.
        int8: Share of its parts that are quantized.
        measured_ms: Its latency.
        predicted_ms: By the fit that has not seen it.
        low_ms: Lower end of the prediction's 90 % interval.
        high_ms: Its upper end.
        table_ms: By the fit's table alone.
        macs_ms: By a line over multiply-adds, fitted to the same networks.
    """

    role: str
    blocks: int
    resolution: int
    int8: float
    measured_ms: float
    predicted_ms: float
    low_ms: float
    high_ms: float
    table_ms: float
    macs_ms: float


@dataclass(frozen=True)
class GroupErrors:
    """Errors over some networks, fractions of the measured latency.

    Attributes:
        networks: How many.
        mean: Mean absolute error (MAPE).
        median: Median absolute error.
        worst: Largest absolute error.
        bias: Median signed error.
        within_10: Share within 10 %.
        spearman: Rank correlation.
    """

    networks: int
    mean: float
    median: float
    worst: float
    bias: float
    within_10: float
    spearman: float

    @staticmethod
    def of(predicted_ms: Iterable[float], networks: Sequence[JudgedNetwork]) -> "GroupErrors":
        """Compare predictions with what the networks, at least one, took."""
        predicted, measured = np.array(list(predicted_ms)), np.array([one.measured_ms for one in networks])
        error = predicted / measured - 1
        return GroupErrors(
            networks=len(networks),
            mean=float(np.abs(error).mean()),
            median=float(np.median(np.abs(error))),
            worst=float(np.abs(error).max()),
            bias=float(np.median(error)),
            within_10=float((np.abs(error) <= 0.10).mean()),
            spearman=spearman(predicted, measured),
        )


Strata = dict[str, dict[str, GroupErrors]]


def judged_networks(
    predictor: LatencyPredictor, fitted: Sequence[MeasuredRow], held: Sequence[MeasuredRow]
) -> tuple[JudgedNetwork, ...]:
    """Return the networks ``held`` out, as the predictor and plainer ones, fitted to the same, predict them."""
    space, genes = predictor.space, genes_of(held)
    assert predictor.table is not None
    prediction, table_ms = predictor.predict(genes), predictor.table.predict_ms(genes)
    costs = NetworkCosts(space, predictor.images)
    seen, unseen = (
        np.column_stack([np.ones(len(rows)), costs.predict(genes_of(rows), "macs_m")]) for rows in (fitted, held)
    )
    macs_ms = unseen @ robust_weights(seen, latencies_of(fitted))
    return tuple(
        JudgedNetwork(
            role=row.role,
            blocks=len(candidate.active_blocks()),
            resolution=candidate.resolution,
            int8=float(np.mean([precision not in FLOATS for precision in candidate.precisions])),
            measured_ms=row.latency_ms,
            predicted_ms=float(prediction.mean[at]),
            low_ms=float(prediction.low[at]),
            high_ms=float(prediction.high[at]),
            table_ms=float(table_ms[at]),
            macs_ms=float(macs_ms[at]),
        )
        for at, (row, candidate) in enumerate(zip(held, map(space.candidate, genes), strict=True))
    )


def errors_by_stratum(networks: Sequence[JudgedNetwork]) -> Strata:
    """Return the errors among networks of like depth, of like resolution, and of a like share of int8."""
    blocks, pixels, share = (np.array([getattr(one, name) for one in networks]) for name in STRATIFIED)
    quantized = {"none": share == 0, "to half": (share > 0) & (share <= 0.5), "more": share > 0.5, "all": share == 1}
    quantized["more"] &= ~quantized["all"]
    kinds = {"depth": _ranges(blocks, "blocks"), "resolution": _ranges(pixels, "px"), "int8 share": quantized}
    return {
        kind: {label: _errors(networks, alike) for label, alike in groups.items() if alike.any()}
        for kind, groups in kinds.items()
    }


def _errors(networks: Sequence[JudgedNetwork], chosen: NDArray[np.bool_]) -> GroupErrors:
    alike = [one for one, taken in zip(networks, chosen, strict=True) if taken]
    return GroupErrors.of((one.predicted_ms for one in alike), alike)


def _ranges(values: NDArray[np.int_], unit: str) -> dict[str, NDArray[np.bool_]]:
    """Return which of ``values`` are in each of ``RANGES`` ranges at most, by the range."""
    ranges = np.array_split(np.unique(values), min(RANGES, len(np.unique(values))))
    return {f"{_range(one)} {unit}": np.isin(values, one) for one in ranges}


def _range(values: NDArray[np.int_]) -> str:
    return str(values[0]) if len(values) == 1 else f"{values[0]} to {values[-1]}"


def errors_of_plainer(networks: Sequence[JudgedNetwork]) -> dict[str, GroupErrors]:
    """Return the errors of the table without its correction, and of multiply-adds alone."""
    return {
        TABLE: GroupErrors.of((one.table_ms for one in networks), networks),
        MACS: GroupErrors.of((one.macs_ms for one in networks), networks),
    }


def held_out_table(networks: Sequence[JudgedNetwork], noise: float, repeated: int) -> list[str]:
    """Return the errors as lines: over all, by stratum, of plainer predictors, and of one measurement.

    Args:
        networks: The networks.
        noise: How far a measurement is off in the mean, which a perfect predictor would seem to be.
        repeated: Networks that this was seen on.
    """
    everything = GroupErrors.of((one.predicted_ms for one in networks), networks)
    strata = [
        (f"{kind}: {label}", one) for kind, own in errors_by_stratum(networks).items() for label, one in own.items()
    ]
    rows = [("all", everything), *strata, *errors_of_plainer(networks).items()]
    width = max(len(name) for name in (NOISE, *(name for name, _ in rows)))
    head = "held-out error".ljust(width) + "  networks   mean  median  worst    bias  in 10 %  Spearman"
    lines = [
        f"{name:{width}}  {one.networks:8d}  {one.mean:5.1%}  {one.median:6.1%}  {one.worst:5.1%}  {one.bias:+6.1%}  "
        f"{one.within_10:7.0%}  {one.spearman:8.3f}"
        for name, one in rows
    ]
    return [head, *lines, f"{NOISE:{width}}  {repeated:8d}  {noise:5.1%}"]
