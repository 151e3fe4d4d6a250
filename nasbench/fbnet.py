"""FBNet's networks (Wu et al., 2019) on 32-pixel images, as HW-NAS-Bench builds them: 22 digits, one a layer.

A layer is a block of a pointwise, a depthwise and a pointwise convolution (kernel, expansion and groups by its digit),
or a skip, which is nothing where the layer keeps its shape and a pointwise convolution where it does not.
"""

import re
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np

from nasbench.benchmark import Floats

# kernel, expansion, groups
BLOCKS = ((3, 1, 1), (3, 1, 2), (3, 3, 1), (3, 6, 1), (5, 1, 1), (5, 1, 2), (5, 3, 1), (5, 6, 1))
SKIP = len(BLOCKS)
# layers, width, stride of the first
STAGES = ((1, 16, 1), (4, 24, 1), (4, 32, 2), (4, 64, 2), (4, 112, 1), (4, 184, 2), (1, 352, 1))
STEM_WIDTH, PIXELS = 16, 32
AMOUNTS = (
    "network",
    "blocks",
    "blocks of two groups",
    "projections",
    "pointwise macs",
    "grouped macs",
    "depthwise 3 macs",
    "depthwise 5 macs",
    "elements",
)


def layers() -> Iterator[tuple[int, int, int, int]]:
    """Yield each layer's channels in and out, stride, and pixels that enter it."""
    widths = [STEM_WIDTH, *(width for count, width, _ in STAGES for _ in range(count))]
    strides = [stride if first == 0 else 1 for count, _, stride in STAGES for first in range(count)]
    side = PIXELS
    for (width_in, width_out), stride in zip(pairwise(widths), strides, strict=True):
        yield width_in, width_out, stride, side**2
        side //= stride


def network_amounts(network: str) -> list[float]:
    """Return what a network of 22 digits computes, by ``AMOUNTS``; millions of multiply-adds and elements.

    Raises:
        ValueError: It is not so spelled.
    """
    shapes = list(layers())
    if not re.fullmatch(f"[0-{SKIP}]{{{len(shapes)}}}", network):
        raise ValueError(f"network {network[:40]!r}; allowed: {len(shapes)} digits of 0 to {SKIP}")
    total = dict.fromkeys(AMOUNTS, 0.0)
    total["network"] = 1.0
    for digit, (width_in, width_out, stride, pixels) in zip(map(int, network), shapes, strict=True):
        after = pixels / stride**2
        if digit == SKIP:
            if stride > 1 or width_in != width_out:
                total["projections"] += 1
                total["pointwise macs"] += after * width_in * width_out / 1e6
                total["elements"] += after * width_out / 1e6
            continue
        kernel, expand, groups = BLOCKS[digit]
        middle = width_in * expand
        total["blocks of two groups" if groups > 1 else "blocks"] += 1
        pointwise = (pixels * width_in + after * width_out) * middle / groups / 1e6
        total["grouped macs" if groups > 1 else "pointwise macs"] += pointwise
        total[f"depthwise {kernel} macs"] += after * middle * kernel**2 / 1e6
        total["elements"] += (pixels * middle + after * (middle + width_out)) / 1e6
    return list(total.values())


def amounts_of(networks: Sequence[str]) -> Floats:
    """Return ``network_amounts`` of each network, ``(n, amounts)``."""
    return np.array([network_amounts(network) for network in networks])
