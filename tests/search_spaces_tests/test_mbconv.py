"""Rows, networks and features of the inverted-residual space agree, for the shipped preset and small random ones."""

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_presets import all_rows, enumerable_spaces, make_preset, network, random_rows, small_spaces

from nas.errors import UsageError
from search_spaces import Block, MBConvSpace, get_space

FASHION = get_space("fashion-mbv3")
spaces = st.just(FASHION) | small_spaces
seeds = st.integers(0, 2**32 - 1)


@settings(max_examples=25)
@given(enumerable_spaces)
def test_size_and_canonical_rows_and_features_count_the_same_networks(space: MBConvSpace) -> None:
    rows = all_rows(space)
    networks = [network(space, row) for row in rows]
    canonical = space.canonical(rows)
    assert len(set(networks)) == space.size == len(np.unique(canonical, axis=0))
    assert len(np.unique(space.encode(rows), axis=0)) == space.size
    assert [network(space, row) for row in canonical] == networks


@given(spaces, seeds)
def test_canonical_is_idempotent_and_keeps_features_and_codes(space: MBConvSpace, seed: int) -> None:
    rows = random_rows(space, 300, seed)
    canonical = space.canonical(rows)
    assert np.array_equal(space.canonical(canonical), canonical)
    assert np.array_equal(space.encode(rows), space.encode(canonical))
    assert np.array_equal(space.part_codes(rows)[:, 1:-1], space.part_codes(canonical)[:, 1:-1])


@given(spaces, seeds)
def test_codes_spell_the_network(space: MBConvSpace, seed: int) -> None:
    rows = random_rows(space, 20, seed)
    for row, codes in zip(rows, space.part_codes(rows)[:, 1:-1], strict=True):
        spelled = [
            (position.name, choice.kernel, choice.middle, choice.precision)
            for number, (position, code) in enumerate(zip(space.block_positions, codes, strict=True))
            if code
            for choice in [space.block_choices(number)[code - 1]]
        ]
        assert spelled == list(network(space, row)[3:])


@given(spaces, seeds)
def test_features_are_named_for_what_they_stand_for(space: MBConvSpace, seed: int) -> None:
    row = random_rows(space, 1, seed)
    names = np.array(space.feature_names)[space.encode(row)[0] == 1]
    resolution, stem, head, *blocks = network(space, row[0])
    expected = [f"resolution={resolution}", f"stem.precision={stem}", f"head.precision={head}"]
    for name, kernel, middle, precision in blocks:
        expected += [f"{name}.kernel={kernel}", f"{name}.middle={middle}", f"{name}.precision={precision}"]
    assert names.tolist() == expected


@settings(max_examples=20)
@given(enumerable_spaces.filter(lambda space: space.size <= 200), seeds)
def test_every_network_is_drawn_sooner_or_later(space: MBConvSpace, seed: int) -> None:
    drawn = space.sample(20_000, np.random.default_rng(seed))  # the rarest is drawn 25 times on average, or more
    assert len(np.unique(drawn, axis=0)) == space.size


def test_every_choice_is_equally_likely() -> None:
    genes = FASHION.sample(200_000, np.random.default_rng(0))
    first = FASHION.part_codes(genes)[:, 1]
    counts = [np.bincount(first)[1:], *(np.bincount(genes[:, gene]) for gene in range(7))]
    for count in counts:
        expected = len(genes) / len(count)
        assert np.abs(count - expected).max() < 5 * expected**0.5


def test_equal_middle_widths_are_the_same_network() -> None:
    space = MBConvSpace(make_preset())
    row = space.largest()
    names = space.gene_names
    wide_and_pruned, narrow = row.copy(), row.copy()
    wide_and_pruned[names.index("block_0_0.keep")] = 0  # expand 6, half of it kept
    narrow[names.index("block_0_0.expand")] = 0  # expand 3, all of it
    assert np.array_equal(space.canonical(wide_and_pruned[None]), space.canonical(narrow[None]))
    assert space.candidate(wide_and_pruned).id == space.candidate(narrow).id


