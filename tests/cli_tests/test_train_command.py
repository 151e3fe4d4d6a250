"""``nas train``: from trained and imported weights, and under torchrun."""

import csv
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_job import Tiny, make_images, make_tiny

from nas.cli.main import main
from search_spaces import preset_path, read_preset
from supernets import Supernet, get_supernet, load_supernet
from supernets.ofa import ofa_names
from supernets.training import read_plan

STAGES = """
[training]
batch_size = 16
momentum = 0.9
weight_decay = 1e-4
label_smoothing = 0.1
flip = 0.5
shift = 0.1
erase = 0.0
[[training.stage]]
name = "full"
epochs = 1
learning_rate = 0.05
[[training.finetune]]
name = "finetune"
epochs = 2
learning_rate = 0.2
subnets = 3
kernels = 2
depths = 2
expands = 2
sandwich = true
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


def log(out: Path) -> list[dict[str, str]]:
    with open(out / "train_log.csv") as file:
        return list(csv.DictReader(file))


def colour_images(folder: Path, classes: tuple[str, ...], count: int = 60) -> Path:
    """Write noisy images of one hue a class."""
    rng = np.random.default_rng(0)
    for number, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 90, (20, 20, 3))
            pixels[..., number] += 150
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    return folder


def like_ofa(folder: Path) -> tuple[Path, Path]:
    """Write a preset like once-for-all's and a checkpoint of its supernet, as once-for-all names its tensors."""
    from test_import_ofa_command import PRESET

    preset = folder / "like-ofa.toml"
    preset.write_text(PRESET.replace("[128, 160]", "[16, 20]") + STAGES)
    supernet = get_supernet(preset, pretrained=False)
    tensors = supernet.state_dict()
    names = ofa_names(supernet)
    state = {theirs: tensors[ours].T if theirs.endswith("_matrix") else tensors[ours] for theirs, ours in names.items()}
    checkpoint = folder / "released.pth"
    torch.save({"state_dict": state}, checkpoint)
    return preset, checkpoint


def test_an_imported_supernet_learns_other_classes(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    preset, checkpoint = like_ofa(tmp_path)
    images = colour_images(tmp_path / "images", ("red", "green"))
    imported, tuned = tmp_path / "imported", tmp_path / "tuned"
    assert main(["import-ofa", str(checkpoint), "--space", str(preset), "--out", str(imported)]) == 0
    command = ["train", "--from", str(imported), "--space", str(preset), "--data", str(images), "--out", str(tuned)]
    assert main([*command, "--epochs-scale", "4", "--batch-size", "8"]) == 0, capsys.readouterr().err
    supernet = load_supernet(tuned / "supernet.safetensors")
    assert supernet.info.classes == ("green", "red") and [line["stage"] for line in log(tuned)] == ["finetune"] * 8
    assert float(log(tuned)[-1]["random"]) > 0.7
    assert (tuned / "curves.png").exists()
    before, after = (net.state_dict()["stem.conv.weight"] for net in (load(imported), supernet))
    assert torch.nn.functional.cosine_similarity(before.flatten(), after.flatten(), dim=0) > 0.9  # tuned, not anew


def load(folder: Path) -> Supernet:
    return load_supernet(folder / "supernet.safetensors")


def test_few_images_make_small_batches_of_the_last_stage(
    tiny: Tiny, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    images = make_images(tmp_path / "few", per_class=15)
    command = ["train", "--from", str(tiny.supernet), "--data", str(images), "--out", str(tmp_path / "out")]
    assert main(command) == 2
    line = capsys.readouterr().err.strip()
    assert line.endswith("is of space tiny, which does not ship; name its preset with --space my.toml")
    assert main([*command, "--space", str(tiny.preset)]) == 0
    line = r"^(\d+) training images: batches of (\d+), not 16, and learning rates in proportion; --batch-size"
    said = re.search(line, capsys.readouterr().err, re.M)
    assert said is not None and 4 * int(said[2]) <= int(said[1]) < 8 * int(said[2])
    preset, table = read_preset(tiny.preset)
    last = read_plan(table, preset, "tiny").stages[-1]
    assert {line["stage"] for line in log(tmp_path / "out")} == {last.name}


def test_torchrun_trains_in_several_processes_and_one_goes_on(tiny: Tiny, tmp_path: Path) -> None:
    out = tmp_path / "out"
    arguments = ["train", "--space", str(tiny.preset), "--data", str(tiny.images), "--out", str(out)]
    script = tmp_path / "nas"
    script.write_text("import sys\nfrom nas.cli.main import main\nsys.exit(main())\n")
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", str(script)]
    root = str(Path(__file__).parents[2])
    path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path}
    done = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=200)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("wrote ") == 1 and (out / "supernet.safetensors").exists()
    before = (out / "supernet.safetensors").read_bytes()
    assert main([*arguments, "--resume"]) == 0
    assert (out / "supernet.safetensors").read_bytes() == before
    refused = subprocess.run([*command, *arguments], capture_output=True, text=True, env=environment, timeout=200)
    assert refused.returncode != 0 and "exists and is not an empty folder" in refused.stderr


def test_all_shipped_stages_are_read() -> None:
    for name in ("ofa-mbv3", "ofa-proxyless"):
        preset, table = read_preset(preset_path(name))
        assert [stage.name for stage in read_plan(table, preset, name).from_trained().stages] == ["finetune"]
