"""The entropy of NAS-Bench-201's cells, which are no chains, and the scores that NASLib published of 725 of them.

The entropy of a layer is by how much it spreads: the logarithm of the deviation of what unit weights make of unit
inputs. In a cell every edge multiplies the variance of what it reads (3x3 convolution: 9 C; 1x1: C; skip: 1; the mean
of 3x3 pixels: 1/9; none: 0), and a node adds up the variances of its edges. So a cell multiplies the variance by that
of its output, and a chain of layers is the special case that ``predictors.entropy`` sums.
"""

import csv
import gzip
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.files import read_bytes
from nasbench.nasbench201 import EDGES, OPERATIONS, OUTPUT
from predictors.entropy import WEIGHTS

CHANNELS, CELLS = (16, 32, 64), 5  # of each of the three stages
PROXIES = ("synflow", "nwot", "jacov", "epe_nas", "snip", "grad_norm", "fisher", "l2_norm", "grasp", "plain")
COUNTED = ("params", "flops")
SETS = {"cifar10": "cifar10", "cifar100": "cifar100", "in16": "ImageNet16-120"}
LEAST = 1e-30  # of a variance: what is disconnected comes last

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Proxies:
    """Published scores of cells: their digits, and by data set and name the scores ``(n,)``."""

    cells: tuple[str, ...]
    scores: dict[str, dict[str, Floats]]


def read_proxies(data: Path) -> Proxies:
    """Read the scores of the cells that all data sets have; a cell without a score comes last."""
    text = gzip.decompress(read_bytes(data / "naslib_zc" / "nb201_zero_cost_725.csv.gz")).decode()
    lines = list(csv.DictReader(io.StringIO(text)))
    by_set = {name: {line["ops"]: line for line in lines if line["dataset"] == of} for name, of in SETS.items()}
    cells = tuple(sorted(set.intersection(*(set(found) for found in by_set.values()))))
    scores = {
        name: {
            proxy: np.array([float(found[cell][proxy] or -np.inf) for cell in cells]) for proxy in (*PROXIES, *COUNTED)
        }
        for name, found in by_set.items()
    }
    return Proxies(cells, scores)


def cell_entropy(cells: Sequence[str]) -> Floats:
    """Return the entropy of networks of cells, given by their six digits, ``(n,)``."""
    digits = np.array([[int(digit) for digit in cell] for cell in cells])
    sums = np.cumsum([CELLS * 0.5 * np.log(_spread(digits, channels)) for channels in CHANNELS], axis=0)
    return np.asarray(np.array(WEIGHTS) @ sums)


def _spread(digits: NDArray[np.int64], channels: int) -> Floats:
    """Return by how much a cell of so many channels multiplies the variance, ``(n,)``."""
    gains = dict(zip(OPERATIONS, (0.0, 1.0, channels, 9.0 * channels, 1 / 9), strict=True))
    by_digit = np.array(list(gains.values()))
    nodes = [np.ones(len(digits)), *(np.zeros(len(digits)) for _ in range(OUTPUT))]
    for edge, (source, target) in enumerate(EDGES):
        nodes[target] = nodes[target] + by_digit[digits[:, edge]] * nodes[source]
    return np.maximum(nodes[OUTPUT], LEAST)
