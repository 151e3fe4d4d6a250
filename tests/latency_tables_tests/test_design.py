"""A calibration measures distinct networks, the ends among them, and what a search would return."""

from dataclasses import replace

import numpy as np
import pytest
from tiny_families import TINY
from tiny_space import tiny_space

from latency_tables.costs import Images
from latency_tables.design import searched_networks, spread_networks, without
from latency_tables.features import cost_features, weighted_sum
from search_spaces import MBConvSpace, SearchSpace, get_space

SPACES = [get_space("fashion-mbv3"), get_space("fashion-mbv3", ("fp32",)), *(make() for make in TINY.values())]


@pytest.mark.parametrize("space", SPACES, ids=lambda space: f"{space.name}-{len(space.precisions)}")
def test_spread_networks_are_distinct_canonical_and_begin_with_the_ends(space: SearchSpace) -> None:
    genes = spread_networks(space, 100, np.random.default_rng(0))
    assert len(np.unique(genes, axis=0)) == len(genes) == 100
    assert np.array_equal(space.canonical(genes), genes)
    rows = {row.tobytes() for row in genes[: 2 * len(space.precisions)]}
    assert {end(name).tobytes() for name in space.precisions for end in (space.largest, space.smallest)} == rows


def test_spread_networks_hold_uniform_and_mixed_precision() -> None:
    space = SPACES[0]
    shares = [
        np.mean([precision == "int8" for precision in space.candidate(row).precisions])
        for row in spread_networks(space, 100, np.random.default_rng(0))
    ]
    assert min(np.sum(np.array(shares) == share) for share in (0.0, 1.0)) >= 10
    assert np.sum([0.2 < share < 0.8 for share in shares]) >= 20


def test_a_space_that_is_all_known_has_nothing_left_to_search() -> None:
    space = tiny_space(("fp32",))
    space = MBConvSpace(replace(space.preset, kernels=(3,), expands=(2,), resolutions=(12,)), ("fp32",))
    known = np.unique(space.sample(2000, np.random.default_rng(0)), axis=0)
    assert len(known) == space.size
    features = cost_features(space, Images(1, 3))
    table = weighted_sum(features, np.full(len(features), 1e-3))
    assert len(searched_networks(space, table.predict_ms, 5, np.random.default_rng(0), known=known)) == 0
    some = searched_networks(space, table.predict_ms, 5, np.random.default_rng(0), known=known[3:])
    assert sorted(map(tuple, some)) == sorted(map(tuple, known[:3]))


def test_searched_networks_have_more_in_them_for_their_latency_than_random_ones() -> None:
    space, rng = SPACES[0], np.random.default_rng(0)
    features = cost_features(space, Images(1, 10))
    table = weighted_sum(features, np.full(len(features), 1e-3))
    genes = searched_networks(space, table.predict_ms, 24, rng)
    assert len(np.unique(genes, axis=0)) == 24
    ms = table.predict_ms(genes)
    assert ms.max() / ms.min() > 2
    others = searched_networks(space, table.predict_ms, 24, np.random.default_rng(0), known=genes)
    assert len(others) == 24 and len(without(others, genes)) == 24
    assert len(searched_networks(space, table.predict_ms, 0, rng, known=genes)) == 0
    depth = [(space.part_codes(rows)[:, 1:-1] > 0).sum(1).mean() for rows in (genes, space.sample(500, rng))]
    assert depth[0] > depth[1]
