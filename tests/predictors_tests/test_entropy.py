"""The entropy of a network is what its layers and features say, for every family."""

from math import log

import numpy as np
import pytest
from squeezed_space import squeezed_space
from tiny_families import TINY
from torch import nn

from predictors.entropy import Entropy
from search_spaces import Candidate, SearchSpace, get_space
from supernets.families import make_subnet

SPACES = {**TINY, "squeezed": squeezed_space}
ASIDE = ("shortcut", ".se.", "aside")


def layer_terms(module: nn.Module) -> float:
    """Return the sum of log sqrt(Cin k²) over the layers of the main way."""
    total = 0.0
    for name, layer in module.named_modules():
        if isinstance(layer, nn.Conv2d | nn.Linear) and not any(aside in name for aside in ASIDE):
            total += 0.5 * log(layer.weight[0].numel())
    return total


def counted(space: SearchSpace, candidate: Candidate) -> float:
    """Return the entropy counted on the torch network, walking its blocks."""
    subnet = make_subnet(space, candidate, channels=space.preset.channels, classes=space.preset.classes)
    widths: dict[int, int] = {}
    so_far, sums = layer_terms(subnet.stem), {}
    for name, block in subnet.blocks.named_children():
        stage = int(name.split("_")[1])
        so_far += layer_terms(block)
        sums[stage] = so_far
        widths[stage] = [layer.num_features for layer in block.modules() if isinstance(layer, nn.BatchNorm2d)][-1]
    strides = [stage.stride for stage in space.preset.stages]
    ends = [stage for stage in sums if stage + 1 == len(strides) or strides[stage + 1] == 2]
    side = candidate.resolution
    sides = {}
    stem_stride = getattr(space, "stem_stride", None) or space.preset.stem_stride
    side = -(-side // stem_stride)
    for stage, stride in enumerate(strides):
        side = -(-side // stride)
        sides[stage] = side
    weights = dict(zip(reversed(ends), (6, 1, 1), strict=False))
    return sum(weight * (sums[stage] + log(widths[stage] * sides[stage] ** 2)) for stage, weight in weights.items())


@pytest.mark.parametrize("name", [name for name in SPACES if name != "metaformer"])
def test_it_is_that_of_the_layers_of_the_network(name: str) -> None:
    space = SPACES[name]()
    genes = space.sample(12, np.random.default_rng(0))
    expected = [counted(space, space.candidate(row)) for row in genes]
    np.testing.assert_allclose(Entropy(space).score(genes), expected)


@pytest.mark.parametrize("name", SPACES)
def test_the_largest_network_has_most_and_the_smallest_least_and_no_precision_changes_it(name: str) -> None:
    space = SPACES[name]()
    genes = np.stack([space.smallest(), *space.sample(50, np.random.default_rng(0)), space.largest()])
    scores = Entropy(space).score(genes)
    assert scores.argmin() == 0 and scores.argmax() == len(scores) - 1
    for precision in space.precisions:
        np.testing.assert_array_equal(Entropy(space).score(space.with_precision(genes, precision)), scores)


def test_at_one_resolution_the_pixels_are_a_constant() -> None:
    space = get_space("fashion-mbv3")
    genes = space.sample(2, np.random.default_rng(0))
    differences = []
    for resolution in range(len(space.resolutions)):
        genes[:, 0] = resolution
        differences.append(float(np.diff(Entropy(space).score(genes))[0]))
    assert differences == pytest.approx([differences[0]] * 3)
