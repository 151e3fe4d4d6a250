"""The distinct ways to fill a part, numbered, where several genes decide together what fills it."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

ChoiceT = TypeVar("ChoiceT")
Codes = NDArray[np.int32]
"""0 for a part left out, else 1 + its choice; of these, menus of a few dozen each make more than int16 holds."""


@dataclass(frozen=True)
class PartTable(Generic[ChoiceT]):
    """The choices of a part, and the code, 1 + the choice, at each combination of the genes that decide it."""

    choices: tuple[ChoiceT, ...]
    codes: Codes


def tabulate(menus: Sequence[Sequence[object]], spell: Callable[..., ChoiceT | None]) -> PartTable[ChoiceT]:
    """Number the distinct choices that ``spell`` makes of the values of ``menus``, in the order of the genes."""
    numbers: dict[ChoiceT, int] = {}
    codes = np.zeros([len(menu) for menu in menus], np.int32)
    for at in product(*(range(len(menu)) for menu in menus)):
        choice = spell(*(menu[gene] for menu, gene in zip(menus, at, strict=True)))
        if choice is not None:
            codes[at] = numbers.setdefault(choice, 1 + len(numbers))
    return PartTable(tuple(numbers), codes)


def first_of_equals(values: Sequence[int]) -> list[int]:
    """Return, for each value, the index of the first that is equal."""
    return [values.index(value) for value in values]
