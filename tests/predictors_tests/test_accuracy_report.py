"""The report's figures are the textbook's, each inside its interval."""

import numpy as np
import pytest
from invented_accuracy import invented_accuracy
from small_presets import make_preset

from nas.errors import UsageError
from predictors.accuracy import AccuracyPredictor
from predictors.pairs import Pairs
from predictors.prediction import Prediction
from predictors.report import accuracy_report, fit_to_pairs, report_on
from search_spaces import MBConvSpace
from search_spaces.mbconv_preset import MBConvStage

SPACE = MBConvSpace(make_preset(stages=(MBConvStage(16, 2, (1, 2)), MBConvStage(16, 1, (1, 2)))))


def predictions(mean: np.ndarray, half: float = 0.01) -> Prediction:
    return Prediction(mean, mean - half, mean + half)


def test_figures_of_known_errors() -> None:
    truth = np.linspace(0.8, 0.9, 100)
    report = accuracy_report(predictions(truth + 0.004), truth)
    assert report.networks == 100
    assert (report.kendall.value, report.spearman.value, report.coverage.value) == pytest.approx((1, 1, 1))
    assert (report.rmse.value, report.mae.value, report.bias.value) == pytest.approx((0.004, 0.004, 0.004))
    assert report.interval.value == pytest.approx(0.02)
    assert accuracy_report(predictions(-truth), truth).kendall.value == pytest.approx(-1)
    assert accuracy_report(predictions(truth + 0.02), truth).coverage.value == 0


def test_intervals_hold_the_figure_and_are_wider_for_fewer_networks() -> None:
    rng = np.random.default_rng(0)
    widths = {}
    for count in (50, 800):
        truth = rng.uniform(0.8, 0.9, count)
        report = accuracy_report(predictions(truth + rng.normal(0, 0.006, count)), truth)
        for name in ("kendall", "spearman", "rmse", "mae", "bias", "coverage"):
            estimate = getattr(report, name)
            assert estimate.low <= estimate.value <= estimate.high
        widths[count] = report.kendall.high - report.kendall.low
        assert report.coverage.value == pytest.approx(0.9, abs=0.1)
    assert widths[50] > 2 * widths[800]


def test_the_report_is_the_same_each_time_and_prints_a_line_a_figure() -> None:
    truth = np.linspace(0.8, 0.9, 20)
    one, two = (accuracy_report(predictions(truth[::-1].copy()), truth) for _ in range(2))
    assert one == two
    lines = list(one.lines())
    assert lines[0].split() == ["networks", "20"]
    assert [line.split()[0] for line in lines[1:]] == [
        "kendall", "spearman", "rmse", "mae", "bias", "coverage", "interval"
    ]  # fmt: skip
    assert lines[1].endswith("-1.0000 [-1.0000, -1.0000]")


@pytest.mark.parametrize("lengths", [(9, 9), (20, 19)])
def test_too_few_networks_are_refused(lengths: tuple[int, int]) -> None:
    predicted, measured = (np.full(length, 0.5) for length in lengths)
    with pytest.raises(UsageError, match=f"{lengths[0]} predictions for {lengths[1]} held-out pairs; .* 10 or"):
        accuracy_report(predictions(predicted), measured)


def test_a_predictor_is_fitted_to_pairs_and_judged_by_those_held_out() -> None:
    rng = np.random.default_rng(0)
    genes = SPACE.sample(200, rng)
    fp32 = SPACE.with_precision(genes, "fp32")
    one, two = (
        Pairs(
            rows,
            invented_accuracy(SPACE, rows, noise=0.0005),
            np.arange(200),
            images=1000,
            data="cccc",
            supernet="aaaa",
        )
        for rows in (fp32, genes)
    )
    predictor = fit_to_pairs(AccuracyPredictor(SPACE, members=2, width=16), one, two)
    report = report_on(predictor, two)
    assert predictor.knows_precision
    assert report.networks == 40 and report.kendall.value > 0.5
