"""The actions of slimming: each makes a smaller network of the space, and together they go down to the smallest."""

import numpy as np
import pytest
from tiny_families import TINY

from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nas.errors import UsageError
from search_spaces import SearchSpace, get_space
from search_spaces.slimming import SlimmingActions


def spaces() -> list[SearchSpace]:
    return [TINY["mbconv"](), TINY["metaformer"](), get_space("fashion-mbv3"), get_space("fashion-former")]


@pytest.mark.parametrize("space", spaces(), ids=lambda space: space.name)
def test_every_action_makes_a_smaller_network_down_to_the_smallest(space: SearchSpace) -> None:
    rng = np.random.default_rng(0)
    actions = SlimmingActions(space, {name: rng.random() for name in space.part_names})
    costs = NetworkCosts(space, Images(space.preset.channels, space.preset.classes))
    starts = actions.starts()
    assert len(starts) == len(space.precisions) * len(space.resolutions)
    for row in starts:
        side, precision = row[0], space.candidate(row).stem
        largest, smallest = space.largest(precision), space.smallest(precision)
        largest[0] = smallest[0] = side
        np.testing.assert_array_equal(row, largest)
        for _ in range(1000):
            smaller = actions.smaller(row)
            if not len(smaller):
                break
            np.testing.assert_array_equal(smaller, space.canonical(smaller))
            assert (costs.predict(smaller, "macs_m") <= costs.predict(row[None], "macs_m")).all()
            row = smaller[rng.integers(len(smaller))]
        np.testing.assert_array_equal(row, smallest)


def test_the_least_important_last_block_goes_and_every_stage_is_narrowed_and_mixes_more_cheaply() -> None:
    space = get_space("fashion-mbv3", precisions=("fp32",))
    importance = {f"block_{stage}_3": 5.0 for stage in range(4)}
    rows = SlimmingActions(space, {**importance, "block_2_3": 1.0}).smaller(space.largest())
    shallower, *others = (space.candidate(row) for row in rows)
    largest = space.candidate(space.largest())
    assert shallower.blocks[2] == (*largest.blocks[2][:3], None)
    assert [shallower.blocks[stage] for stage in (0, 1, 3)] == [largest.blocks[stage] for stage in (0, 1, 3)]
    for stage, (cheaper, narrower) in enumerate(zip(others[:4], others[4:], strict=True)):
        assert {block.kernel for block in cheaper.blocks[stage]} == {5}
        assert {(block.expand, block.keep) for block in narrower.blocks[stage]} == {(6, 0.75)}
        for one in (cheaper, narrower):
            assert all(one.blocks[other] == largest.blocks[other] for other in range(4) if other != stage)


def test_the_first_block_with_attention_convolves() -> None:
    space = get_space("fashion-former", precisions=("fp32",))
    row = space.largest()
    for mixers in (["conv", "conv", "attention"], ["conv", "conv", "conv"], ["conv", "conv", "conv"]):
        row = SlimmingActions(space, {}).smaller(row)[1]
        assert [block.mixer for block in space.candidate(row).blocks[-1]] == mixers
    assert {block.mixer for block in space.candidate(row).blocks[0]} == {"pool"}  # all alike: the first stage is first


def test_another_family_is_refused() -> None:
    with pytest.raises(
        UsageError, match="slimming of 'tiny-bottleneck', whose family is 'bottleneck'; allowed: mbconv"
    ):
        SlimmingActions(TINY["bottleneck"](), {})
