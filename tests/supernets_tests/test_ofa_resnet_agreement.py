"""An imported elastic ResNet50 of once-for-all computes what the real ``ofa`` package computes, to rounding."""

from pathlib import Path

import numpy as np
import pytest
import torch
from test_ofa_agreement import RESOLUTIONS, SUBNETS, TOLERANCE, networks, randomised, relative
from torch import nn

from nas.errors import FileFormatError
from search_spaces import Candidate, SearchSpace, get_space
from supernets import Supernet, import_ofa

SPACE = get_space("ofa-resnet50")


def ends_and_others(space: SearchSpace, count: int) -> list[Candidate]:
    rows = space.sample(count - 2, np.random.default_rng(0))
    return [space.candidate(row) for row in (space.largest(), space.smallest(), *rows)]


@pytest.fixture(scope="module")
def pair(tmp_path_factory: pytest.TempPathFactory) -> tuple[nn.Module, Supernet]:
    theirs = networks.OFAResNets(
        depth_list=[0, 1, 2], expand_ratio_list=[0.2, 0.25, 0.35], width_mult_list=[0.65, 0.8, 1.0]
    )
    randomised(theirs, seed=0)
    path = tmp_path_factory.mktemp("ofa") / "checkpoint.pth"
    torch.save({"state_dict": theirs.state_dict()}, path)
    return theirs, import_ofa(path)


def compare(pair: tuple[nn.Module, Supernet], chosen: list[Candidate]) -> None:
    theirs, supernet = pair
    preset = SPACE.preset
    with torch.inference_mode():
        for number, candidate in enumerate(chosen):
            side = RESOLUTIONS[number % len(RESOLUTIONS)]
            x = torch.randn(1, 3, side, side, generator=torch.Generator().manual_seed(number))
            stages = zip(candidate.blocks, preset.stages, strict=True)
            depths = [sum(block is not None for block in entries) - min(stage.depths) for entries, stage in stages]
            theirs.set_active_subnet(
                d=[2 * (candidate.stem_depth or 0), *depths],
                e=[block.keep if block else 0.2 for stage in candidate.blocks for block in stage],
                w=[preset.widths.index(width) for width in candidate.widths],
            )
            expected = theirs(x)
            extracted = theirs.get_active_subnet(preserve_weight=True).eval()
            subnet = supernet.extract(candidate)
            assert relative(supernet(x, candidate), expected) < TOLERANCE
            assert relative(subnet(x), extracted(x)) < TOLERANCE
            counts = [sum(parameter.numel() for parameter in net.parameters()) for net in (subnet, extracted)]
            assert counts[0] == counts[1]


def test_imported_subnets_have_the_logits_of_the_ofa_package(pair: tuple[nn.Module, Supernet]) -> None:
    compare(pair, ends_and_others(SPACE, 2))


@pytest.mark.slow
def test_all_imported_subnets_have_the_logits_of_the_ofa_package(pair: tuple[nn.Module, Supernet]) -> None:
    compare(pair, ends_and_others(SPACE, SUBNETS))


def test_what_does_not_fit_is_named(pair: tuple[nn.Module, Supernet], tmp_path: Path) -> None:
    tensors = dict(pair[0].state_dict())
    del tensors["blocks.3.conv2.bn.bn.weight"]
    tensors["extra"] = torch.zeros(1)
    torch.save(tensors, tmp_path / "checkpoint.pth")
    with pytest.raises(
        FileFormatError, match=r"'ofa-resnet50': missing blocks\.3\.conv2\.bn\.weight; unexpected extra"
    ):
        import_ofa(tmp_path / "checkpoint.pth")
