"""Channels that go together: found, ranked, cut out, and nothing else is changed by it."""

import pytest
import torch
from tiny_pruning import SIDE, coupled
from torch import Tensor, nn

from nas.compression.models import load_model
from nas.compression.pruning import find_groups, floors
from nas.compression.pruning.groups import cut, rank_channels
from nas.compression.widths import is_depthwise, widths_of
from nas.errors import UsageError

IMAGE = torch.zeros(1, 1, SIDE, SIDE)


def test_groups_are_in_the_order_of_the_layers_and_leave_the_outputs_alone() -> None:
    groups = {group.root: group for group in find_groups(coupled(), IMAGE)}
    assert list(groups) == ["stem.0", "expand", "side", "mix"]
    assert groups["stem.0"].outputs.keys() == {"stem.0", "stem.1", "project"}
    assert groups["stem.0"].inputs == {"stem.1": 1, "expand": 1, "side": 1, "mix": 1}
    assert groups["expand"].outputs.keys() == {"expand", "norm", "depthwise"}
    assert groups["mix"].inputs == {"head": 4} and groups["mix"].outputs == {"mix": 1}


@pytest.mark.parametrize("root", ["stem.0", "expand", "side", "mix"])
@pytest.mark.parametrize("importance", ["magnitude", "l2"])
def test_channels_that_nothing_reads_are_cut_first_and_change_no_answer(root: str, importance: str) -> None:
    network = coupled()
    group = next(group for group in find_groups(network, IMAGE) if group.root == root)
    dead = [1, 4, 6]
    with torch.no_grad():
        for path, ratio in group.inputs.items():
            layer = network.get_submodule(path)
            if not is_depthwise(layer) and not isinstance(layer, nn.BatchNorm2d):
                first = 16 if root == "side" else 0  # after the channels that are concatenated before
                for channel in dead:
                    layer.weight[:, first + int(ratio) * channel : first + int(ratio) * (channel + 1)] = 0
        for path in group.outputs:
            network.get_submodule(path).weight[dead] *= 0.01
    assert sorted(rank_channels(network, IMAGE, importance)[root][:3]) == dead
    images = torch.rand(4, 1, SIDE, SIDE)
    smaller = cut(network, IMAGE, root, dead)
    torch.testing.assert_close(smaller(images), network(images), atol=1e-5, rtol=1e-5)
    assert widths_of(smaller) == group.without(widths_of(network), 3)


def test_taylors_importance_follows_the_gradients() -> None:
    network = coupled()
    network(torch.rand(4, 1, SIDE, SIDE)).sum().backward()
    *others, most = rank_channels(network, IMAGE, "taylor")["expand"]
    for path in ("expand", "norm", "depthwise"):
        for parameter in network.get_submodule(path).parameters():
            parameter.grad[most] = 0
    network.project.weight.grad[:, most] = 0
    ranked = rank_channels(network, IMAGE, "taylor")["expand"]
    assert ranked.index(most) < 8  # with those whose ReLU lets nothing through
    assert [channel for channel in ranked if channel != most] == others


def test_numbers_of_channels_left_are_multiples_and_never_none() -> None:
    network = coupled()
    groups = find_groups(network, IMAGE)
    widths = widths_of(network)
    assert groups[1].counts(widths, 8) == [24, 16, 8]
    assert groups[2].counts(widths, 8) == []
    assert groups[2].counts(widths, 3) == [6, 3]
    least = floors(groups, widths, 8)
    assert [least[path].outputs for path in ("stem.0", "project", "depthwise", "side", "mix", "head")] == [
        8,
        8,
        8,
        8,
        8,
        3,
    ]
    assert (least["mix"].inputs, least["head"].inputs) == (8 + 8, 8 * 4)


@pytest.mark.parametrize("name", ["timm:resnet10t", "timm:mobilenetv3_small_050"])
def test_networks_of_timm_are_pruned_in_every_group(name: str) -> None:
    network, image = load_model(name, weights="random", classes=4).network, torch.zeros(1, 3, 32, 32)
    groups = find_groups(network, image)
    assert len(groups) >= 9
    for group in groups[:: len(groups) // 4]:
        smaller = cut(network, image, group.root, [0])
        assert widths_of(smaller) == group.without(widths_of(network), 1)
        assert smaller(image).shape == (1, 4)


class Branching(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(1, 4, 1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(x) if int(x.sum()) > 100 else self.conv(x, x)


def test_networks_that_cannot_be_pruned_are_refused_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsageError, match=r"the model cannot be traced for pruning: .*; allowed: networks of conv"):
        find_groups(Branching(), IMAGE)
    with pytest.raises(UsageError, match=r"no channels that can be pruned; allowed: networks of convolutions"):
        find_groups(nn.Sequential(nn.Flatten(), nn.Linear(SIDE * SIDE, 3)).eval(), IMAGE)
    with pytest.raises(UsageError, match=r"unknown importance 'size'; there is: l2, magnitude, taylor"):
        rank_channels(coupled(), IMAGE, "size")
    monkeypatch.setitem(__import__("sys").modules, "torch_pruning", None)
    with pytest.raises(UsageError, match=r"needs torch-pruning .*; install it: pip install torch-pruning"):
        find_groups(coupled(), IMAGE)
