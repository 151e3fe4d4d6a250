"""Recalibrated batch norms hold what one pass of each whole batch gives, in however many chunks it ran."""

import copy
from collections.abc import Iterator

import pytest
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import update_bn

from supernets import batch_norm, recalibrate_batch_norm


class Residual(nn.Module):
    """Batch norms in a row, one over a sum, an activation in place, and one that something else reads too."""

    def __init__(self, split_by_data: bool = False) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(3, 8, 3), nn.BatchNorm2d(8), nn.ReLU(inplace=True))
        self.norm = nn.BatchNorm2d(8, affine=False)
        self.scale = nn.Parameter(torch.full((8, 1, 1), 0.5))
        self.last = nn.Sequential(nn.Flatten(), nn.Linear(8, 6), nn.BatchNorm1d(6), nn.Dropout(0.5), nn.Linear(6, 2))
        self.split_by_data = split_by_data

    def forward(self, x: Tensor) -> Tensor:
        y = self.first(x)
        if self.split_by_data and y.sum() > 1e9:
            return y
        normed = self.norm(y)
        y = torch.add(normed * self.scale, y).clamp(min=-1) + normed
        result: Tensor = self.last(y.mean((2, 3), keepdim=True))
        return result


def statistics(model: nn.Module) -> dict[str, Tensor]:
    return {name: tensor for name, tensor in model.state_dict().items() if "running" in name or "tracked" in name}


@pytest.mark.parametrize("split_by_data", [False, True], ids=["traced", "not traced"])
@pytest.mark.parametrize("chunk_pixels", [1, 3 * 64, 2**20])
def test_statistics_are_those_of_whole_batches(
    split_by_data: bool, chunk_pixels: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    model = Residual(split_by_data)
    expected = copy.deepcopy(model)
    images = torch.randn(20, 3, 8, 8) * 2 + 1
    update_bn(images.split(10), expected)
    monkeypatch.setattr(batch_norm, "CHUNK_PIXELS", chunk_pixels)
    for given in (images, iter(images.split(10))):
        one: Tensor | Iterator[Tensor] = given
        recalibrate_batch_norm(model, one, batch_size=10)
        torch.testing.assert_close(statistics(model), statistics(expected), rtol=1e-4, atol=1e-5)
    assert model.training


def test_a_network_without_batch_norms_stays_as_it_is() -> None:
    model = nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU()).eval()
    before = copy.deepcopy(model.state_dict())
    recalibrate_batch_norm(model, torch.randn(4, 3, 8, 8))
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    assert not model.training


@pytest.mark.parametrize("name", ["mobilenetv3_small_050", "resnet10t"])
def test_batch_norms_of_any_network_are_recalibrated(name: str) -> None:
    """Timm's batch norms hold their activation, so that no trace meets them as a layer."""
    timm = pytest.importorskip("timm")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        net = timm.create_model(name, num_classes=3, drop_rate=0.0)
        images = torch.randn(24, 3, 64, 64)
    reference = copy.deepcopy(net)
    recalibrate_batch_norm(net, images, batch_size=8)
    torch.optim.swa_utils.update_bn(images.split(8), reference)
    assert net.training
    statistics = {key: tensor for key, tensor in reference.state_dict().items() if "running" in key}
    for key, tensor in statistics.items():
        torch.testing.assert_close(net.state_dict()[key], tensor, rtol=1e-3, atol=1e-3)
    assert any(not torch.equal(tensor, torch.ones_like(tensor)) for key, tensor in statistics.items() if "var" in key)


def test_a_network_with_an_optional_argument_is_recalibrated() -> None:
    class Masked(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norm = torch.nn.BatchNorm2d(2)

        def forward(self, x: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
            return self.norm(x)

    net, images = Masked().train(), torch.randn(8, 2, 4, 4) + 5
    recalibrate_batch_norm(net, images, batch_size=8)
    assert net.training
    torch.testing.assert_close(net.norm.running_mean, images.mean((0, 2, 3)))
