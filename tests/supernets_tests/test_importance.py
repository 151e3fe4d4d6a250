"""Importance of blocks by Gumbel softmax: what is looked at, and that what does harm is unimportant."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_families import tiny_metaformer
from tiny_space import tiny_space
from tiny_training import bright_images
from torch import nn

from search_spaces import SearchSpace
from supernets import ImageInfo, Supernet, make_supernet, prepare
from supernets.importance import Mixed, _mixtures, block_importance


def supernet_of(space: SearchSpace) -> Supernet:
    return make_supernet(space, ImageInfo("brightness", ("dark", "grey", "light"), (0.5,), (0.3,)), seed=1).eval()


@pytest.mark.parametrize("make", [tiny_space, tiny_metaformer])
@torch.no_grad()
def test_with_every_mixture_at_its_last_block_it_is_the_largest_network(make) -> None:  # type: ignore[no-untyped-def]
    net = supernet_of(make())
    space = net.space
    stem, blocks, head = _mixtures(net)
    candidate = space.candidate(space.largest())
    images = prepare(bright_images(4, 0).images, candidate.resolution, net.info)
    x = stem(images)
    for block in blocks.values():
        if isinstance(block, Mixed):
            chosen = torch.full((len(block.alpha),), -100.0)
            chosen[len(block.kinds) - 1] = 100.0  # attention, where there is a choice
            x = block(x, chosen)
        else:
            x = block(x)
    torch.testing.assert_close(head(x), net(images, candidate), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize(
    ("make", "names"),
    [(tiny_space, {"block_0_1", "block_1_1"}), (tiny_metaformer, {"block_0_1", "block_1_1", "block_1_2"})],
)
def test_blocks_that_may_be_left_out_have_an_importance_and_the_supernet_stays_as_it_was(make, names: set[str]) -> None:  # type: ignore[no-untyped-def]
    net = supernet_of(make())
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    rng = np.random.default_rng(0)
    found = block_importance(net, bright_images(12, 0), steps=2, batch_size=4, rng=rng)
    assert set(found) == names and all(value > 0 for value in found.values())
    assert all(before[name].equal(tensor) for name, tensor in net.state_dict().items())


def test_a_block_that_does_harm_becomes_unimportant() -> None:
    net, images = supernet_of(tiny_space()), bright_images(48, 0)
    candidate = net.space.candidate(net.space.largest())
    norms = [net.blocks[name].project.bn for name in ("block_0_1", "block_1_1")]
    for norm in norms:  # blocks that add nothing, while the rest learns to tell brightness
        nn.init.zeros_(norm.weight.requires_grad_(False))
    pixels = prepare(images.images, candidate.resolution, net.info)
    optimizer = torch.optim.Adam([one for one in net.parameters() if one.requires_grad], 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        F.cross_entropy(net.train()(pixels, candidate), images.labels).backward()
        optimizer.step()
    nn.init.constant_(norms[1].weight, 10.0)  # one of them now drowns it in noise
    found = block_importance(net, images, steps=60, batch_size=16, rng=np.random.default_rng(0))
    assert found["block_1_1"] < 0.5 * found["block_0_1"]
