"""The supernet of bottleneck networks: extraction, and training through views of its tensors."""

from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from nas.errors import UsageError
from search_spaces import BottleneckSpace, Candidate, get_bottleneck_space
from supernets import BottleneckSupernet, ImageInfo

SPACE = get_bottleneck_space("ofa-resnet50")
TINY = """
schema_version = 1
name = "tiny"
family = "bottleneck"
summary = "for tests"
resolutions = [32, 48]
channels = 3
classes = 3
dropout = 0
stem_width = 16
widths = [0.5, 1]
keeps = [0.25, 0.5]
round_to = 8
[[stage]]
width = 32
stride = 1
depths = [1, 2]
[[stage]]
width = 64
stride = 2
depths = [1, 2]
"""


@pytest.fixture
def tiny(tmp_path: Path) -> BottleneckSupernet:
    (tmp_path / "tiny.toml").write_text(TINY)
    space = get_bottleneck_space(tmp_path / "tiny.toml")
    net = BottleneckSupernet(space, ImageInfo("noise", ("a", "b", "c"), (0.5,) * 3, (0.25,) * 3), seed=1)
    return randomised_statistics(net)


def randomised_statistics(net: BottleneckSupernet) -> BottleneckSupernet:
    generator = torch.Generator().manual_seed(0)
    for module in net.modules():
        if isinstance(module, nn.BatchNorm2d):
            assert module.running_mean is not None and module.running_var is not None
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    return net.eval()


def ends_and_others(space: BottleneckSpace, count: int) -> list[Candidate]:
    rows = space.sample(count - 2, np.random.default_rng(0))
    largest, smallest = (space.cardinalities - 1).astype(np.int8), np.zeros(space.num_genes, np.int8)
    return [space.candidate(row) for row in (largest, smallest, *rows)]


def test_an_extracted_subnet_has_the_same_logits_and_copies_of_the_weights(tiny: BottleneckSupernet) -> None:
    before = {name: tensor.clone() for name, tensor in tiny.state_dict().items()}
    state = torch.get_rng_state()
    for candidate in ends_and_others(tiny.space, 12):
        x = torch.linspace(-1, 1, 6 * candidate.resolution**2).view(2, 3, candidate.resolution, candidate.resolution)
        subnet = tiny.extract(candidate)
        torch.testing.assert_close(subnet(x), tiny(x, candidate), rtol=1e-5, atol=1e-5)
        assert not subnet.training and subnet.candidate == candidate
        with torch.no_grad():
            for parameter in subnet.parameters():
                parameter.zero_()
    assert all(torch.equal(tensor, before[name]) for name, tensor in tiny.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)  # nobody's draws change by an extraction


def test_a_step_on_a_subnet_moves_the_leading_channels_alone(tiny: BottleneckSupernet) -> None:
    smallest = ends_and_others(tiny.space, 2)[1]
    tiny.train()(torch.randn(4, 3, 32, 32), smallest).square().mean().backward()
    weight = tiny.largest.blocks.block_1_0.widen.conv.weight
    inside = tiny.extract(smallest).blocks.block_1_0.widen.conv.weight.shape[1]
    assert weight.grad is not None
    assert weight.grad[:, :inside].abs().sum() > 0 and weight.grad[:, inside:].abs().sum() == 0
    moved = tiny.largest.stem.first.bn.running_mean
    again = randomised_statistics(BottleneckSupernet(tiny.space, tiny.info, seed=1)).largest.stem.first.bn.running_mean
    assert moved is not None and again is not None and not torch.equal(moved[:8], again[:8])


def test_a_candidate_of_another_space_is_refused(tiny: BottleneckSupernet) -> None:
    with pytest.raises(UsageError, match="candidate of space 'ofa-resnet50'; allowed: 'tiny'"):
        tiny.extract(ends_and_others(SPACE, 2)[0])
