"""The figures that judge a calibration: the same as elsewhere, with intervals, and those that a search feels."""

import numpy as np
import pytest

from predictors.calibration_report import LatencyErrors
from predictors.held_out import JudgedNetwork
from predictors.judged_figures import LABELS, figures_table, judged_figures
from predictors.prediction import Prediction


def judged(predicted: list[float], measured: list[float]) -> list[JudgedNetwork]:
    return [
        JudgedNetwork("random", 8, 20, 0.0, took, said, 0.9 * said, 1.1 * said, said, said)
        for said, took in zip(predicted, measured, strict=True)
    ]


def test_figures_are_those_of_the_errors_each_within_its_interval() -> None:
    rng = np.random.default_rng(0)
    measured = rng.uniform(1, 3, 32)
    predicted = measured * rng.lognormal(0, 0.05, 32)
    found = judged_figures(judged([*predicted], [*measured]))
    errors = LatencyErrors.of(Prediction(predicted, 0.9 * predicted, 1.1 * predicted), measured)
    for name in ("mean", "median", "bias", "within_5", "within_10", "coverage", "spearman", "kendall"):
        assert found[name].value == pytest.approx(getattr(errors, name)), name
        assert found[name].low <= found[name].value <= found[name].high and found[name].low < found[name].high
    assert (found["coverage"].value, found["coverage"].low) == (1.0, pytest.approx(1 / (1 + 1.96**2 / 32)))
    assert found == judged_figures(judged([*predicted], [*measured]))


def test_more_networks_make_narrower_intervals() -> None:
    rng = np.random.default_rng(1)
    measured = rng.uniform(1, 3, 64)
    predicted = measured * rng.lognormal(0, 0.05, 64)
    few, many = (judged_figures(judged([*predicted[:n]], [*measured[:n]]))["mean"] for n in (16, 64))
    assert many.high - many.low < 0.8 * (few.high - few.low)


def test_the_fastest_fifth_is_ordered_apart_from_the_rest() -> None:
    measured = [float(number) for number in range(1, 21)]
    predicted = [4.0, 3.0, 2.0, 1.0, *measured[4:]]
    found = judged_figures(judged(predicted, measured))
    assert found["kendall_fastest"].value == -1 and found["kendall"].value > 0.9


def test_what_is_predicted_within_a_budget_and_is_not_counts() -> None:
    """Budgets 1, 2 and 4 ms take one, two and two networks of which none, one and none measured over."""
    found = judged_figures(judged([1.0, 1.5, 5.0], [1.0, 2.0, 4.0]))
    assert found["over_budget"].value == 0
    found = judged_figures(judged([1.0, 2.0, 1.9], [1.0, 2.0, 4.0]))
    assert found["over_budget"].value == pytest.approx(1 / (1 + 3 + 3))
    assert judged_figures(judged([9.0, 9.0], [1.0, 2.0]))["over_budget"].value == 0


def test_no_order_is_no_correlation_and_the_table_has_a_line_for_each_figure() -> None:
    same = judged([2.0, 2.0], [1.0, 2.0])
    assert judged_figures(same)["spearman"].value == judged_figures(same)["kendall"].value == 0
    lines = figures_table({"random": same, "all": same})
    assert len(lines) == 1 + len(LABELS) and "random (2 networks)" in lines[0]
    assert lines[1].split() == ["mean", "error", *(["50.0%", "[0.0%,", "100.0%]"] * 2)]