@given(seeds)
def test_the_precision_of_a_block_matters_exactly_if_the_block_is_there(seed: int) -> None:
    row = FASHION.sample(1, np.random.default_rng(seed))
    there = FASHION.part_codes(row)[0, 1:-1] > 0
    features = FASHION.encode(row)
    for number, position in enumerate(FASHION.block_positions):
        other = row.copy()
        other[0, FASHION.gene_names.index(f"{position.name}.precision")] ^= 1
        assert (FASHION.encode(other) != features).any() == there[number]
        assert (FASHION.canonical(other) != row).any() == there[number]


@given(spaces, seeds)
def test_a_block_that_only_one_parent_has_comes_from_it(space: MBConvSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = space.sample(100, rng), space.sample(100, rng)
    child = space.crossover(a, b, rng)
    codes_a, codes_b, codes = (space.part_codes(genes)[:, 1:-1] for genes in (a, b, child))
    for mine, other in ((codes_a, codes_b), (codes_b, codes_a)):
        only = (mine > 0) & (other == 0) & (codes > 0)
        assert np.array_equal(codes[only], mine[only])


@given(spaces, seeds)
def test_crossover_takes_each_choice_of_a_block_from_a_parent(space: MBConvSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = space.sample(30, rng), space.sample(30, rng)
    for one, two, child in zip(a, b, space.crossover(a, b, rng), strict=True):
        parents = [{block[0]: block[1:] for block in network(space, row)[3:]} for row in (one, two)]
        for name, *choices in network(space, child)[3:]:
            for number, choice in enumerate(choices):
                assert choice in [parent[name][number] for parent in parents if name in parent]


def test_mutation_draws_a_block_that_comes_in_from_all_its_choices() -> None:
    small = np.repeat(FASHION.smallest()[None], 20_000, axis=0)
    children = FASHION.mutate(small, np.random.default_rng(0), 0.1)
    third = FASHION.part_codes(children)[:, 3]
    assert set(third) == set(range(len(FASHION.block_choices(2)) + 1))


def test_largest_and_smallest_hold_the_extremes() -> None:
    for precision in FASHION.precisions:
        large, small = (FASHION.candidate(row) for row in (FASHION.largest(precision), FASHION.smallest(precision)))
        assert set(large.precisions) == set(small.precisions) == {precision}
        assert (len(large.active_blocks()), len(small.active_blocks())) == (16, 8)
        assert {block.kernel for block in large.active_blocks()} == {7}
        assert {(block.expand, block.keep) for block in small.active_blocks()} == {(3, 0.5)}


def test_precisions_can_be_set_unit_by_unit() -> None:
    rows = FASHION.sample(50, np.random.default_rng(0))
    values = np.random.default_rng(1).integers(2, size=(50, FASHION.num_blocks + 2))
    mixed = FASHION.with_precisions(rows, values)
    assert np.array_equal(FASHION.with_precision(mixed, "fp32"), FASHION.with_precision(rows, "fp32"))
    there = np.hstack([np.ones((50, 1)), FASHION.part_codes(rows)[:, 1:-1], np.ones((50, 1))]) > 0
    for row, wanted, on in zip(mixed, values, there, strict=True):
        assert FASHION.candidate(row).precisions == tuple(FASHION.precisions[value] for value in wanted[on])


def test_a_devices_menu_makes_a_smaller_space() -> None:
    fp32 = get_space("fashion-mbv3", precisions=["fp32"])
    assert fp32.size < FASHION.size and fp32.num_features < FASHION.num_features
    row = fp32.sample(1, np.random.default_rng(0))[0]
    assert network(FASHION, FASHION.genes(fp32.candidate(row))) == network(fp32, row)


@pytest.mark.parametrize("precisions", [[], ["fp32", "fp32"]])
def test_a_menu_is_one_or_more_names_none_twice(precisions: list[str]) -> None:
    with pytest.raises(UsageError, match=r"precisions \[.*of fashion-mbv3; allowed: one or more, none twice"):
        get_space("fashion-mbv3", precisions=precisions)


def test_an_unknown_precision_is_refused_with_the_menu() -> None:
    with pytest.raises(UsageError, match=r"precision 'int4'; allowed: fp32, int8"):
        FASHION.with_precision(FASHION.sample(1, np.random.default_rng(0)), "int4")


def test_a_stage_that_skips_a_block_is_refused() -> None:
    candidate = FASHION.candidate(FASHION.largest())
    gap = (candidate.blocks[0][0], None, *candidate.blocks[0][2:])
    with pytest.raises(UsageError, match="stage 0 lacks a block before one it has"):
        FASHION.genes(replace(candidate, blocks=(gap, *candidate.blocks[1:])))


def test_a_candidate_of_another_shape_is_refused() -> None:
    candidate = FASHION.candidate(FASHION.largest())
    with pytest.raises(UsageError, match=r"stages of \[4, 4, 4\] blocks; allowed: \[4, 4, 4, 4\]"):
        FASHION.genes(replace(candidate, blocks=candidate.blocks[:3]))
    shallow = ((candidate.blocks[0][0], None, None, None), *candidate.blocks[1:])
    with pytest.raises(UsageError, match="depth of stage 0 1; allowed: 2, 3, 4"):
        FASHION.genes(replace(candidate, blocks=shallow))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "other"}, "candidate of space 'other'; allowed: 'fashion-mbv3'"),
        ({"resolution": 21}, "resolution 21; allowed: 20, 24, 28"),
        ({"stem": "int4"}, "stem precision 'int4'; allowed: fp32, int8"),
        ({"head": "fp16"}, "head precision 'fp16'; allowed: fp32, int8"),
        ({"stem_depth": 1}, "a depth of the stem or with widths; allowed: none in space 'fashion-mbv3'"),
        ({"widths": (1.0,)}, "a depth of the stem or with widths; allowed: none in space 'fashion-mbv3'"),
    ],
)
def test_a_candidate_with_a_choice_that_the_space_lacks_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FASHION.genes(replace(FASHION.candidate(FASHION.largest()), **change))


