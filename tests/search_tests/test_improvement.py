"""The expected gain of hypervolume is what sampling finds, in any number of objectives."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.search.fronts import hypervolume
from nas.search.improvement import expected_improvement, hypervolume_improvement

SAMPLES = 600
numbers = st.integers(0, 2**32 - 1)


@pytest.mark.parametrize("objectives", [1, 2, 3])
def test_it_is_the_mean_gain_of_samples(objectives: int) -> None:
    rng = np.random.default_rng(objectives)
    front, reference = rng.random((6, objectives)), np.full(objectives, 0.9)
    mean, deviation = rng.random((3, objectives)), rng.uniform(0.05, 0.3, (3, objectives))
    found = hypervolume_improvement(front, reference, mean, deviation)
    before = hypervolume(front, reference)
    for row in range(3):
        samples = rng.normal(mean[row], deviation[row], (SAMPLES, objectives))
        gains = [hypervolume(np.vstack([front, one]), reference) - before for one in samples]
        assert found[row] == pytest.approx(np.mean(gains), abs=1e-6 + 5 * np.std(gains) / np.sqrt(SAMPLES))


@given(numbers, st.integers(1, 3))
def test_of_certain_predictions_it_is_the_gain_itself(seed: int, objectives: int) -> None:
    rng = np.random.default_rng(seed)
    front, reference, point = rng.random((5, objectives)), np.ones(objectives), rng.random((1, objectives))
    found = hypervolume_improvement(front, reference, point, np.full((1, objectives), 1e-9))
    gain = hypervolume(np.vstack([front, point]), reference) - hypervolume(front, reference)
    assert found[0] == pytest.approx(gain, abs=1e-6)


@given(numbers, st.integers(1, 3))
def test_a_larger_front_never_leaves_more_to_gain(seed: int, objectives: int) -> None:
    rng = np.random.default_rng(seed)
    front, reference = rng.random((6, objectives)), np.full(objectives, 0.8)
    mean, deviation = rng.random((4, objectives)), rng.uniform(0.01, 0.5, (4, objectives))
    few, many = (hypervolume_improvement(rows, reference, mean, deviation) for rows in (front[:3], front))
    assert (many >= 0).all() and (many <= few + 1e-9).all()


def test_far_above_the_limit_nothing_is_expected() -> None:
    found = expected_improvement(np.array([0.0, 5.0, 100.0]), np.ones(3), 5.0)
    assert found[0] == pytest.approx(5, abs=1e-5) and found[1] == pytest.approx(0.3989, abs=1e-4) and found[2] == 0
