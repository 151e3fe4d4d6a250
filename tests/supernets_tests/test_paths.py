"""The gated paths of an inverted-residual supernet: with one open path a choice they are the supernet's networks."""

import numpy as np
import pytest
import torch
from squeezed_space import squeezed_space
from tiny_space import tiny_space

from search_spaces import MBConvSpace
from supernets import ImageInfo, make_supernet, prepare
from supernets.mbconv import MBConvSupernet
from supernets.paths import MBConvPaths


def paths_of(space: MBConvSpace, part: MBConvSpace | None = None) -> MBConvPaths:
    channels = space.preset.channels
    net = make_supernet(space, ImageInfo("noise", ("a", "b", "c"), (0.5,) * channels, (0.3,) * channels), seed=1)
    assert isinstance(net, MBConvSupernet)
    return MBConvPaths(net.eval(), part or space)


def noise(space: MBConvSpace) -> torch.Tensor:
    shape = (4, space.preset.channels, max(space.resolutions), max(space.resolutions))
    return torch.randint(0, 256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def draws(paths: MBConvPaths, n: int) -> np.ndarray:
    rng = np.random.default_rng(0)
    return np.stack([rng.integers(len(choice.values), size=n) for choice in paths.choices], axis=1)


@pytest.mark.parametrize("make", [tiny_space, squeezed_space])
@pytest.mark.parametrize("training", [False, True])
@torch.no_grad()
def test_with_one_open_path_a_choice_it_is_the_supernet_with_that_candidate(make, training: bool) -> None:  # type: ignore[no-untyped-def]
    paths = paths_of(make())
    paths.supernet.train(training)
    images = noise(paths.space)
    for picks, row in zip(draws(paths, 6), paths.genes(draws(paths, 6), "fp32"), strict=True):
        candidate = paths.space.candidate(row)
        torch.manual_seed(0)  # of dropout
        expected = paths.supernet(prepare(images, candidate.resolution, paths.supernet.info), candidate)
        torch.manual_seed(0)
        found = paths.logits(images, [{int(option): 1.0} for option in picks])
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_options_spell_every_distinct_network_of_a_precision_and_no_other() -> None:
    space = tiny_space(("int8",))
    paths = paths_of(tiny_space(), space)
    counts = [len(choice.values) for choice in paths.choices]
    every = np.stack([axis.ravel() for axis in np.indices(counts)], axis=1)
    assert len(np.unique(paths.genes(every, "int8"), axis=0)) == space.size


def test_a_closed_path_changes_nothing_and_its_gradient_is_that_of_opening_it() -> None:
    paths = paths_of(tiny_space())
    images, picks = noise(paths.space), [len(choice.values) - 1 for choice in paths.choices]
    plain = paths.logits(images, [{option: 1.0} for option in picks])
    for number in range(len(picks)):
        closed = torch.zeros((), requires_grad=True)
        gates = [{option: 1.0} for option in picks]
        gates[number] = {picks[number]: 1.0, picks[number] - 1: closed}
        logits = paths.logits(images, gates)
        torch.testing.assert_close(logits, plain, rtol=1e-4, atol=1e-5)
        (slope,) = torch.autograd.grad(logits.sum(), closed)
        gates[number] = {picks[number]: 1.0, picks[number] - 1: 1e-3}
        opened = (paths.logits(images, gates).sum() - plain.sum()) / 1e-3
        assert float(slope) == pytest.approx(float(opened.detach()), rel=0.1, abs=0.05), paths.choices[number].name
