"""Presets small enough to enumerate, drawn by hypothesis, and what a row means, decoded the slow and plain way."""

from itertools import product

import numpy as np
from hypothesis import strategies as st

from search_spaces import MBConvPreset, MBConvSpace
from search_spaces.mbconv_preset import MBConvStage

LARGEST = 4000  # rows, canonical or not


def make_preset(**changes) -> MBConvPreset:
    values = {
        "name": "small",
        "summary": "for tests",
        "resolutions": (12, 16),
        "channels": 1,
        "classes": 3,
        "activation": "relu",
        "dropout": 0.0,
        "precisions": ("fp32", "int8"),
        "stem_width": 8,
        "stem_stride": 2,
        "head_width": 16,
        "kernels": (3, 5),
        "expands": (3, 6),
        "keeps": (0.5, 1.0),
        "round_to": 8,
        "stages": (MBConvStage(16, 2, (1, 2)),),
    }
    return MBConvPreset(**{**values, **changes})


def subsets(*values, most=None):
    return st.sets(st.sampled_from(values), min_size=1, max_size=most).map(lambda chosen: tuple(sorted(chosen)))


def stages():
    one = st.builds(MBConvStage, st.sampled_from([8, 12, 16]), st.sampled_from([1, 2]), subsets(1, 2, most=2))
    return st.lists(one, min_size=1, max_size=2).map(tuple)


small_presets = st.builds(
    make_preset,
    resolutions=subsets(12, 16, most=2),
    precisions=st.sampled_from([("fp32",), ("fp32", "int8"), ("int8", "fp32")]),
    stem_width=st.sampled_from([4, 8, 12]),
    kernels=subsets(3, 5, 7, most=2),
    expands=subsets(1, 2, 3, 6, most=3),
    keeps=subsets(0.25, 0.5, 0.75, 1.0, most=3),
    round_to=st.sampled_from([4, 8]),
    stages=stages(),
)
small_spaces = small_presets.map(MBConvSpace)
enumerable_spaces = small_spaces.filter(lambda space: np.prod(space.cardinalities, dtype=float) <= LARGEST)


def all_rows(space: MBConvSpace) -> np.ndarray:
    """Return every row of genes, canonical or not."""
    return np.array(list(product(*map(range, space.cardinalities))), np.int8)


def random_rows(space: MBConvSpace, n: int, seed: int) -> np.ndarray:
    """Draw rows that need not be canonical."""
    return np.random.default_rng(seed).integers(space.cardinalities, size=(n, space.num_genes)).astype(np.int8)


def network(space: MBConvSpace, row: np.ndarray) -> tuple:
    """Decode a row: resolution, precisions, then (name, kernel, middle, precision) of each block there is."""
    preset = space.preset
    gene = dict(zip(space.gene_names, row.tolist(), strict=True))
    blocks = []
    for position in space.block_positions:
        if position.index < preset.stages[position.stage].depths[gene[f"depth_{position.stage}"]]:
            kernel, expand, keep, precision = (
                gene[f"{position.name}.{name}"] for name in ("kernel", "expand", "keep", "precision")
            )
            middle = preset.middle(position.in_width, preset.expands[expand], preset.keeps[keep])
            blocks.append((position.name, preset.kernels[kernel], middle, space.precisions[precision]))
    ends = (space.precisions[gene["stem.precision"]], space.precisions[gene["head.precision"]])
    return (preset.resolutions[gene["resolution"]], *ends, *blocks)
