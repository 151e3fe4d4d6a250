"""Whole measured networks give back the cost of their parts."""

from collections.abc import Callable

import numpy as np
import pytest
import torch
from tiny_families import TINY, tiny_bottleneck
from tiny_space import tiny_space
from torch import nn

from latency_tables.costs import Images
from latency_tables.features import cost_features, count_features, feature_matrix, weighted_sum
from latency_tables.regression import CostRegression
from nas.errors import UsageError
from search_spaces import SearchSpace, get_space
from supernets import make_subnet

SPACE = get_space("fashion-mbv3")
FEATURES = cost_features(SPACE, Images(1, 10))
TRUTH = weighted_sum(FEATURES, np.random.default_rng(5).random(len(FEATURES)) / 100)


def test_features_of_a_network_are_the_sums_of_its_parts() -> None:
    genes = SPACE.sample(50, np.random.default_rng(0))
    weights = np.random.default_rng(1).random(len(FEATURES))
    assert np.allclose(
        feature_matrix(FEATURES, genes) @ weights, weighted_sum(FEATURES, weights).predict_ms(genes), rtol=1e-4
    )


def test_it_recovers_costs_of_networks_it_has_not_seen() -> None:
    genes = SPACE.sample(300, np.random.default_rng(0))
    table = CostRegression(FEATURES).fit(genes[:200], TRUTH.predict_ms(genes[:200]).astype(float))
    error = table.predict_ms(genes[200:]) / TRUTH.predict_ms(genes[200:]) - 1
    assert np.abs(error).max() < 0.02


def test_one_wrong_measurement_in_ten_does_little_harm() -> None:
    rng = np.random.default_rng(0)
    genes = SPACE.sample(300, rng)
    ms = TRUTH.predict_ms(genes[:200]) * np.where(rng.random(200) < 0.1, 1.5, rng.normal(1, 0.01, 200))
    error = CostRegression(FEATURES).fit(genes[:200], ms).predict_ms(genes[200:]) / TRUTH.predict_ms(genes[200:]) - 1
    assert np.median(np.abs(error)) < 0.015


def test_no_entry_is_negative_whatever_was_measured() -> None:
    rng = np.random.default_rng(0)
    table = CostRegression(FEATURES).fit(SPACE.sample(60, rng), rng.uniform(0.1, 1.0, 60))
    assert all(array[at] >= 0 for _, array, at in table.entries())


def test_crossed_predictions_do_not_see_their_own_fold() -> None:
    genes = SPACE.sample(100, np.random.default_rng(0))
    ms = TRUTH.predict_ms(genes).astype(float)
    folds = np.arange(100) % 5
    before = CostRegression(FEATURES).crossed(genes, ms, folds)
    wrong = np.where(folds == 0, ms * 3, ms)
    assert np.array_equal(CostRegression(FEATURES).crossed(genes, wrong, folds)[folds == 0], before[folds == 0])


def test_the_channels_of_the_images_count() -> None:
    space = tiny_space()
    grey, rgb = (cost_features(space, Images(channels, 10)) for channels in (1, 3))
    assert (rgb["fp32 stem macs"].part_ms[0] == 3 * grey["fp32 stem macs"].part_ms[0]).all()


@pytest.mark.parametrize("make", TINY.values(), ids=TINY)
def test_every_part_that_is_there_has_a_cost_and_more_after_another_precision(make: Callable[[], SearchSpace]) -> None:
    space = make()
    costly = weighted_sum(found := cost_features(space, Images(1, 10)), np.ones(len(found)))
    for part, costs in enumerate(costly.part_ms):
        assert (costs[:, :, 1:] > 0).all() and (costs[:, :, 0] == 0).all()
        own = [space.precisions.index(choice.precision) for choice in space.part_choices(part)]
        other = np.arange(costs.shape[1])[:, None] != own
        if part:
            assert (costs[:, :, 1:] - costs[:, :, 1:].min(axis=1, keepdims=True) > 0)[:, other].all()


def test_the_multiply_adds_of_a_bottleneck_network_are_those_of_its_layers() -> None:
    space = tiny_bottleneck()
    names = ["stem first macs", "stem macs", "pointwise macs", "spatial macs", "strided spatial macs", "head macs"]
    features = cost_features(space, Images(1, 10))
    rows = space.with_precision(space.sample(20, np.random.default_rng(0)), "fp32")
    counted = sum(features[f"fp32 {name}"].predict_ms(rows) for name in names)
    for row, macs in zip(rows, counted, strict=True):
        candidate = space.candidate(row)
        net = make_subnet(space, candidate, channels=1, classes=10).eval()
        assert macs * 1e6 == pytest.approx(multiply_adds(net, candidate.resolution), rel=1e-5)


def multiply_adds(net: nn.Module, side: int) -> int:
    total = 0

    def count(layer: nn.Module, inputs: tuple, output: torch.Tensor) -> None:
        nonlocal total
        total += output[0].numel() * layer.weight[0].numel()

    for layer in net.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            layer.register_forward_hook(count)
    net(torch.zeros(1, 1, side, side))
    return total


def test_counts_tell_resolutions_and_precisions_apart() -> None:
    space = tiny_space()
    rows = np.stack([space.largest("fp32"), space.largest("int8"), space.smallest("fp32")])
    matrix = feature_matrix(count_features(space), rows)
    assert len(np.unique(matrix, axis=0)) == 3


@pytest.mark.parametrize(
    ("count", "ms", "message"),
    [
        (5, np.ones(5), "5 latencies for 5 networks; allowed: one each, for 20 networks or more"),
        (30, np.ones(29), "29 latencies for 30 networks"),
        (30, np.array([1.0] * 29 + [np.nan]), "latency nan ms of network 29; allowed: positive and finite"),
        (30, np.array([0.0] + [1.0] * 29), r"latency 0.0 ms of network 0"),
    ],
)
def test_measurements_that_cannot_be_fitted_are_refused(count: int, ms: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CostRegression(FEATURES).fit(SPACE.sample(count, np.random.default_rng(0)), ms)
