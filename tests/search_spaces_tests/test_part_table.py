"""Numbers of choices: every combination of a few menus has the code of its own choice, however many there are."""

from itertools import product
from math import prod

import numpy as np
from hypothesis import example, given, settings
from hypothesis import strategies as st

from search_spaces.part_table import first_of_equals, tabulate

menus = st.lists(st.integers(1, 36), min_size=1, max_size=4).filter(lambda counts: prod(counts) <= 5000)


@settings(max_examples=25)
@example([30, 30, 40], 1)
@given(menus, st.integers(1, 5))
def test_each_combination_has_the_code_of_its_choice(counts: list[int], width: int) -> None:
    """Values are joined ``width`` at a time, so that some combinations are one choice; the first of a menu has none."""

    def spell(*values: int) -> tuple[int, ...] | None:
        return None if values[0] == 0 else tuple(value // width for value in values)

    table = tabulate([range(count) for count in counts], spell)
    spelled = [spell(*values) for values in product(*map(range, counts))]
    assert table.codes.shape == tuple(counts) and len(set(table.choices)) == len(table.choices)
    assert [None if code == 0 else table.choices[code - 1] for code in table.codes.ravel()] == spelled


@given(st.lists(st.integers(0, 5), min_size=1))
def test_equals_are_named_by_their_first(values: list[int]) -> None:
    first = first_of_equals(values)
    assert [values[at] for at in first] == values
    assert all(at == number or values[number] in values[:number] for number, at in enumerate(first))
    assert np.array_equal(np.array(first)[first], first)
