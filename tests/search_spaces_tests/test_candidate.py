"""A candidate is the same as its dictionary, on every machine, and a wrong dictionary is refused by key."""

import copy
import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import FileFormatError
from search_spaces import Block, Candidate, get_space

SPACE = get_space("fashion-mbv3")
BLOCK = Block(3, 6, 0.5, "int8")
CANDIDATE = Candidate("some", 24, "fp32", ((BLOCK, None), (Block(5, 3, 1.0, "fp32"), BLOCK)), "int8")


def test_the_dictionary_is_the_documented_one() -> None:
    content = CANDIDATE.to_dict()
    assert list(content) == ["space", "resolution", "stem", "blocks", "head"]
    assert content["blocks"][0] == [{"kernel": 3, "expand": 6, "keep": 0.5, "precision": "int8"}, None]
    assert content["stem"] == {"precision": "fp32"}


def test_precisions_are_those_of_stem_blocks_and_head_in_order() -> None:
    assert CANDIDATE.precisions == ("fp32", "int8", "fp32", "int8", "int8")
    assert len(CANDIDATE.active_blocks()) == 3


def test_the_id_stays_the_same() -> None:
    assert CANDIDATE.id == "65d5c00ce47f"
    assert len({CANDIDATE, Candidate.from_dict(CANDIDATE.to_dict())}) == 1


@given(st.integers(0, 2**32 - 1))
def test_it_survives_json(seed: int) -> None:
    candidate = SPACE.candidate(SPACE.sample(1, np.random.default_rng(seed))[0])
    back = Candidate.from_dict(json.loads(json.dumps(candidate.to_dict())))
    assert back == candidate and hash(back) == hash(candidate) and back.id == candidate.id


def test_a_whole_number_may_stand_for_a_fraction() -> None:
    content = copy.deepcopy(CANDIDATE.to_dict())
    content["blocks"][1][0]["keep"] = 1
    assert Candidate.from_dict(content) == CANDIDATE


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["resolution"], "24", "candidate: resolution is '24', of the wrong type"),
        (["resolution"], True, "candidate: resolution is True, of the wrong type"),
        (["space"], 3, "candidate: space is 3, of the wrong type"),
        (["stem"], {}, "candidate: key 'precision' is missing"),
        (["stem"], "fp32", "candidate: a value is of the wrong type"),
        (["blocks"], 3, "candidate: a value is of the wrong type"),
        (["blocks", 0], 3, "candidate: a value is of the wrong type"),
        (["blocks", 0, 0], {"kernel": 3}, "candidate: key 'expand' is missing"),
        (["blocks", 0, 0, "kernel"], 3.5, "candidate: block.kernel is 3.5, of the wrong type"),
        (["blocks", 0, 0, "se"], True, r"candidate: block has unknown keys \['se'\]"),
    ],
)
def test_a_wrong_dictionary_is_refused(path: list, value: object, message: str) -> None:
    content = copy.deepcopy(CANDIDATE.to_dict())
    part = content
    for key in path[:-1]:
        part = part[key]
    part[path[-1]] = value
    with pytest.raises(FileFormatError, match=message):
        Candidate.from_dict(content)


def test_a_missing_key_is_named() -> None:
    content = CANDIDATE.to_dict()
    del content["head"]
    with pytest.raises(FileFormatError, match="candidate: key 'head' is missing"):
        Candidate.from_dict(content)
