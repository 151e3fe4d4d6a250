"""Reports where every value is the same: no order, no warning, and figures that JSON can hold."""

import json
import warnings
from dataclasses import asdict

import numpy as np
import pytest

from predictors.calibration_report import LatencyErrors
from predictors.prediction import Prediction
from predictors.ranks import kendall, spearman
from predictors.report import accuracy_report

SAME, RISING = np.full(12, 0.5), np.linspace(0.1, 0.9, 12)


@pytest.mark.parametrize("correlation", [kendall, spearman])
def test_a_constant_has_no_order(correlation) -> None:  # type: ignore[no-untyped-def]
    assert correlation(RISING, RISING) == pytest.approx(1) and correlation(RISING, -RISING) == pytest.approx(-1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert correlation(RISING, SAME) == correlation(SAME, RISING) == correlation(SAME, SAME) == 0


@pytest.mark.parametrize("predicted", [SAME, RISING])
def test_reports_on_constant_values_are_numbers_without_a_warning(predicted) -> None:  # type: ignore[no-untyped-def]
    prediction = Prediction(predicted, predicted - 0.1, predicted + 0.1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        report, errors = accuracy_report(prediction, SAME), LatencyErrors.of(prediction, SAME)
    assert (report.kendall.value, report.kendall.low, report.kendall.high) == (0, 0, 0)
    for one in (report, errors):
        json.dumps(asdict(one), allow_nan=False)
