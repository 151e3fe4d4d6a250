"""What every search space owes its user. A new space is one more line in SPACES."""

import json

import numpy as np
import pytest

from nas.errors import FileFormatError, UsageError
from search_spaces import Candidate, SearchSpace, get_space, list_spaces, make_space, preset_from_dict

SPACES = [
    "cifar10-mbv3",
    "fashion-mbv3",
    "ofa-mbv3",
    "ofa-mbv3-w1.2",
    "ofa-proxyless",
    "ofa-resnet50",
    "efficientformer",
    "fashion-former",
    "mnasnet",
    "cifar10-tinynas",
]
ROWS = 600


@pytest.fixture(params=SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return get_space(request.param)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_shipped_space_is_held_to_the_contract() -> None:
    assert sorted(list_spaces()) == sorted(SPACES)


def test_it_says_in_one_line_what_it_is_for(space: SearchSpace) -> None:
    summary = list_spaces()[space.name]
    assert summary and "\n" not in summary


def test_rows_are_small_integers_within_the_cardinalities(space: SearchSpace) -> None:
    genes = space.sample(ROWS, rng())
    assert genes.shape == (ROWS, space.num_genes) and genes.dtype == np.int8
    assert (genes >= 0).all() and (genes < space.cardinalities).all()


def test_genes_and_features_have_names_of_their_own(space: SearchSpace) -> None:
    assert len(set(space.gene_names)) == space.num_genes
    assert len(set(space.feature_names)) == len(space.feature_names) == space.num_features


def test_it_has_far_more_networks_than_anyone_can_measure(space: SearchSpace) -> None:
    assert isinstance(space.size, int) and space.size > 10**12


def test_the_same_seed_draws_the_same_networks(space: SearchSpace) -> None:
    genes = space.sample(ROWS, rng(1))
    assert np.array_equal(genes, space.sample(ROWS, rng(1)))
    assert not np.array_equal(genes, space.sample(ROWS, rng(2)))


def test_sampling_mutation_and_crossover_return_canonical_rows(space: SearchSpace) -> None:
    a, b = space.sample(ROWS, rng(1)), space.sample(ROWS, rng(2))
    for genes in (a, space.mutate(a, rng(3), 0.2), space.crossover(a, b, rng(4))):
        assert np.array_equal(genes, space.canonical(genes))


def test_mutation_and_crossover_leave_the_parents_as_they_are(space: SearchSpace) -> None:
    a, b = space.sample(ROWS, rng(1)), space.sample(ROWS, rng(2))
    copies = a.copy(), b.copy()
    space.mutate(a, rng(3), 0.5)
    space.crossover(a, b, rng(4))
    space.canonical(a)
    space.encode(a)
    assert np.array_equal(a, copies[0]) and np.array_equal(b, copies[1])


def test_a_mutation_rate_of_zero_changes_nothing_and_of_one_nearly_everything(space: SearchSpace) -> None:
    genes = space.sample(ROWS, rng())
    assert np.array_equal(space.mutate(genes, rng(1), 0.0), genes)
    assert (space.mutate(genes, rng(1), 1.0) != genes).any(1).all()


def test_mutation_at_a_low_rate_changes_little(space: SearchSpace) -> None:
    genes = space.sample(ROWS, rng())
    few, many = ((space.mutate(genes, rng(1), rate) != genes).mean() for rate in (0.02, 0.5))
    assert 0 < few < 0.2 * many


def test_crossover_with_itself_is_itself(space: SearchSpace) -> None:
    genes = space.sample(ROWS, rng())
    assert np.array_equal(space.crossover(genes, genes, rng(1)), genes)


def test_crossover_takes_every_gene_from_a_parent(space: SearchSpace) -> None:
    a, b = space.sample(ROWS, rng(1)), space.sample(ROWS, rng(2))
    child = space.crossover(a, b, rng(3))
    assert ((child == a) | (child == b) | (child == 0)).all()
    assert 0.3 < (child == a)[a != b].mean() < 0.7


def test_features_tell_networks_apart(space: SearchSpace) -> None:
    genes = np.unique(space.sample(ROWS, rng()), axis=0)
    features = space.encode(genes)
    assert features.shape == (len(genes), space.num_features) and features.dtype == np.float32
    assert len(np.unique(features, axis=0)) == len(genes)


def test_a_candidate_says_the_same_as_its_row(space: SearchSpace) -> None:
    for row in space.sample(50, rng()):
        candidate = space.candidate(row)
        assert np.array_equal(space.genes(candidate), row)
        assert Candidate.from_dict(candidate.to_dict()) == candidate


def test_no_rows_are_rows_too(space: SearchSpace) -> None:
    none = space.sample(0, rng())
    assert none.shape == (0, space.num_genes)
    assert space.encode(none).shape == (0, space.num_features)
    assert len(space.mutate(none, rng(), 0.1)) == len(space.crossover(none, none, rng())) == 0


@pytest.mark.parametrize("genes", [np.zeros((3, 4), int), np.zeros(5, int), np.zeros((2, 2))])
def test_genes_of_another_shape_or_type_are_refused(space: SearchSpace, genes: np.ndarray) -> None:
    with pytest.raises(UsageError, match=rf"genes of shape .*allowed: integers \(n, {space.num_genes}\)"):
        space.validate(genes)


def test_genes_out_of_range_are_refused_by_number(space: SearchSpace) -> None:
    genes = space.sample(3, rng()).astype(int)
    genes[1, 2] = 99
    with pytest.raises(UsageError, match=r"gene 2 \(.+\) of row 1 is 99; allowed: 0 to"):
        space.validate(genes)
    genes[1, 2] = -1
    with pytest.raises(UsageError, match=r"gene 2 \(.+\) of row 1 is -1"):
        space.validate(genes)


def test_valid_genes_come_back_canonical(space: SearchSpace) -> None:
    genes = rng().integers(space.cardinalities, size=(ROWS, space.num_genes))
    assert np.array_equal(space.validate(genes), space.canonical(genes.astype(np.int8)))


def test_its_preset_comes_back_from_what_files_carry(space: SearchSpace) -> None:
    content = json.loads(json.dumps(space.preset.to_dict()))
    again = preset_from_dict(content, "here")
    assert again == space.preset and again.digest == space.preset.digest
    assert make_space(again, ("fp32",)).precisions == ("fp32",)
    with pytest.raises(
        FileFormatError,
        match=r"here: family is 'resnext'; allowed: 'mbconv' or 'bottleneck' or 'metaformer' or"
        r" 'factorised'",
    ):
        preset_from_dict({**content, "family": "resnext"}, "here")


def test_a_menu_that_is_empty_or_says_a_thing_twice_is_refused(space: SearchSpace) -> None:
    for menu in ([], ["fp32", "fp32"]):
        with pytest.raises(UsageError, match=rf"precisions .* of {space.name}; allowed: one or more, none twice"):
            make_space(space.preset, menu)


def test_its_parts_are_stem_blocks_and_head_and_only_blocks_are_left_out(space: SearchSpace) -> None:
    genes = space.sample(ROWS, rng())
    codes = space.part_codes(genes)
    assert space.part_names[0] == "stem" and space.part_names[-1] == "head"
    assert codes.shape == (ROWS, len(space.part_names)) and (codes[:, [0, -1]] > 0).all()
    assert (codes == 0).any() == any(len(stage.depths) > 1 for stage in space.preset.stages)
    counts = [len(space.part_choices(part)) for part in range(len(space.part_names))]
    assert (codes <= counts).all() and all(
        len(set(space.part_choices(part))) == count for part, count in enumerate(counts)
    )


def test_its_parts_and_resolution_are_the_network(space: SearchSpace) -> None:
    genes = np.unique(space.sample(ROWS, rng()), axis=0)
    networks = np.column_stack([space.resolution_index(genes), space.part_codes(genes)])
    assert len(np.unique(networks, axis=0)) == len(genes)


def test_its_parts_are_in_the_candidates_precisions(space: SearchSpace) -> None:
    for row in space.sample(50, rng()):
        codes = enumerate(space.part_codes(row[None])[0])
        found = [space.part_choices(part)[code - 1].precision for part, code in codes if code]
        assert tuple(found) == space.candidate(row).precisions


def test_other_precisions_leave_the_architecture(space: SearchSpace) -> None:
    genes = space.sample(50, rng())
    values = rng(1).integers(len(space.precisions), size=(50, len(space.part_names)))
    twins = space.with_precisions(genes, values)
    assert np.array_equal(space.with_precision(twins, "fp32"), space.with_precision(genes, "fp32"))
    for row, wanted in zip(twins, values, strict=True):
        there = space.part_codes(row[None])[0] > 0
        assert space.candidate(row).precisions == tuple(np.array(space.precisions)[wanted[there]])
    with pytest.raises(UsageError, match="precision 'int4'; allowed: fp32, int8"):
        space.with_precision(genes, "int4")


def test_largest_and_smallest_hold_every_block_and_the_fewest(space: SearchSpace) -> None:
    depth = [
        (space.part_codes(rows) > 0).sum(1)
        for rows in (space.sample(ROWS, rng()), space.largest()[None], space.smallest()[None])
    ]
    assert depth[2] <= depth[0].min() and depth[0].max() <= depth[1] == len(space.part_names)
    assert set(space.candidate(space.largest("int8")).precisions) == {"int8"}


def test_a_restriction_keeps_the_last_choices_of_what_is_elastic(space: SearchSpace) -> None:
    elastic = space.preset.elastic
    assert set(space.preset.sorted_by) <= set(elastic)
    assert space.restricted(elastic).digest == space.digest
    smallest = space.restricted({}).size
    for name, count in elastic.items():
        part = space.restricted({name: count})
        assert (smallest < part.size < space.size) or count == 1
        for row in part.sample(20, rng()):
            candidate = part.candidate(row)
            space.check(candidate)
            assert np.array_equal(part.genes(candidate), row)
        for wrong in (0, count + 1):
            with pytest.raises(ValueError, match=f"{wrong} choices of {name} open"):
                space.restricted({name: wrong})
