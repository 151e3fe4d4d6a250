"""Every command on a space of metaformers, whose blocks are of three kinds and whose stages have elastic widths."""

from pathlib import Path

import pytest
from test_whole_job import simulated, whole_job
from tiny_job import Tiny, make_images

from search_spaces import get_space

__all__ = ["simulated"]

PRESET = """\
schema_version = 1
name = "tiny"
family = "metaformer"
summary = "for tests"
resolutions = [16, 24]
channels = 1
classes = 3
dropout = 0.0
precisions = ["fp32", "int8"]
activation = "relu"
stem_stride = 2
widths = [0.5, 1.0]
round_to = 8
[block]
mixers = ["pool", "conv"]
expands = [1, 2]
layer_scale = 0.5
[attention]
blocks = [0, 1]
heads = 2
key_width = 8
value_width = 8
[[stage]]
width = 16
stride = 1
depths = [1, 2]
[[stage]]
width = 32
stride = 2
depths = [1, 2]

[training]
batch_size = 16
optimizer = "adamw"
momentum = 0.9
weight_decay = 0.05
label_smoothing = 0.1
flip = 0.0
shift = 0.0
erase = 0.0
[[training.stage]]
name = "full"
epochs = 1
learning_rate = 0.003
[[training.stage]]
name = "all"
epochs = 1
learning_rate = 0.003
mixers = 2
attentions = 2
depths = 2
expands = 2
widths = 2
distillation = 1.0
extremes = 0.2
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    folder = tmp_path_factory.mktemp("metaformer")
    preset = folder / "tiny.toml"
    preset.write_text(PRESET)
    return Tiny(preset, make_images(folder / "images"), folder / "supernet", get_space(preset))


def test_metaformers_are_trained_searched_and_evaluated(
    tiny: Tiny, tmp_path: Path, simulated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_job(tiny, tmp_path, simulated, capsys)


@pytest.mark.slow
def test_metaformers_are_searched_for_this_machine(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    whole_job(tiny, tmp_path, "cpu", capsys)
