"""Keys of a preset that may be left out: first block, mixing layer, batch norm, activation and squeeze of a stage."""

from dataclasses import asdict, replace
from pathlib import Path

import pytest
from small_presets import make_preset

from nas.errors import FileFormatError
from search_spaces import get_space, preset_from_dict, preset_path, read_preset
from search_spaces.mbconv_preset import MBConvStage
from search_spaces.preset import make_divisible

TOML = """
schema_version = 1
name = "mine"
family = "mbconv"
summary = "for tests"
resolutions = [16]
channels = 3
classes = 7
activation = "hswish"
dropout = 0
precisions = ["fp32"]
[stem]
width = 8
stride = 1
block_width = 12
block_activation = "relu6"
[head]
width = 32
mix_width = 48
[batch_norm]
eps = 1e-3
momentum = 0.2
[block]
kernels = [3, 5]
expands = [2, 4]
keeps = [1]
round_to = 4
[[stage]]
width = 16
stride = 2
depths = [1, 3]
activation = "relu"
se = true
[[stage]]
width = 16
stride = 1
depths = [1]
"""


def written(folder: Path, old: str = "", new: str = "") -> Path:
    assert old in TOML
    path = folder / "mine.toml"
    path.write_text(TOML.replace(old, new, 1))
    return path


def test_they_are_read(tmp_path: Path) -> None:
    preset, _ = read_preset(written(tmp_path))
    assert (preset.stem_block_width, preset.stem_block_activation, preset.head_mix_width) == (12, "relu6", 48)
    assert (preset.bn_eps, preset.bn_momentum) == (1e-3, 0.2)
    assert preset.stages == (MBConvStage(16, 2, (1, 3), "relu", True), MBConvStage(16, 1, (1,)))
    assert preset_from_dict(asdict(preset), "here") == preset


def test_blocks_know_their_width_activation_and_squeeze(tmp_path: Path) -> None:
    positions = get_space(written(tmp_path)).block_positions
    assert [position.in_width for position in positions] == [12, 16, 16, 16]
    assert [(position.activation, position.se) for position in positions] == [("relu", True)] * 3 + [("hswish", False)]


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("block_width = 12", "block_width = -1", "stem.block_width is -1; allowed: 0 to 4096"),
        ('"relu6"', '"gelu"', "stem.block_activation is 'gelu'; allowed: relu or hswish or relu6"),
        ("mix_width = 48", "mix_width = 4.5", "head.mix_width is 4.5; allowed: 0 to 4096"),
        ("eps = 1e-3", "eps = 0", "batch_norm.eps is 0.0; allowed: above 0, at most 0.1"),
        ("momentum = 0.2", "momentum = 2", "batch_norm.momentum is 2.0; allowed: above 0, at most 1"),
        ("momentum = 0.2", "decay = 2", "batch_norm.decay is an unknown key"),
        ("se = true", "se = 1", r"stage\[0\].se is 1; allowed: true or false"),
        ('activation = "relu"\n', "activation = 3\n", r"stage\[0\].activation is 3; allowed: relu or hswish"),
        ("[batch_norm]\neps = 1e-3\nmomentum = 0.2\n", "", "stem.batch_norm is an unknown key"),
    ],
)
def test_wrong_ones_are_refused(tmp_path: Path, old: str, new: str, message: str) -> None:
    path = written(tmp_path, old, new)
    if "batch_norm is an unknown" in message:
        path.write_text(path.read_text().replace("[stem]", "[stem]\nbatch_norm = 1"))
    with pytest.raises(FileFormatError, match=message):
        read_preset(path)


def test_a_key_at_its_default_changes_no_digest_and_any_other_value_does() -> None:
    preset = make_preset()
    old = {key: value for key, value in asdict(preset).items() if not key.startswith(("bn_", "stem_block", "head_mix"))}
    assert preset_from_dict(old, "here").digest == preset.digest
    (stage,) = preset.stages
    changes = [
        {"bn_eps": 1e-3}, {"bn_momentum": 0.01}, {"stem_block_width": 8}, {"stem_block_activation": "relu6"},
        {"head_mix_width": 8}, {"stages": (replace(stage, se=True),)},
        {"stages": (replace(stage, activation="relu6"),)},
    ]  # fmt: skip
    assert len({preset.digest, *(replace(preset, **change).digest for change in changes)}) == len(changes) + 1


def test_the_shipped_spaces_choices_are_the_same_as_ever() -> None:
    space = get_space("fashion-mbv3")
    assert (space.preset.digest, space.num_genes, space.num_features) == ("19e4602c5028", 71, 199)
    assert space.size == 1238819918165933670639700992


@pytest.mark.parametrize(("name", "fixed"), [("ofa-mbv3", 1), ("ofa-mbv3-w1.2", 1), ("ofa-proxyless", 9)])
def test_once_for_alls_spaces_have_their_published_sizes(name: str, fixed: int) -> None:
    assert get_space(name, precisions=["fp32"]).size == 25 * (9**2 + 9**3 + 9**4) ** 5 * fixed


def test_once_for_alls_widths_are_the_released_ones() -> None:
    widths = {"ofa-mbv3": (1.0, [16, 16, 24, 40, 80, 112, 160, 960, 1280]),
              "ofa-mbv3-w1.2": (1.2, [16, 16, 24, 40, 80, 112, 160, 960, 1280]),
              "ofa-proxyless": (1.3, [32, 16, 24, 40, 80, 96, 192, 320, 1280])}  # fmt: skip
    for name, (factor, base) in widths.items():
        preset = read_preset(preset_path(name))[0]
        ours = [preset.stem_width, preset.stem_block_width, *(stage.width for stage in preset.stages)]
        ours += [preset.head_width, preset.head_mix_width] if preset.head_mix_width else [preset.head_width]
        assert ours == [make_divisible(width * factor, 8) for width in base]


@pytest.mark.parametrize(("value", "rounded"), [(3, 8), (18, 24), (19.2, 24), (20.8, 24), (31.2, 32), (249.6, 248)])
def test_channels_are_never_rounded_down_by_more_than_a_tenth(value: float, rounded: int) -> None:
    assert make_divisible(value, 8) == rounded
