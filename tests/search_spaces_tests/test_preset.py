"""Presets are read back as written, and a wrong one is refused by key, value and what is allowed."""

import json
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given
from small_presets import make_preset, small_presets

from nas.errors import FileFormatError, UsageError
from search_spaces import Preset, get_space, list_spaces, preset_from_dict, preset_path, read_preset
from search_spaces.mbconv_preset import MBConvStage

TOML = """
schema_version = 1
name = "mine"
family = "mbconv"
summary = "for tests"
resolutions = [16, 24]
channels = 3
classes = 7
activation = "hswish"
dropout = 0
precisions = ["fp32", "int8"]
[stem]
width = 8
stride = 1
[head]
width = 32
[block]
kernels = [3, 5]
expands = [2, 4]
keeps = [0.5, 1]
round_to = 4
[[stage]]
width = 16
stride = 2
depths = [1, 3]
[training]
epochs = 2
"""


@pytest.fixture
def write(tmp_path: Path):
    def write(old: str = "", new: str = "") -> Path:
        assert old in TOML
        path = tmp_path / "mine.toml"
        path.write_text(TOML.replace(old, new, 1))
        return path

    return write


def test_a_preset_is_read_with_its_training_table(write) -> None:
    preset, training = read_preset(write())
    assert preset == make_preset(
        name="mine",
        resolutions=(16, 24),
        channels=3,
        classes=7,
        activation="hswish",
        stem_stride=1,
        head_width=32,
        kernels=(3, 5),
        expands=(2, 4),
        round_to=4,
        stages=(MBConvStage(16, 2, (1, 3)),),
    )
    assert training == {"epochs": 2}


def test_a_path_is_a_space(write) -> None:
    space = get_space(write(), precisions=["fp32"])
    assert (space.name, space.precisions, space.num_blocks) == ("mine", ("fp32",), 3)


@pytest.mark.parametrize("name", sorted(list_spaces()))
def test_shipped_presets_are_named_as_their_files(name: str) -> None:
    assert read_preset(preset_path(name))[0].name == name


@given(small_presets)
def test_a_preset_comes_back_from_its_dictionary(preset: Preset) -> None:
    assert preset_from_dict(asdict(preset), "here") == preset
    assert preset_from_dict(json.loads(json.dumps(asdict(preset))), "here") == preset


def test_the_digest_changes_with_the_choices_alone() -> None:
    preset = make_preset()
    assert replace(preset, summary="said otherwise").digest == preset.digest
    changes = ({"kernels": (3,)}, {"stem_width": 12}, {"stages": (MBConvStage(16, 2, (2,)),)}, {"activation": "hswish"})
    assert len({preset.digest, *(replace(preset, **change).digest for change in changes)}) == 5


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("schema_version = 1", "schema_version = 2", "schema_version is 2; allowed: 1"),
        ('family = "mbconv"', 'family = "resnet"', "family is 'resnet'; allowed: 'mbconv'"),
        (
            'name = "mine"',
            'name = "my space"',
            "name is 'my space'; allowed: 1 to 64 of A-Z a-z 0-9 . _ -, no dot first",
        ),
        ('name = "mine"', 'name = "a**b"', r"name is 'a\*\*b'; allowed: 1 to 64 of"),
        ('name = "mine"', 'name = "a\\u0000"', "name is .*; allowed: 1 to 64 of"),
        ('name = "mine"', 'name = ".."', "name is .*; allowed: 1 to 64 of"),
        ('name = "mine"', f'name = "{"a" * 65}"', "name is .*; allowed: 1 to 64 of"),
        ('summary = "for tests"', "", "summary is missing; allowed: a line of text"),
        ("[16, 24]", "[24, 16]", r"resolutions is \[24, 16\]; allowed: a list of pixels from 8 to 1024, ascending"),
        ("[16, 24]", "[16, 16]", r"resolutions is \[16, 16\]; allowed: .*none twice"),
        ("[16, 24]", "[4]", r"resolutions is \[4\]; allowed: a list of pixels from 8 to 1024"),
        ("[16, 24]", "[]", r"resolutions is \[\]; allowed: a list of pixels"),
        ("[16, 24]", str(list(range(8, 45))), "resolutions is .*at most 36"),
        ("[16, 24]", "16", "resolutions is 16; allowed: a list of"),
        ("channels = 3", "channels = 2", "channels is 2; allowed: 1 or 3"),
        ("channels = 3", "channels = true", "channels is True; allowed: 1 or 3"),
        ("classes = 7", "classes = 1", "classes is 1; allowed: 2 or more"),
        ('"hswish"', '"gelu"', "activation is 'gelu'; allowed: relu or hswish"),
        ("dropout = 0", "dropout = 1.0", "dropout is 1.0; allowed: from 0 to below 1"),
        ('["fp32", "int8"]', '["fp32", 8]', r"precisions is \['fp32', 8\]; allowed: a list of names of precisions"),
        ("[stem]\nwidth = 8", "[stem]\nwidth = 0", "stem.width is 0; allowed: 1 to 4096"),
        ("stride = 1", "stride = 3", "stem.stride is 3; allowed: 1 or 2"),
        ("[3, 5]", "[3, 4]", r"block.kernels is \[3, 4\]; allowed: a list of odd, 3 to 9"),
        ("[2, 4]", "[2, 40]", r"block.expands is \[2, 40\]; allowed: a list of 1 to 16"),
        ("[0.5, 1]", "[0.5, 1.5]", r"block.keeps is \[0.5, 1.5\]; allowed: a list of above 0, at most 1"),
        ("round_to = 4", "round_to = 4.5", "block.round_to is 4.5; allowed: 1 to 64"),
        ("round_to = 4", "round_to = 4\nse = true", "block.se is an unknown key"),
        ("[stem]", "colour = 3\n[stem]", "colour is an unknown key"),
        ("depths = [1, 3]", "depths = [0, 3]", r"stage\[0\].depths is \[0, 3\]; allowed: a list of 1 to 16"),
        ("depths = [1, 3]", "depths = [1, 3]\nkind = 1", r"stage\[0\].kind is an unknown key"),
        ("[[stage]]", "[stage]", "stage is {.*}; allowed: one "),
        ("[[stage]]", "[[stages]]", "stage is missing"),
        ("[stem]", "training = 3\n[stem]", "not a TOML file"),
        ("resolutions", "resolutions = = ", "not a TOML file"),
    ],
)
def test_a_wrong_preset_is_refused(write, old: str, new: str, message: str) -> None:
    path = write(old, new)
    with pytest.raises(FileFormatError, match=message) as error:
        read_preset(path)
    assert str(error.value).startswith(str(path))


