"""Calibration finds the ranges that torch sees, whatever the batch, and refuses images that cannot calibrate."""

import copy
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_families import TINY
from torch import nn

from nas.compression import Ranges, activation_ranges
from nas.compression.ranges import assumed_ranges
from nas.errors import DataError, UsageError
from supernets.families import make_subnet
from supernets.graph import to_onnx

IMAGES = np.random.default_rng(0).normal(size=(40, 1, 20, 20)).astype(np.float32)


@pytest.fixture(scope="module")
def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    ).eval()


@pytest.fixture(scope="module")
def ranges(network: nn.Module) -> Ranges:
    return activation_ranges(to_onnx(network, 1, 20), IMAGES)


def test_ranges_are_those_that_torch_sees(network: nn.Module, ranges: Ranges) -> None:
    assert isinstance(network, nn.Sequential)
    values = {"input": torch.from_numpy(IMAGES)}
    for name, layer in zip(["0/Conv", "1/Relu", "2/Conv", "3/GlobalAveragePool", "logits"], network, strict=True):
        values[name] = layer(next(reversed(values.values())))
    assert ranges.limits.keys() == values.keys()
    for name, value in values.items():
        np.testing.assert_allclose(ranges.limits[name], (value.min().item(), value.max().item()), atol=1e-5)


@pytest.mark.parametrize("batch", ["N", 3])
def test_ranges_do_not_depend_on_the_graphs_batch(batch: int | str, network: nn.Module, ranges: Ranges) -> None:
    again = activation_ranges(to_onnx(network, 1, 20, batch), IMAGES)
    assert again.limits.keys() == ranges.limits.keys()
    for name, limits in ranges.limits.items():
        np.testing.assert_allclose(again.limits[name], limits, atol=1e-5)


def test_calibration_leaves_nothing_behind(
    network: nn.Module, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    graph = to_onnx(network, 1, 20)
    before = graph.SerializeToString(deterministic=True)
    activation_ranges(graph, IMAGES)
    assert list(tmp_path.iterdir()) == []
    assert capsys.readouterr() == ("", "")
    assert graph.SerializeToString(deterministic=True) == before


@pytest.mark.parametrize(
    ("images", "error", "message"),
    [
        (
            np.zeros((4, 3, 20, 20), np.float32),
            UsageError,
            r"images are float32 \(4, 3, 20, 20\); the graph takes float32",
        ),
        (np.zeros((4, 1, 20, 20), np.float64), UsageError, r"images are float64"),
        (IMAGES[:0], DataError, r"there are no calibration images"),
        (np.full((4, 1, 20, 20), np.inf, np.float32), DataError, r"calibration images hold values that are not finite"),
    ],
)
def test_images_that_cannot_calibrate_are_refused(
    images: np.ndarray, error: type[Exception], message: str, network: nn.Module
) -> None:
    with pytest.raises(error, match=message):
        activation_ranges(to_onnx(network, 1, 20), images)


@pytest.mark.parametrize("value", [np.nan, 3e38])
@pytest.mark.filterwarnings("error")
def test_a_network_that_is_not_finite_is_refused(value: float, network: nn.Module) -> None:
    wrong = copy.deepcopy(network)
    nn.init.constant_(wrong.get_parameter("2.weight"), value)
    with pytest.raises(UsageError, match=r"'2/Conv' of the graph is not finite on the calibration images; check its"):
        activation_ranges(to_onnx(wrong, 1, 20), IMAGES)


@pytest.mark.parametrize("family", TINY)
def test_assumed_ranges_have_the_signs_that_images_give(family: str) -> None:
    space = TINY[family]()
    torch.manual_seed(0)
    for row in (space.largest(), *space.sample(2, np.random.default_rng(0))):
        candidate = space.candidate(row)
        graph = to_onnx(make_subnet(space, candidate, channels=1, classes=3).eval(), 1, candidate.resolution)
        shape = (32, 1, candidate.resolution, candidate.resolution)
        images = np.random.default_rng(1).normal(size=shape).astype(np.float32)
        assumed = assumed_ranges(graph).limits
        seen = activation_ranges(graph, images).limits
        found = {name: (low >= 0, seen[name][0] >= 0) for name, (low, _) in assumed.items()}
        assert [name for name, (never, was) in found.items() if never and not was] == []
        assert sum(never for never, _ in found.values()) > 5
        by_chance = [name for name, (never, was) in found.items() if was and not never]
        assert len(by_chance) <= 3, by_chance  # such as a mean over a map, or a few logits
