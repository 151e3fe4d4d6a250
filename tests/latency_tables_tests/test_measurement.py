"""A measurement carries its interval and comes back from JSON."""

import json

import numpy as np

from latency_tables import Measurement
from latency_tables.measurement import bootstrap_median

MEASUREMENT = Measurement(
    latency_ms=1.0, ci_low_ms=0.98, ci_high_ms=1.04, raw_ms=1.1, mean_ms=1.2, min_ms=0.9, p90_ms=1.3, mad_ms=0.02,
    reference_ms=0.2, drift=1.05, rounds=9, values=18, quality="ok",
)  # fmt: skip


def test_it_survives_json() -> None:
    assert Measurement.from_dict(json.loads(json.dumps(MEASUREMENT.to_dict()))) == MEASUREMENT


def test_half_width_is_relative_to_the_latency() -> None:
    assert abs(MEASUREMENT.half_width - 0.03) < 1e-12


def test_the_bootstrap_interval_of_a_median_holds_it_in_nineteen_of_twenty() -> None:
    rng = np.random.default_rng(0)
    intervals = [bootstrap_median(rng.normal(5, 1, 15), rng) for _ in range(200)]
    assert 0.88 <= np.mean([low <= 5 <= high for low, high in intervals]) <= 1.0


def test_a_single_sample_is_its_own_interval() -> None:
    assert bootstrap_median([2.5], np.random.default_rng(0)) == (2.5, 2.5)
