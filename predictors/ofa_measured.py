"""Measured accuracies of once-for-all's subnets, as DyNAS-T publishes them (Intel Labs, Apache-2.0).

A CSV, gzipped or not, with the columns ``ks`` and ``e`` (one digit a block), ``d`` (one digit a stage), ``r`` (pixels)
and ``top1`` (per cent); other columns are left alone.
"""

import csv
import gzip
import io
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.errors import FileFormatError, UsageError
from nas.files import read_bytes
from search_spaces import Block, Candidate, Genes, MBConvPreset, MBConvSpace, SearchSpace


def read_measured(path: str | Path, space: SearchSpace) -> tuple[Genes, NDArray[np.float64]]:
    """Return the networks ``(n, num_genes)`` and their accuracies, fractions ``(n,)``.

    Raises:
        FileFormatError: The file is missing or damaged, or a line is no network of the space; the message says which.
        UsageError: The space is of a family that the columns do not describe.
    """
    if not isinstance(space, MBConvSpace):
        raise UsageError(f"columns ks, e, d for space {space.name!r}; allowed: spaces of family {MBConvPreset.family}")
    path = Path(path)
    data = read_bytes(path)
    try:
        text = (gzip.decompress(data) if path.suffix == ".gz" else data).decode()
    except (OSError, EOFError, UnicodeDecodeError) as error:
        raise FileFormatError(f"{path}: not a CSV file ({error})") from error
    rows, accuracies = [], []
    for number, line in enumerate(csv.DictReader(io.StringIO(text)), start=2):
        try:
            rows.append(space.genes(spelled_candidate(line["ks"], line["e"], line["d"], line["r"], space)))
            accuracies.append(float(line["top1"]) / 100)
        except (KeyError, ValueError, TypeError, IndexError, UsageError) as error:
            raise FileFormatError(f"{path}: line {number} is no network of {space.name!r} ({error})") from error
    if not rows:
        raise FileFormatError(f"{path}: it has no lines; allowed: columns ks, e, d, r, top1 and one network a line")
    return np.stack(rows), np.array(accuracies)


def spelled_candidate(ks: str, e: str, d: str, r: str, space: MBConvSpace) -> Candidate:
    """Return the network, in fp32, of kernels and expansions (a digit a block), depths (a digit a stage) and pixels.

    Raises:
        ValueError: Something is no digit.
        IndexError: The digits are too few for the space.
    """
    kernels, expands, depths = ([int(digit) for digit in digits] for digits in (ks, e, d))
    blocks: list[list[Block | None]] = [[] for _ in space.preset.stages]
    for number, position in enumerate(space.block_positions):
        there = position.index < depths[position.stage]
        block = Block(kernels[number], expands[number], space.preset.keeps[-1], "fp32")
        blocks[position.stage].append(block if there else None)
    return Candidate(space.name, int(r), "fp32", tuple(map(tuple, blocks)), "fp32")
