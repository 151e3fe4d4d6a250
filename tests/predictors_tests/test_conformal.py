"""The conformal radius covers the next error as often as it says."""

import numpy as np
import pytest

from nas.errors import UsageError
from predictors.conformal import conformal_radius, cross_folds


@pytest.mark.parametrize("level", [0.5, 0.9])
def test_it_covers_the_next_error_as_often_as_asked(level: float) -> None:
    rng = np.random.default_rng(0)
    hits = [abs(rng.standard_t(3)) <= conformal_radius(rng.standard_t(3, 40), level) for _ in range(3000)]
    assert level - 0.02 < np.mean(hits) < level + 0.05


def test_nine_errors_give_their_largest() -> None:
    assert conformal_radius([-5.0, *range(8)], 0.9) == 7.0


@pytest.mark.parametrize(
    ("errors", "message"),
    [([0.1] * 8, "8 held-out errors for a 90% interval; allowed: 9 or more"), ([0.1] * 9 + [np.nan], "not finite")],
)
def test_what_cannot_be_covered_is_refused(errors: list[float], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        conformal_radius(errors)


def test_folds_are_even() -> None:
    folds = cross_folds(23, 5, np.random.default_rng(0))
    assert sorted(np.bincount(folds)) == [4, 4, 5, 5, 5]
