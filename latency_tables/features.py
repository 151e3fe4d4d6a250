"""What a part's latency is made of, as tables: a *feature* is a table that holds an amount instead of milliseconds.

The features of a whole network are the sums of those of its parts, by the same lookups that sum milliseconds; and a
weighted sum of feature tables is a latency table. So a regression over whole measured networks yields every entry of
the table, those never measured included. (nn-Meter and its followers time kernels one by one: more timings, and none of
them in place.)

The amounts are of the graph that runs, chosen by cross-validation on measured networks. Convolutions are charged
multiply-adds and elements moved, with channels also rounded up to the vector width (depthwise kernels have a slow path
where they do not divide by it), apart for each precision and depthwise kernel; batch norms and activations are part of
their convolution, h-swish alone is passes of its own, and so is squeeze-and-excitation; a residual sum is a pass over
its output; a change of precision is a pass over the tensor in between.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from math import prod

import numpy as np

from latency_tables.measurement import Floats
from latency_tables.table import LatencyTable, Part
from search_spaces import Genes, MBConvSpace, Preset

VECTOR = 16  # channels that the blocked kernels work on at once

Features = dict[str, LatencyTable]


@dataclass(frozen=True)
class Images:
    """What the images ask of a network: channels of its input, classes of its output."""

    channels: int
    classes: int


def cost_features(space: MBConvSpace, images: Images) -> Features:
    """Return the amounts that latency is regressed on, none negative: name to table."""
    return _tables(space, lambda part: _costs(space, images, part))


def count_features(space: MBConvSpace) -> Features:
    """Return the counts that a multiplicative correction is regressed on: resolution, and parts of each sort."""
    return _tables(space, lambda part: _counts(space, part))


def feature_matrix(features: Features, genes: Genes) -> Floats:
    """Return the features of whole networks ``(n, features)``."""
    return np.column_stack([table.predict_ms(genes) for table in features.values()]).astype(np.float64)


def weighted_sum(features: Features, weights: Floats) -> LatencyTable:
    """Return the table whose entries are the weighted sums of the features' entries."""
    tables = list(features.values())
    total = LatencyTable.zeros(tables[0].space)
    for (_, array, at), *parts in zip(total.parts(), *(table.parts() for table in tables), strict=True):
        array[at] = sum(weight * values[at] for weight, (_, values, _) in zip(weights, parts, strict=True))
    return total


def _tables(space: MBConvSpace, amounts: Callable[[Part], dict[str, float]]) -> Features:
    blank = LatencyTable.zeros(space)
    found = [amounts(part) for part, _, _ in blank.parts()]
    tables = {name: LatencyTable.zeros(space) for name in dict.fromkeys(name for entry in found for name in entry)}
    for name, table in tables.items():
        for entry, (_, array, at) in zip(found, table.parts(), strict=True):
            array[at] = entry.get(name, 0.0)
    return tables


def _costs(space: MBConvSpace, images: Images, part: Part) -> dict[str, float]:
    """Return a part's amounts, scaled to be of the order of one."""
    preset, precision = space.preset, part.precision
    if part.kind == "constant":
        return {"network": 1.0}
    if part.kind == "stem":
        macs = space.feature_size(part.resolution, 0) ** 2 * _stem_macs(preset, images)
        return {f"{precision} stem": 1.0, f"{precision} stem macs": macs / 1e5}
    if part.kind == "head":
        macs = _side_before(space, part) ** 2 * preset.stages[-1].width * preset.head_width
        macs += sum(map(prod, pairwise(filter(None, (preset.head_width, preset.head_mix_width, images.classes)))))
        return {f"{precision} head": 1.0, f"{precision} head macs": macs / 1e5}
    if part.kind == "boundary":
        change = f"{part.before} to {precision}"
        return {change: 1.0, f"{change} elements": _side_before(space, part) ** 2 * _width_before(space, part) / 1e4}
    return {f"{precision} {name}": amount for name, amount in _block_costs(space, part).items()}


def _stem_macs(preset: Preset, images: Images) -> int:
    """Return the stem's multiply-adds for each pixel that it puts out."""
    block = 9 + preset.stem_block_width if preset.stem_block_width else 0
    return (9 * images.channels + block) * preset.stem_width


def _block_costs(space: MBConvSpace, part: Part) -> dict[str, float]:
    assert part.block is not None and part.choice is not None
    position, middle, kernel = space.block_positions[part.block], part.choice.middle, part.choice.kernel
    side = _side_before(space, part)
    before, after = side**2, (-(-side // position.stride)) ** 2
    padded = -(-middle // VECTOR) * VECTOR
    depthwise = after * kernel**2 / 1e5
    residual = 1.0 if position.residual else 0.0
    extras = {}
    if position.se:
        extras["squeeze-excite"] = 1.0
        extras["squeeze-excite elements"] = after * middle / 1e4
    if position.activation == "hswish":  # several passes where ReLU is part of the convolution
        extras["h-swish elements"] = (before + after) * middle / 1e4
    return extras | {
        f"block {kernel}": 1.0,
        "channels": middle / 100,
        "expand macs": before * position.in_width * middle / 1e5,
        "expand padded macs": before * position.in_width * padded / 1e5,
        "expand elements": before * middle / 1e4,
        f"depthwise {kernel} padded macs": depthwise * padded,
        "depthwise unaligned macs": depthwise * middle if middle % VECTOR else 0.0,
        "project macs": after * middle * position.out_width / 1e5,
        "project elements": after * position.out_width / 1e4,
        "residual": residual,
        "residual elements": residual * after * position.out_width / 1e4,
    }


def _counts(space: MBConvSpace, part: Part) -> dict[str, float]:
    precision = part.precision
    if part.kind == "stem":
        return {f"{part.resolution} px": 1.0, f"{precision} stem": 1.0}
    if part.kind == "head":
        return {f"{precision} head": 1.0}
    if part.kind == "boundary":
        return {f"{part.before} to {precision}": 1.0}
    if part.kind == "block":
        assert part.block is not None and part.choice is not None
        position = space.block_positions[part.block]
        return {
            f"{precision} stage {position.stage}": 1.0,
            f"{precision} kernel {part.choice.kernel}": 1.0,
            f"{precision} block at {part.resolution} px": 1.0,
            f"{precision} width in stage {position.stage}": part.choice.middle / (4 * position.in_width),
        }
    return {}


def _side_before(space: MBConvSpace, part: Part) -> int:
    """Return the side in pixels of the feature map that enters a block, a boundary or the head."""
    block = space.num_blocks if part.block is None else part.block
    if block < space.num_blocks:
        return space.feature_size(part.resolution, block)
    last = space.feature_size(part.resolution, space.num_blocks - 1)
    return -(-last // space.block_positions[-1].stride)


def _width_before(space: MBConvSpace, part: Part) -> int:
    """Return the channels of the tensor at a boundary."""
    if part.block is None or part.block == space.num_blocks:
        return space.preset.stages[-1].width
    return space.block_positions[part.block].in_width
