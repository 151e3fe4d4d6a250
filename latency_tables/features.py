"""What a part's latency is made of, as tables: a *feature* is a table that holds an amount instead of milliseconds.

The features of a whole network are the sums of those of its parts, by the same lookups that sum milliseconds; and a
weighted sum of feature tables is a latency table. So a regression over whole measured networks yields every entry of
the table, those never measured included. (nn-Meter and its followers time kernels one by one: more timings, and none of
them in place. Networks that differ in one block would do it in place, but ``fashion-mbv3`` has 4,050 entries and
``ofa-mbv3`` 18,150, a network each; and where one repeats to 1 %, a block that is a twentieth of it does to 28 %.)

What a part amounts to is its family's to say (``costs``). Here is what all families share: every precision has amounts
of its own, and a change of precision is a pass over the tensor in between.
"""

from collections.abc import Callable

import numpy as np

from latency_tables.costs import Amounts, Images, part_costs
from latency_tables.measurement import Floats
from latency_tables.table import LatencyTable, Part
from search_spaces import Genes, SearchSpace

Features = dict[str, LatencyTable]

NETWORK = "network"  # the amount that every network has one of


def cost_features(space: SearchSpace, images: Images) -> Features:
    """Return the amounts that latency is regressed on, none negative: name to table."""
    costs = part_costs(space, images)

    def amounts(part: Part) -> Amounts:
        found = {f"{part.choice.precision} {name}": amount for name, amount in costs.amounts(part).items()}
        if change := _change(part):
            channels, side = costs.entering(part)
            found |= {change: 1.0, f"{change} elements": side**2 * channels / 1e4}
        return found

    tables = _tables(space, amounts)
    constant = LatencyTable.zeros(space)
    constant.constant_ms[0] = 1.0
    return {NETWORK: constant, **tables}


def count_features(space: SearchSpace) -> Features:
    """Return the counts that a multiplicative correction is regressed on: resolution, and parts of each sort."""
    costs = part_costs(space, Images(space.preset.channels, space.preset.classes))  # of which counts do not speak

    def counts(part: Part) -> Amounts:
        found = {f"{part.choice.precision} {name}": amount for name, amount in costs.counts(part).items()}
        if part.number == 0:
            found[f"{part.resolution} px"] = 1.0
        if change := _change(part):
            found[change] = 1.0
        return found

    return _tables(space, counts)


def _change(part: Part) -> str:
    """Return the change of precision before a part; empty for none."""
    own = part.choice.precision
    return f"{part.before} to {own}" if part.before not in ("", own) else ""


def feature_matrix(features: Features, genes: Genes) -> Floats:
    """Return the features of whole networks ``(n, features)``."""
    return np.column_stack([table.predict_ms(genes) for table in features.values()]).astype(np.float64)


def weighted_sum(features: Features, weights: Floats) -> LatencyTable:
    """Return the table whose entries are the weighted sums of the features' entries."""
    tables = list(features.values())
    total = LatencyTable.zeros(tables[0].space)
    for weight, table in zip(weights, tables, strict=True):
        for mine, theirs in zip((total.constant_ms, *total.part_ms), (table.constant_ms, *table.part_ms), strict=True):
            mine += weight * theirs
    return total


def _tables(space: SearchSpace, amounts: Callable[[Part], Amounts]) -> Features:
    tables: Features = {}
    for part, _, at in LatencyTable.zeros(space).entries():
        for name, amount in amounts(part).items():
            if name not in tables:
                tables[name] = LatencyTable.zeros(space)
            tables[name].part_ms[part.number][at] = amount
    return tables
