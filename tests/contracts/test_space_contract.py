"""What every search space owes its user. A new space is one more line in SPACES."""

import numpy as np
import pytest

from nas.errors import UsageError
from search_spaces import (
    Candidate,
    SearchSpace,
    get_bottleneck_space,
    get_space,
    list_bottleneck_spaces,
    list_spaces,
)

SPACES = [
    "cifar10-mbv3",
    "fashion-mbv3",
    "ofa-mbv3",
    "ofa-mbv3-w1.2",
    "ofa-proxyless",
]
BOTTLENECK_SPACES = [
    "ofa-resnet50",
]
ROWS = 600


@pytest.fixture(params=SPACES + BOTTLENECK_SPACES)
def space(request: pytest.FixtureRequest) -> SearchSpace:
    return get_bottleneck_space(request.param) if request.param in BOTTLENECK_SPACES else get_space(request.param)


def rng(seed: int = 0) -> np.random.Generator:
    return np.random.default_rng(seed)


def test_every_shipped_space_is_held_to_the_contract() -> None:
    assert sorted(list_spaces()) == sorted(SPACES)
    assert sorted(list_bottleneck_spaces()) == sorted(BOTTLENECK_SPACES)


def test_it_says_in_one_line_what_it_is_for(space: SearchSpace) -> None:
    summary = {**list_spaces(), **list_bottleneck_spaces()}[space.name]
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