@pytest.mark.parametrize(
    ("block", "message"),
    [
        (Block(9, 3, 1.0, "fp32"), "block_0_0: kernel 9; allowed: 3, 5, 7"),
        (Block(3, 5, 1.0, "fp32"), "block_0_0: expand 5; allowed: 3, 4, 6"),
        (Block(3, 3, 0.9, "fp32"), "block_0_0: keep 0.9; allowed: 0.5, 0.75, 1.0"),
        (Block(3, 3, 1.0, "int4"), "block_0_0: precision 'int4'; allowed: fp32, int8"),
    ],
)
def test_a_block_with_a_choice_that_the_space_lacks_is_refused(block: Block, message: str) -> None:
    candidate = FASHION.candidate(FASHION.largest())
    first = (block, *candidate.blocks[0][1:])
    with pytest.raises(UsageError, match=message):
        FASHION.genes(replace(candidate, blocks=(first, *candidate.blocks[1:])))


def test_feature_maps_shrink_with_the_strides() -> None:
    strides = [FASHION.preset.stem_stride, *(position.stride for position in FASHION.block_positions)]
    sizes = [FASHION.feature_size(20, block) for block in range(FASHION.num_blocks)]
    expected, side = [], 20
    for stride in strides[:-1]:
        side = -(-side // stride)
        expected.append(side)
    assert sizes == expected


def test_the_digest_tells_spaces_and_menus_apart() -> None:
    fp32 = get_space("fashion-mbv3", precisions=["fp32"])
    assert FASHION.digest == get_space("fashion-mbv3").digest != fp32.digest
