"""The figures of the networks that judge a calibration, each with an interval over which networks were drawn.

Beside errors and rank correlations there are the two that a search feels: the order among the fastest fifth, where
its front is, and how often what it takes for within a budget is over it. Shares of networks have Wilson's interval,
all else a percentile bootstrap over networks; with a handful of them both are wide, and the latter is too narrow
still.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy.stats import rankdata

from latency_tables.measurement import Floats
from predictors.held_out import JudgedNetwork

DRAWS, LEVEL = 1000, 0.95
NORMAL = 1.96  # the standard normal's quantile for that level
FASTEST = 0.2
LABELS = {
    "mean": "mean error",
    "median": "median error",
    "bias": "bias, median",
    "within_5": "within 5 %",
    "within_10": "within 10 %",
    "coverage": "in the 90 % interval",
    "over_budget": "over the budget",
    "spearman": "Spearman",
    "kendall": "Kendall",
    "kendall_fastest": "Kendall, fastest fifth",
}
SHARES = ("within_5", "within_10", "coverage")
RANKS = ("spearman", "kendall", "kendall_fastest")


@dataclass(frozen=True)
class Figure:
    """A figure and its 95 % interval."""

    value: float
    low: float
    high: float


def judged_figures(networks: Sequence[JudgedNetwork]) -> dict[str, Figure]:
    """Return the figures, by the names of ``LABELS``, of at least two networks.

    ``over_budget`` is, of the networks predicted to be within a budget, the share that measured over it; every
    network's measured latency is a budget in turn. Errors are fractions of the measured latency.
    """
    columns = ("predicted_ms", "measured_ms", "low_ms", "high_ms")
    table = np.array([[getattr(one, name) for name in columns] for one in networks]).T
    n = len(networks)
    draws = np.random.default_rng(0).integers(n, size=(DRAWS, n))
    rows = np.concatenate([np.arange(n)[None], draws])
    predicted, measured, low, high = table[:, rows]
    error = predicted / measured - 1
    size = np.abs(error)
    found = {
        "mean": size.mean(axis=1),
        "median": np.median(size, axis=1),
        "bias": np.median(error, axis=1),
        "within_5": (size <= 0.05).mean(axis=1),
        "within_10": (size <= 0.10).mean(axis=1),
        "coverage": ((low <= measured) & (measured <= high)).mean(axis=1),
        "over_budget": _over_budget(predicted, measured),
        "spearman": _spearman(predicted, measured),
        "kendall": _kendall(predicted, measured),
        "kendall_fastest": _kendall_of_fastest(predicted, measured),
    }
    ends = [(1 - LEVEL) / 2, (1 + LEVEL) / 2]
    figures = {name: Figure(float(one[0]), *map(float, np.quantile(one[1:], ends))) for name, one in found.items()}
    return {**figures, **{name: _share(figures[name].value, n) for name in SHARES}}


def figures_table(groups: Mapping[str, Sequence[JudgedNetwork]]) -> list[str]:
    """Return the figures as lines, a column for each group of networks."""
    columns = [judged_figures(networks) for networks in groups.values()]
    width = max(map(len, LABELS.values()))
    head = "".join(f"  {f'{name} ({len(networks)} networks)':>24}" for name, networks in groups.items())
    return [
        f"{'held out':{width}}{head}  [95 % interval]",
        *(
            f"{label:{width}}" + "".join(f"  {_cell(one[name], name in RANKS):>24}" for one in columns)
            for name, label in LABELS.items()
        ),
    ]


def _cell(one: Figure, is_rank: bool) -> str:
    form = "{:.3f} [{:.3f}, {:.3f}]" if is_rank else "{:.1%} [{:.1%}, {:.1%}]"
    return form.format(one.value, one.low, one.high)


def _share(share: float, n: int) -> Figure:
    """Return a share of ``n`` networks with Wilson's interval, which is not empty at 0 and 1 either."""
    middle, spread = share + NORMAL**2 / (2 * n), NORMAL * np.sqrt(share * (1 - share) / n + (NORMAL / (2 * n)) ** 2)
    whole = 1 + NORMAL**2 / n
    return Figure(share, max(0.0, float((middle - spread) / whole)), min(1.0, float((middle + spread) / whole)))


def _over_budget(predicted: Floats, measured: Floats) -> Floats:
    """Return the share over budget of each draw ``(draws, n)``, ``(draws,)``."""
    budgets = measured[:, :, None]
    taken = predicted[:, None, :] <= budgets
    over = taken & (measured[:, None, :] > budgets)
    return np.asarray(over.sum(axis=(1, 2)) / np.maximum(1, taken.sum(axis=(1, 2))), np.float64)


def _spearman(predicted: Floats, measured: Floats) -> Floats:
    ranks = [rankdata(values, axis=1) for values in (predicted, measured)]
    one, other = (rank - rank.mean(axis=1, keepdims=True) for rank in ranks)
    return _ratio((one * other).sum(axis=1), (one**2).sum(axis=1) * (other**2).sum(axis=1))


def _kendall(predicted: Floats, measured: Floats) -> Floats:
    """Return Kendall's tau-b of each draw."""
    one, other = (np.sign(values[:, :, None] - values[:, None, :]) for values in (predicted, measured))
    return _ratio((one * other).sum(axis=(1, 2)), (one**2).sum(axis=(1, 2)) * (other**2).sum(axis=(1, 2)))


def _kendall_of_fastest(predicted: Floats, measured: Floats) -> Floats:
    count = max(2, int(np.ceil(FASTEST * measured.shape[1])))
    fastest = np.argsort(measured, axis=1)[:, :count]
    return _kendall(*(np.take_along_axis(values, fastest, axis=1) for values in (predicted, measured)))


def _ratio(agreement: Floats, squares: Floats) -> Floats:
    """Return ``agreement`` over the root of ``squares``; 0 where there is no order to agree on."""
    return np.divide(agreement, np.sqrt(squares), out=np.zeros(len(squares)), where=squares > 0)