def test_the_training_table_may_be_left_out(write) -> None:
    assert read_preset(write("[training]\nepochs = 2", ""))[1] == {}


def test_training_must_be_a_table(write) -> None:
    path = write("[training]\nepochs = 2", "")
    path.write_text("training = 3\n" + path.read_text())
    with pytest.raises(FileFormatError, match="training is 3; allowed: a table"):
        read_preset(path)


def test_a_missing_or_binary_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"none\.toml: cannot be read"):
        get_space(tmp_path / "none.toml")
    (tmp_path / "image.toml").write_bytes(b"\xff\xd8\xff")
    with pytest.raises(FileFormatError, match=r"image\.toml: not a TOML file"):
        get_space(tmp_path / "image.toml")


def test_more_combinations_of_depths_than_tables_hold_are_refused(write) -> None:
    stage = "[[stage]]\nwidth = 16\nstride = 2\ndepths = [1, 3]\n"
    with pytest.raises(FileFormatError, match="32768 combinations of the stages' depths; allowed: at most 20000"):
        read_preset(write(stage, 15 * stage))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"kernels": None}, "here: block.kernels is None"),
        ({"stem_width": "wide"}, "here: stem.width is 'wide'"),
        ({"stages": 3}, "here: stage is 3"),
        ({"stages": [{"width": 8}]}, r"here: stage\[0\].stride is missing"),
        ({"squeeze": 1}, "here: squeeze is an unknown key"),
        ({"name": ""}, "here: name is ''"),
    ],
)
def test_a_wrong_dictionary_is_refused(change: dict, message: str) -> None:
    with pytest.raises(FileFormatError, match=message):
        preset_from_dict({**asdict(make_preset()), **change}, "here")


@pytest.mark.parametrize(
    ("in_width", "expand", "keep", "middle"),
    [(16, 6, 0.5, 48), (16, 3, 1.0, 48), (16, 3, 0.75, 40), (8, 1, 0.25, 8), (12, 3, 1.0, 36), (4, 1, 0.5, 4)],
)
def test_middle_widths_are_rounded_to_eight_and_never_wider_than_the_expansion(
    in_width: int, expand: int, keep: float, middle: int
) -> None:
    assert make_preset().middle(in_width, expand, keep) == middle


def test_an_unknown_space_lists_what_there_is_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown space 'fashion-mbv2'; there is: .*Did you mean 'fashion-mbv3'"):
        get_space("fashion-mbv2")
