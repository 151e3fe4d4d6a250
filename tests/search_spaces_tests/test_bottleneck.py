"""Rows, networks and features of the bottleneck space agree, for the shipped preset and small random ones."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small_presets import subsets

from nas.errors import FileFormatError, UsageError
from search_spaces import BottleneckPreset, BottleneckSpace, Candidate, Stage, get_space, read_preset
from search_spaces.bottleneck_parts import BottleneckChoice, HeadChoice, StemChoice

RESNET = get_space("ofa-resnet50")
seeds = st.integers(0, 2**32 - 1)


def bottleneck_space(**changes) -> BottleneckSpace:
    values = {
        "name": "small", "summary": "for tests", "resolutions": (32,), "channels": 3, "classes": 3, "dropout": 0.0,
        "stem_width": 16, "widths": (0.5, 1.0), "keeps": (0.25, 0.5), "round_to": 8,
        "precisions": ("fp32", "int8"), "stages": (Stage(32, 1, (1, 2)),),
    }  # fmt: skip
    return BottleneckSpace(BottleneckPreset(**{**values, **changes}))


small_spaces = st.builds(
    bottleneck_space,
    resolutions=subsets(32, 48),
    stem_width=st.sampled_from([16, 64]),
    widths=subsets(0.5, 0.65, 0.8, 1.0, most=2),
    keeps=subsets(0.2, 0.25, 0.35, most=2),
    stages=st.lists(
        st.builds(Stage, st.sampled_from([32, 256]), st.just(2), subsets(1, 2)), min_size=1, max_size=2
    ).map(tuple),
).filter(lambda space: np.prod(space.cardinalities, dtype=float) <= 3000)
spaces = st.just(RESNET) | small_spaces


def network(space: BottleneckSpace, candidate: Candidate) -> tuple:
    """Spell out the channels of a candidate."""
    preset, (inside, out, *stages) = space.preset, candidate.widths
    shape: list = [candidate.resolution, candidate.precisions, candidate.stem_depth]
    shape += [preset.stem_inside(inside), preset.stem_out(out)]
    for number, (entries, width) in enumerate(zip(candidate.blocks, stages, strict=True)):
        channels = preset.stage_out(number, width)
        shape.append((channels, *(preset.middle(channels, block.keep) for block in entries if block)))
    return tuple(shape)


@settings(max_examples=20)
@given(small_spaces)
def test_size_and_canonical_rows_and_features_count_the_same_networks(space: BottleneckSpace) -> None:
    rows = np.array(list(product(*map(range, space.cardinalities))), np.int8)
    networks = {network(space, space.candidate(row)) for row in rows}
    assert len(networks) == space.size == len(np.unique(space.canonical(rows), axis=0))
    assert len(np.unique(space.encode(rows), axis=0)) == space.size


MANY = bottleneck_space(  # 54,000 choices of a block
    stem_width=400,
    widths=tuple(np.linspace(0.5, 1, 30).tolist()),
    keeps=tuple(np.linspace(0.2, 1, 30).tolist()),
    round_to=1,
    stages=(Stage(900, 2, (1,)),),
)


@given(spaces | st.just(MANY), seeds)
def test_its_codes_name_the_channels_and_precision_of_every_part(space: BottleneckSpace, seed: int) -> None:
    preset = space.preset
    for row in space.sample(10, np.random.default_rng(seed)):
        candidate, codes = space.candidate(row), space.part_codes(row[None])[0]
        chosen = [space.part_choices(part)[code - 1] if code else None for part, code in enumerate(codes)]
        width = preset.stem_out(candidate.widths[1])
        inside = preset.stem_inside(candidate.widths[0])
        assert chosen[0] == StemChoice(candidate.stem_depth, inside, width, candidate.stem)
        for choice, block, stage in zip(chosen[1:-1], candidate.all_blocks(), space.stage_of, strict=True):
            if block is not None:
                out = preset.stage_out(stage, candidate.widths[2 + stage])
                assert choice == BottleneckChoice(width, preset.middle(out, block.keep), out, block.precision)
                width = out
            else:
                assert choice is None
        assert chosen[-1] == HeadChoice(width, candidate.head)


@given(spaces, seeds)
def test_canonical_keeps_the_network_and_is_idempotent(space: BottleneckSpace, seed: int) -> None:
    rows = np.random.default_rng(seed).integers(space.cardinalities, size=(20, space.num_genes)).astype(np.int8)
    canonical = space.canonical(rows)
    assert np.array_equal(space.canonical(canonical), canonical)
    for row, same in zip(rows, canonical, strict=True):
        assert network(space, space.candidate(row)) == network(space, space.candidate(same))
        assert np.array_equal(space.genes(space.candidate(row)), same)


@settings(max_examples=10)
@given(small_spaces.filter(lambda space: space.size <= 100), seeds)
def test_every_network_is_drawn_sooner_or_later(space: BottleneckSpace, seed: int) -> None:
    assert len(np.unique(space.sample(10_000, np.random.default_rng(seed)), axis=0)) == space.size


@given(spaces, seeds)
def test_a_block_that_only_one_parent_has_comes_from_it(space: BottleneckSpace, seed: int) -> None:
    rng = np.random.default_rng(seed)
    a, b = space.sample(50, rng), space.sample(50, rng)
    child = space.crossover(a, b, rng)
    only_a = space.has_block(a) & ~space.has_block(b) & space.has_block(child)
    for gene in (0, 1) if space is RESNET else (1,):  # elsewhere a stage's new width may make keeps equal
        genes = slice(space.num_genes - 2 * space.num_blocks + gene, None, 2)
        assert np.array_equal(child[:, genes][only_a], a[:, genes][only_a])


def test_once_for_alls_resnet_has_its_widths_and_size() -> None:
    preset = RESNET.preset
    assert [preset.stem_inside(width) for width in preset.widths] == [24, 24, 32]
    assert [preset.stem_out(width) for width in preset.widths] == [40, 48, 64]
    assert [preset.stage_out(3, width) for width in preset.widths] == [1328, 1640, 2048]
    four = 3 * (3**2 + 3**3 + 3**4)
    assert BottleneckSpace(preset, ["fp32"]).size == 25 * 2 * 2 * 3 * four**3 * 3 * (3**4 + 3**5 + 3**6)
    mixed = 3 * (6**2 + 6**3 + 6**4)
    assert RESNET.size == 25 * 2**2 * 2 * 2 * 3 * mixed**3 * 3 * (6**4 + 6**5 + 6**6)


def test_the_digest_tells_spaces_apart() -> None:
    other = BottleneckSpace(replace(RESNET.preset, keeps=(0.2, 0.25)))
    assert RESNET.digest == get_space("ofa-resnet50").digest != other.digest
    assert BottleneckSpace(replace(RESNET.preset, summary="said otherwise")).digest == RESNET.digest


def test_a_candidates_widths_are_part_of_its_identity() -> None:
    candidate = RESNET.candidate(RESNET.canonical((RESNET.cardinalities - 1).astype(np.int8)[None])[0])
    narrower = replace(candidate, widths=(*candidate.widths[:-1], 0.8))
    assert narrower.id != candidate.id != replace(candidate, stem_depth=0).id
    assert Candidate.from_dict(narrower.to_dict()) == narrower
    with pytest.raises(FileFormatError, match=r"candidate: widths is 'wide', of the wrong type"):
        Candidate.from_dict({**candidate.to_dict(), "widths": ["wide"]})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"space": "other"}, "candidate of space 'other'; allowed: 'ofa-resnet50'"),
        ({"widths": (1.0,)}, "1 widths; allowed: 6, the stem's inside"),
        ({"widths": (0.7,) * 6}, "width 0.7; allowed: 0.65, 0.8, 1.0"),
        ({"stem_depth": 2}, "stem depth 2; allowed: 0, 1"),
        ({"resolution": 30}, "resolution 30; allowed: 128"),
        ({"head": "int4"}, "head precision 'int4'; allowed: fp32, int8"),
        ({"stem": "int4"}, "stem precision 'int4'; allowed: fp32, int8"),
    ],
)
def test_a_candidate_with_a_choice_that_the_space_lacks_is_refused(change: dict, message: str) -> None:
    candidate = RESNET.candidate(np.zeros(RESNET.num_genes, np.int8))
    with pytest.raises(UsageError, match=message):
        RESNET.genes(replace(candidate, **change))


def test_a_stage_that_skips_a_block_or_keeps_another_share_is_refused() -> None:
    candidate = RESNET.candidate((RESNET.cardinalities - 1).astype(np.int8))
    gap = (candidate.blocks[0][0], None, *candidate.blocks[0][2:])
    with pytest.raises(UsageError, match="stage 0 lacks a block before one it has"):
        RESNET.genes(replace(candidate, blocks=(gap, *candidate.blocks[1:])))
    for change, message in (
        ({"keep": 0.5}, r"block_0_0: keep 0\.5; allowed: 0\.2, 0\.25, 0\.35"),
        ({"kernel": 5}, "block_0_0: kernel 5; allowed: 3"),
        ({"expand": 6}, "block_0_0: expand 6; allowed: 1"),
        ({"precision": "int4"}, "block_0_0: precision 'int4'; allowed: fp32, int8"),
    ):
        other = (replace(candidate.blocks[0][0], **change), *candidate.blocks[0][1:])
        with pytest.raises(UsageError, match=message):
            RESNET.genes(replace(candidate, blocks=(other, *candidate.blocks[1:])))


TOML = """
schema_version = 1
name = "mine"
family = "bottleneck"
summary = "for tests"
resolutions = [32, 64]
channels = 3
classes = 7
dropout = 0
precisions = ["fp32", "int8"]
stem_width = 16
widths = [0.5, 1]
keeps = [0.25, 0.5]
round_to = 8
[[stage]]
width = 32
stride = 2
depths = [1, 2]
"""


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("", "", ""),
        ('"bottleneck"', '"mbconv"', "stem is missing; allowed: a table"),
        ("[0.5, 1]", "[0.5, 5]", r"widths is \[0.5, 5.0\]; allowed: a list of above 0, at most 4"),
        ("[0.25, 0.5]", "[0.25, 2]", r"keeps is \[0.25, 2.0\]; allowed: a list of above 0, at most 1"),
        ("stem_width = 16", "stem_width = 0", "stem_width is 0; allowed: 1 to 4096"),
        ("depths = [1, 2]", "depths = [1, 2]\nse = true", r"stage\[0\].se is an unknown key"),
        ("round_to = 8", "round_to = 8\nround = 8", "round is an unknown key"),
        ("resolutions = [32, 64]", "resolutions = [16]", r"resolutions is \[16\]; allowed: a list of pixels from 32"),
        ("schema_version", "schema version", "not a TOML file"),
    ],
)
def test_a_wrong_preset_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = tmp_path / "mine.toml"
    path.write_text(TOML.replace(old, new, 1))
    if not message:
        assert get_space(path).preset.keeps == (0.25, 0.5)
        return
    with pytest.raises(FileFormatError, match=message):
        read_preset(path)


def test_mutation_redraws_precisions_evenly_in_blocks_that_few_networks_have() -> None:
    space = get_space("ofa-resnet50")
    rows = np.repeat(space.largest("int8")[None], 20_000, axis=0)
    last = space.gene_names.index("block_0_3.precision")
    changed = (space.mutate(rows, np.random.default_rng(0), 0.05)[:, last] != rows[0, last]).mean()
    stays = 1 - 0.05 * 2 / 3  # the depth that has the block
    assert 0.8 < changed / (0.025 * stays + 0.05 * 2 / 3) < 1.2
