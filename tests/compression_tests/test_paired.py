"""A paired difference is known by the images on which two networks disagree, and its interval holds."""

import numpy as np
import pytest

from nas.compression.paired import images_needed, paired_difference


def test_the_difference_is_that_of_the_accuracies() -> None:
    one, other = np.array([1, 1, 1, 0], bool), np.array([1, 0, 0, 1], bool)
    found = paired_difference(one, other)
    assert found.value == pytest.approx(one.mean() - other.mean()) and found.low < found.value < found.high
    assert paired_difference(other, one).low == pytest.approx(-found.high)


def test_where_two_agree_on_every_image_the_interval_is_narrow_but_there() -> None:
    right = np.arange(1000) < 900
    found = paired_difference(right, right)
    assert found.value == 0 and 0 < found.high < 0.005 and found.low == -found.high


def test_the_interval_covers_the_truth_as_often_as_it_says() -> None:
    rng = np.random.default_rng(0)
    shared, drawn = rng.random((2000, 400)) < 0.9, rng.random((2, 2000, 400))
    one, other = shared ^ (drawn[0] < 0.03), shared ^ (drawn[1] < 0.05)
    truth = (0.05 - 0.03) * 0.8  # an image right with 0.9 loses, one wrong gains
    found = [paired_difference(a, b) for a, b in zip(one, other, strict=True)]
    assert np.mean([each.low <= truth <= each.high for each in found]) == pytest.approx(0.95, abs=0.02)


@pytest.mark.parametrize("allowed", [0.3, 0.05, 0.001])
def test_so_many_images_are_needed_and_no_fewer(allowed: float) -> None:
    needed = images_needed(allowed)
    low = [paired_difference(same, same).low for same in (np.ones(needed, bool), np.ones(needed - 1, bool))]
    assert low[0] >= -allowed > low[1]
