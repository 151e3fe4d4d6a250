"""What a factorised space says of its own: its exact size, its parts, and presets and candidates that are refused."""

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_families import tiny_factorised
from torch import nn

from nas.errors import FileFormatError, UsageError
from search_spaces import Candidate, get_space, preset_path, read_preset
from search_spaces.factorised_parts import StageChoice
from supernets.factorised_layers import CrossStage


def edited(tmp_path: Path, old: str, new: str) -> Path:
    text = preset_path("cifar10-tinynas").read_text()
    assert old in text
    path = tmp_path / "space.toml"
    path.write_text(text.replace(old, new, 1))
    return path


def test_its_size_is_the_product_of_its_choices() -> None:
    space = tiny_factorised(("fp32",))
    assert space.size == 2 * (2 * 5 * 2 * 2 * 2) ** 3


def test_a_stage_is_one_part_with_all_of_its_layers() -> None:
    space = tiny_factorised()
    assert space.part_names == ("stem", "block_0_0", "block_1_0", "block_2_0", "head")
    largest = space.part_choices(2)[space.part_codes(space.largest()[None])[0, 2] - 1]
    assert largest == StageChoice(32, 32, "csp", 5, 32, 2, "fp32")


def test_a_mutation_of_the_width_changes_what_enters_the_next_stage() -> None:
    space = tiny_factorised()
    row = space.smallest()
    row[space.gene_names.index("block_0_0.width")] = 1
    codes = space.part_codes(row[None])[0]
    entered = [space.part_choices(stage)[codes[stage] - 1].in_width for stage in (1, 2, 3)]
    assert entered == [16, 32, 16]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            'kinds = ["k1kx", "kxkx", "csp"]',
            'kinds = ["csp", "k1kx"]',
            "block.kinds is ['csp', 'k1kx']; allowed: some of",
        ),
        ('"csp"]', '"pool"]', "block.kinds is ['k1kx', 'kxkx', 'pool']; allowed: a list of mbconv or"),
        (
            "widths = [0.5, ",
            "widths = [0.74, ",
            "stage 1 has [72, 72, 96] channels by its widths; allowed: widths",
        ),
        ("keeps = [0.25, ", "keeps = [0.49, ", "stage 0 has [16, 16, 24] channels by its keeps; allowed: keeps that"),
        ("layers = [1, ", "layers = [0, ", "block.layers is [0, 2, 3, 4]; allowed: a list of 1 to 16"),
        ("expand = 1", "expand = 0", "block.expand is 0; allowed: 1 to 16"),
        ("stem_stride = 1", "stem_stride = 4", "stem_stride is 4; allowed: 1 or 2"),
        ("stride = 2", "stride = 2\ndepths = [1]", "stage[0].depths is an unknown key; allowed: width, stride"),
    ],
)
def test_a_preset_that_does_not_fit_is_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(FileFormatError, match=re.escape(message)):
        read_preset(edited(tmp_path, old, new))


def test_a_candidate_with_a_choice_that_the_space_lacks_is_refused() -> None:
    space = get_space("mnasnet")
    candidate = space.candidate(space.largest())
    block = candidate.blocks[0][0]
    assert block is not None

    def having(**changes: object) -> Candidate:
        return replace(candidate, blocks=((replace(block, **changes),), *candidate.blocks[1:]))

    for wrong, message in (
        (having(layers=9), "block_0_0: layers 9; allowed: 1, 2, 3, 4"),
        (having(mixer="csp"), "block_0_0: mixer 'csp'; allowed: mbconv, mbconv_se"),
        (having(kernel=7), "block_0_0: kernel 7; allowed: 3, 5"),
        (replace(candidate, widths=(1.0,)), "candidate: 1 widths; allowed: 7, one a stage"),
    ):
        with pytest.raises(UsageError, match=re.escape(message)):
            space.check(wrong)


def test_the_layers_of_a_block_are_in_its_file_and_nothing_where_there_is_one() -> None:
    space = get_space("mnasnet")
    for row in (space.largest(), space.smallest()):
        content = space.candidate(row).to_dict()
        found = content["blocks"][0][0].get("layers", 1)
        assert found == (4 if np.array_equal(row, space.largest()) else 1)
        assert ("layers" in content["blocks"][0][0]) == (found > 1)


def test_a_cross_stage_joins_its_halves_as_one_convolution_of_both_does() -> None:
    generator = torch.Generator().manual_seed(0)
    stage = CrossStage(4, 8, 16, 3, 2, stride=2, activation="relu").eval()
    x = torch.randn(2, 4, 8, 8, generator=generator)
    one = nn.Conv2d(16, 16, 1, bias=False)
    with torch.no_grad():
        one.weight.copy_(torch.cat([stage.join.conv.weight, stage.join_aside.conv.weight], dim=1))
        below = stage.down(x)
        halves = torch.cat([stage.layers(stage.main(below)), stage.aside(below)], dim=1)
        scale = (1 + stage.join.bn.eps) ** -0.5  # fresh batch norms divide by this
        torch.testing.assert_close(stage(x), torch.relu(one(halves) * scale))
