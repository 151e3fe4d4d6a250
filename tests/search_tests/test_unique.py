"""The set of rows met before."""

import numpy as np
import pytest

from nas.search.unique import Seen, row_hashes


def test_rows_are_claimed_once_in_their_order_and_up_to_the_limit() -> None:
    seen = Seen()
    rows = np.array([[2, 0], [1, 1], [2, 0], [0, 3], [1, 2]], np.int8)
    assert seen.claim(rows, 2).tolist() == [[2, 0], [1, 1]]
    assert seen.claim(rows, 9).tolist() == [[0, 3], [1, 2]]
    assert seen.claim(rows, 9).tolist() == []
    assert len(seen) == 4


def test_it_agrees_with_a_set_over_many_batches() -> None:
    rng = np.random.default_rng(0)
    seen, known = Seen(), set()
    for _ in range(60):
        rows = rng.integers(0, 4, (rng.integers(0, 200), 6)).astype(np.int8)
        claimed = seen.claim(rows, 150)
        fresh = list(dict.fromkeys(row.tobytes() for row in rows if row.tobytes() not in known))[:150]
        assert [row.tobytes() for row in claimed] == fresh
        known.update(fresh)
        assert len(seen) == len(known)


@pytest.mark.parametrize("genes", [1, 8, 9, 71])
def test_a_single_changed_gene_always_changes_the_hash_and_no_pair_of_changes_collides(genes: int) -> None:
    rows = [np.zeros(genes, np.int8)]
    for first in range(genes):
        for second in range(first, genes):
            for value in (1, 2, 127):
                row = np.zeros(genes, np.int8)
                row[first], row[second] = value, 1
                rows.append(row)
    distinct = np.unique(rows, axis=0)
    assert len(np.unique(row_hashes(distinct))) == len(distinct)


def test_wider_integers_are_hashed_whole() -> None:
    assert len(np.unique(row_hashes(np.array([[1], [257], [65_537]], np.int32)))) == 3


def test_unmet_rows_are_told_apart_and_not_remembered() -> None:
    seen = Seen()
    rows = np.arange(12, dtype=np.int8).reshape(4, 3)
    seen.claim(rows[:2], 2)
    for _ in range(2):
        np.testing.assert_array_equal(seen.unmet(rows), rows[2:])
