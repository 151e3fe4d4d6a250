"""Imported once-for-all supernets compute what the real ``ofa`` package computes, to rounding."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from search_spaces import Candidate, get_space
from supernets import Supernet, import_ofa

networks = pytest.importorskip("ofa.imagenet_classification.elastic_nn.networks", reason="the peer package ofa")

CHOICES: dict[str, Any] = {"ks_list": [3, 5, 7], "expand_ratio_list": [3, 4, 6], "depth_list": [2, 3, 4]}
FAMILIES: dict[str, Callable[[], nn.Module]] = {
    "ofa-mbv3": lambda: networks.OFAMobileNetV3(width_mult=1.0, **CHOICES),
    "ofa-mbv3-w1.2": lambda: networks.OFAMobileNetV3(width_mult=1.2, **CHOICES),
    "ofa-proxyless": lambda: networks.OFAProxylessNASNets(width_mult=1.3, **CHOICES),
}
SUBNETS = 25
RESOLUTIONS = (128, 160, 224)
TOLERANCE = 1e-5  # of the largest logit, in fp32


def randomised(net: nn.Module, seed: int) -> nn.Module:
    """Give every parameter and statistic a value of its own, such that activations neither fade nor explode."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, tensor in net.state_dict().items():
            if name.endswith("_matrix"):
                tensor.add_(torch.empty_like(tensor).normal_(0, 0.1, generator=generator))
            elif name.endswith("running_var") or ("bn" in name and name.endswith("weight")):
                low = 0.2 if ("point_linear" in name or "conv3" in name) and name.endswith("weight") else 0.5
                tensor.uniform_(low, 3 * low, generator=generator)  # below one where residual sums add up
            elif name.endswith(("running_mean", "bias")):
                tensor.normal_(0, 0.1, generator=generator)
            elif tensor.is_floating_point():
                tensor.normal_(0, (2 / tensor[0].numel()) ** 0.5, generator=generator)
    return net.eval()


@pytest.fixture(scope="module", params=FAMILIES)
def pair(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Supernet]:
    theirs = randomised(FAMILIES[request.param](), seed=0)
    path = tmp_path_factory.mktemp("ofa") / "checkpoint.pth"
    torch.save({"state_dict": theirs.state_dict()}, path)
    return theirs, import_ofa(path, request.param)


def choose(theirs: nn.Module, candidate: Candidate) -> None:
    """Make a candidate their active subnet."""
    blocks = [block for stage in candidate.blocks for block in stage]
    theirs.set_active_subnet(
        ks=[block.kernel if block else 3 for block in blocks],
        e=[block.expand if block else 3 for block in blocks],
        d=[sum(block is not None for block in stage) for stage in candidate.blocks],
    )


def candidates(supernet: Supernet) -> list[Candidate]:
    space = get_space(supernet.space.name, precisions=["fp32"])
    rows = space.sample(SUBNETS - 2, np.random.default_rng(0))
    return [space.candidate(row) for row in (space.largest(), space.smallest(), *rows)]


def relative(found: torch.Tensor, expected: torch.Tensor) -> float:
    assert expected.std() > 1e-2 * expected.abs().max()
    return float((found - expected).abs().max() / expected.abs().max())


def test_weights_are_as_many(pair: tuple[nn.Module, Supernet]) -> None:
    counts = [sum(parameter.numel() for parameter in net.parameters()) for net in pair]
    assert counts[0] == counts[1]


def test_logits_depend_on_the_image_and_on_the_subnet(pair: tuple[nn.Module, Supernet]) -> None:
    _, supernet = pair
    large, small = candidates(supernet)[:2]
    x = torch.randn(2, 3, 128, 128, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        logits = supernet(x, large)
        assert relative(logits[:1], logits[1:]) > 100 * TOLERANCE and relative(supernet(x, small), logits) > 0.1


def compare(pair: tuple[nn.Module, Supernet], chosen: list[Candidate]) -> None:
    theirs, supernet = pair
    with torch.inference_mode():
        for number, candidate in enumerate(chosen):
            side = RESOLUTIONS[number % len(RESOLUTIONS)]
            x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(number))
            choose(theirs, candidate)
            expected = theirs(x)
            assert relative(supernet(x, candidate), expected) < TOLERANCE
            ours, extracted = supernet.extract(candidate), theirs.get_active_subnet(preserve_weight=True).eval()
            assert relative(ours(x), expected) < TOLERANCE
            assert relative(ours(x), extracted(x)) < TOLERANCE
            counts = [sum(parameter.numel() for parameter in net.parameters()) for net in (ours, extracted)]
            assert counts[0] == counts[1]


def test_subnets_have_the_same_logits_inside_the_supernet_and_extracted(pair: tuple[nn.Module, Supernet]) -> None:
    compare(pair, candidates(pair[1])[:3])


@pytest.mark.slow
def test_all_subnets_have_the_same_logits(pair: tuple[nn.Module, Supernet]) -> None:
    compare(pair, candidates(pair[1]))


def test_the_batch_norms_are_theirs(pair: tuple[nn.Module, Supernet]) -> None:
    theirs, supernet = pair
    candidate = candidates(supernet)[1]
    choose(theirs, candidate)
    nets = (supernet, supernet.extract(candidate), theirs.get_active_subnet(preserve_weight=True))
    norms = [{(norm.eps, norm.momentum) for norm in net.modules() if isinstance(norm, nn.BatchNorm2d)} for net in nets]
    assert norms[0] == norms[1] == norms[2] and len(norms[0]) == 1


def test_the_space_is_found_without_its_name(pair: tuple[nn.Module, Supernet], tmp_path: Path) -> None:
    theirs, supernet = pair
    torch.save(theirs.state_dict(), tmp_path / "bare.pth")
    found = import_ofa(tmp_path / "bare.pth")
    assert found.space.name == supernet.space.name
    assert all(torch.equal(found.state_dict()[name], tensor) for name, tensor in supernet.state_dict().items())
