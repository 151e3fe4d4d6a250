"""Rows, networks, parts and features of the metaformer space agree, for the shipped presets and small random ones."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_presets import subsets

from nas.errors import FileFormatError, UsageError
from search_spaces import Candidate, MetaformerPreset, MetaformerSpace, get_space, preset_from_dict
from search_spaces.preset import Stage

FASHION = get_space("fashion-former")
seeds = st.integers(0, 2**32 - 1)


def make_space(**changes) -> MetaformerSpace:
    values = {
        "name": "small", "summary": "for tests", "resolutions": (16,), "channels": 1, "classes": 3, "dropout": 0.0,
        "precisions": ("fp32",), "activation": "relu", "stem_stride": 2, "widths": (1.0,), "round_to": 8,
        "mixers": ("pool", "conv"), "expands": (1, 2), "layer_scale": 0.1, "attentions": (0, 1, 2), "heads": 2,
        "key_width": 4, "value_width": 4, "stages": (Stage(16, 1, (1, 2)),),
    }  # fmt: skip
    return MetaformerSpace(MetaformerPreset(**{**values, **changes}))


small_spaces = st.builds(
    make_space,
    precisions=st.sampled_from([("fp32",), ("int8", "fp32")]),
    widths=subsets(0.4, 0.5, 1.0, most=2),
    mixers=st.sampled_from([("pool",), ("conv",), ("pool", "conv")]),
    expands=subsets(1, 2, 3, most=2),
    attentions=subsets(0, 1, 2),
    stages=st.lists(st.builds(Stage, st.sampled_from([16, 32]), st.just(1), subsets(1, 2)), min_size=1, max_size=2).map(
        tuple
    ),
).filter(lambda space: np.prod(space.cardinalities, dtype=float) <= 3000)
spaces = st.just(FASHION) | small_spaces


def network(space: MetaformerSpace, row: np.ndarray) -> tuple:
    """Decode a row the slow and plain way: resolution, precisions, then the channels and blocks of each stage."""
    preset, gene = space.preset, dict(zip(space.gene_names, row.tolist(), strict=True))
    decoded: list = [gene["resolution"], gene["stem.precision"], gene["head.precision"]]
    for number, stage in enumerate(preset.stages):
        depth = stage.depths[gene[f"depth_{number}"]]
        decoded.append(preset.stage_out(number, preset.widths[gene[f"width_{number}"]]))
        for index in range(depth):
            name = f"block_{number}_{index}"
            mixer = preset.mixers[gene[f"{name}.mixer"]]
            if number == len(preset.stages) - 1 and depth - index <= preset.attentions[gene["attention"]]:
                mixer = "attention"
            expand, precision = gene[f"{name}.expand"], gene[f"{name}.precision"]
            decoded.append((name, mixer, preset.expands[expand], space.precisions[precision]))
    return tuple(decoded)


def all_rows(space: MetaformerSpace) -> np.ndarray:
    return np.array(list(product(*map(range, space.cardinalities))), np.int8)


@settings(max_examples=20)
@given(small_spaces)
def test_size_and_canonical_rows_parts_and_features_count_the_same_networks(space: MetaformerSpace) -> None:
    rows = all_rows(space)
    networks = {network(space, row) for row in rows}
    canonical = np.unique(space.canonical(rows), axis=0)
    assert len(networks) == space.size == len(canonical) == len(np.unique(space.encode(rows), axis=0))
    assert len(np.unique(space.part_codes(canonical), axis=0)) * len(space.resolutions) == space.size


@given(spaces, seeds)
def test_canonical_keeps_the_network_and_is_idempotent(space: MetaformerSpace, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(space.cardinalities, size=(20, space.num_genes)).astype(np.int8)
    canonical = space.canonical(rows)
    assert np.array_equal(space.canonical(canonical), canonical)
    for row, same in zip(rows, canonical, strict=True):
        assert network(space, row) == network(space, same)
        assert np.array_equal(space.genes(space.candidate(row)), same)


@settings(max_examples=10)
@given(small_spaces.filter(lambda space: space.size <= 100), seeds)
def test_every_network_is_drawn_sooner_or_later(space: MetaformerSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    drawn = space.sample(10_000, rng)
    assert len(np.unique(drawn, axis=0)) == space.size
    mutated = space.mutate(np.repeat(drawn[:1], 10_000, axis=0), rng, 0.9)
    assert len(np.unique(mutated, axis=0)) == space.size


def test_numbers_of_attention_blocks_are_equally_likely_at_each_depth() -> None:
    genes = FASHION.sample(9000, np.random.default_rng(0))
    shallow = genes[genes[:, FASHION.gene_names.index("depth_2")] == 0]
    counts = FASHION.has_attention(shallow).sum(axis=1)
    assert np.bincount(counts) / len(shallow) == pytest.approx([0.5, 0.5], abs=0.03)


@given(spaces, seeds)
def test_parts_say_what_fills_a_network(space: MetaformerSpace, seed: int) -> None:
    rows = space.sample(10, np.random.default_rng(seed))
    for row, codes in zip(rows, space.part_codes(rows), strict=True):
        candidate = space.candidate(row)
        parts = [space.part_choices(part)[code - 1] if code else None for part, code in enumerate(codes)]
        stem, *blocks, head = parts
        assert (stem.precision, head.precision) == (candidate.stem, candidate.head)
        widths = [space.preset.stage_out(stage, width) for stage, width in enumerate(candidate.widths)]
        assert (stem.width, head.width) == (widths[0], widths[-1])
        entering = stem.width
        for choice, block, stage in zip(blocks, candidate.all_blocks(), space.stage_of, strict=True):
            assert (choice is None) == (block is None)
            if choice is not None:
                assert (choice.mixer, choice.precision) == (block.mixer, block.precision)
                assert (choice.in_width, choice.width) == (entering, widths[stage])
                assert choice.hidden == choice.width * block.expand
                entering = choice.width
        flattening = [part.flattens for part in (*blocks, head) if part is not None]
        assert sum(flattening) == 1  # once, and nothing turns tokens back into maps
        mixers = [choice.mixer for choice in blocks if choice is not None]
        assert flattening.index(True) == (mixers.index("attention") if "attention" in mixers else len(mixers))


@given(spaces, seeds)
def test_what_only_one_parent_has_comes_from_it(space: MetaformerSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = space.sample(50, rng), space.sample(50, rng)
    child = space.crossover(a, b, rng)
    only_a = space.has_block(a) & ~space.has_block(b) & space.has_block(child)
    expands = [rows[:, space.num_genes - 3 * space.num_blocks + 1 :: 3] for rows in (child, a)]
    assert np.array_equal(expands[0][only_a], expands[1][only_a])


def test_precisions_are_set_part_by_part() -> None:
    rows = FASHION.sample(20, np.random.default_rng(0))
    values = np.random.default_rng(1).integers(2, size=(20, FASHION.num_blocks + 2))
    for row, value in zip(FASHION.with_precisions(rows, values), values, strict=True):
        candidate = FASHION.candidate(row)
        there = [True, *(block is not None for block in candidate.all_blocks()), True]
        assert candidate.precisions == tuple(FASHION.precisions[v] for v, on in zip(value, there, strict=True) if on)


def test_l1_of_the_paper_is_a_network_of_the_space() -> None:
    space = get_space("efficientformer")
    largest = space.candidate(space.largest())
    assert [len(stage) for stage in largest.blocks] == [3, 2, 6, 4]
    assert [space.preset.stage_out(stage, width) for stage, width in enumerate(largest.widths)] == [48, 96, 224, 448]
    blocks = [[replace(block, mixer="pool") for block in stage] for stage in largest.blocks]
    blocks[-1][-1] = largest.blocks[-1][-1]
    candidate = replace(largest, blocks=tuple(map(tuple, blocks)))
    assert space.candidate(space.genes(candidate)) == candidate


def test_sides_are_those_of_the_feature_maps() -> None:
    assert [FASHION.feature_size(28, block) for block in range(FASHION.num_blocks + 1)] == [
        14,
        *[14] * 3,
        *[7] * 3,
        *[4] * 3,
    ]


def test_a_blocks_mixer_is_part_of_a_candidates_identity_and_absent_where_there_is_one_way() -> None:
    candidate = FASHION.candidate(FASHION.largest())
    other = replace(candidate.blocks[0][0], mixer="pool")
    assert replace(candidate, blocks=((other, *candidate.blocks[0][1:]), *candidate.blocks[1:])).id != candidate.id
    assert Candidate.from_dict(candidate.to_dict()) == candidate
    mbconv = get_space("fashion-mbv3")
    assert "mixer" not in mbconv.candidate(mbconv.largest()).to_dict()["blocks"][0][0]


def test_a_preset_comes_back_from_the_dictionary_that_files_carry() -> None:
    assert preset_from_dict(FASHION.preset.to_dict(), "test") == FASHION.preset


def test_a_restricted_space_has_the_last_choices() -> None:
    preset = FASHION.restricted({"mixers": 2, "widths": 2}).preset
    assert (preset.mixers, preset.widths, preset.expands) == (("pool", "conv"), (0.75, 1.0), (3,))
    assert preset.attentions == (2,)
    assert FASHION.preset.elastic == {"mixers": 2, "attentions": 3, "depths": 3, "expands": 3, "widths": 3}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "other"}, "candidate of space 'other'; allowed: 'fashion-former'"),
        ({"widths": (1.0,)}, "1 widths; allowed: 3, one a stage, and no depth of the stem"),
        ({"stem_depth": 1}, "3 widths; allowed: 3, one a stage, and no depth of the stem"),
        ({"widths": (0.7,) * 3}, r"width 0\.7; allowed: 0\.5, 0\.75, 1\.0"),
        ({"resolution": 30}, "resolution 30; allowed: 20"),
        ({"head": "int4"}, "head precision 'int4'; allowed: fp32, int8"),
    ],
)
def test_a_candidate_with_a_choice_that_the_space_lacks_is_refused(change: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        FASHION.genes(replace(FASHION.candidate(FASHION.smallest()), **change))


@pytest.mark.parametrize(
    ("stage", "change", "message"),
    [
        (0, {"kernel": 5}, "block_0_0: kernel 5; allowed: 3"),
        (0, {"expand": 6}, "block_0_0: expand 6; allowed: 1, 2, 3"),
        (0, {"keep": 0.5}, r"block_0_0: keep 0\.5; allowed: 1\.0"),
        (0, {"mixer": "shift"}, "block_0_0: mixer 'shift'; allowed: pool, conv"),
        (0, {"mixer": "attention"}, "number of blocks with attention 3; allowed: 0, 1, 2"),
        (2, {"mixer": "conv"}, "block_2_1: mixer 'attention'; allowed: pool, conv"),
    ],
)
def test_a_block_that_the_space_lacks_is_refused(stage: int, change: dict, message: str) -> None:
    candidate = FASHION.candidate(FASHION.largest())
    blocks = [list(entries) for entries in candidate.blocks]
    blocks[stage][-1 if stage else 0] = replace(blocks[stage][-1], **change)
    with pytest.raises(UsageError, match=message):
        FASHION.genes(replace(candidate, blocks=tuple(map(tuple, blocks))))


TOML = (Path(__file__).parents[2] / "search_spaces/presets/fashion-former.toml").read_text()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", ""),
        (
            'activation = "relu"',
            'activation = "tanh"',
            "activation is 'tanh'; allowed: gelu or relu or hswish or relu6",
        ),
        ("stem_stride = 2", "stem_stride = 3", "stem_stride is 3; allowed: 2 or 4"),
        ("[0.5, 0.75, 1.0]", "[0.5, 2.0]", r"widths is \[0.5, 2.0\]; allowed: a list of above 0, at most 1"),
        ('["pool", "conv"]', '["conv", "pool"]', r"block.mixers is .*; allowed: some of pool, conv, in this order"),
        ('["pool", "conv"]', '["pool", "shift"]', r"block.mixers is .*; allowed: a list of pool or conv"),
        ("[1, 2, 3]\nlayer", "[0, 1]\nlayer", r"block.expands is \[0, 1\]; allowed: a list of 1 to 16"),
        ("layer_scale = 0.1", "layer_scale = 0", "block.layer_scale is 0.0; allowed: above 0, at most 1"),
        ("blocks = [0, 1, 2]", "blocks = [0, 4]", r"attention.blocks is \[0, 4\]; .*0 to 3, the depth of the last"),
        ("heads = 4", "heads = 0", "attention.heads is 0; allowed: 1 to 64"),
        ("stride = 1", "stride = 2", r"stage\[0\].stride is 2; allowed: 1 for the first stage"),
        ("heads = 4", "heads = 4\nhead = 4", "attention.head is an unknown key"),
    ],
)
def test_a_wrong_preset_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML.replace(old, new, 1))
    if not message:
        assert get_space(path).preset == FASHION.preset
        return
    with pytest.raises(FileFormatError, match=message):
        get_space(path)
