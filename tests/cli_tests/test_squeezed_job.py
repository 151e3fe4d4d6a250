"""Supernets with squeeze-and-excitation, h-swish and a mixing layer go through every job: import, training, search."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from tiny_job import CLASSES, invented_scorer, make_images
from tiny_presets import PRESET

from latency_tables.simulated import SimulatedDevice
from nas.cli.main import main
from nas.export import SearchJob, load_bundle, run_search
from search_spaces import get_space
from supernets import ImageInfo, make_supernet
from supernets.ofa import ofa_names


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    text = PRESET.replace('name = "tiny"', 'name = "squeezed"').replace("channels = 1", "channels = 3")
    text = text.replace('activation = "relu"', 'activation = "hswish"')
    text = text.replace(
        "[head]\nwidth = 16", 'block_width = 8\nblock_activation = "relu6"\n[head]\nwidth = 16\nmix_width = 24'
    )
    text = text.replace("stride = 1\ndepths = [1, 2]", "stride = 1\ndepths = [1, 2]\nse = true")
    path = tmp_path / "squeezed.toml"
    path.write_text(text)
    space = get_space(path)
    assert space.preset.head_mix_width and space.preset.stem_block_width and space.preset.stages[1].se
    return path


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = make_images(tmp_path / "images")
    for path in folder.rglob("*.png"):
        Image.open(path).convert("RGB").save(path)
    return folder


def test_an_imported_supernet_is_searched_and_its_accuracies_are_measured(
    preset: Path, images: Path, tmp_path: Path
) -> None:
    space = get_space(preset)
    supernet = make_supernet(space, ImageInfo("none", CLASSES, (0.5,) * 3, (0.25,) * 3), seed=4)
    own = supernet.state_dict()
    tensors = {name: own[ours].T if "_matrix" in name else own[ours] for name, ours in ofa_names(supernet).items()}
    torch.save(tensors, tmp_path / "checkpoint.pth")
    (tmp_path / "names.txt").write_text("\n".join(CLASSES))
    imported = tmp_path / "imported"
    arguments = ["import-ofa", str(tmp_path / "checkpoint.pth"), "--out", str(imported), "--space", str(preset)]
    assert main([*arguments, "--classes", str(tmp_path / "names.txt")]) == 0
    job = SearchJob(SimulatedDevice(), tmp_path / "out", supernet=imported, data=images, budget=300, finalists=3)
    outcome = run_search(job, scorer=invented_scorer(space))
    assert outcome.warning == "" and all(one.counted for one in outcome.verified)
    chosen = next(one for one in outcome.front)
    bundle = load_bundle(tmp_path / "out" / "bundles" / chosen.entry.candidate.id)
    x = np.random.default_rng(0).normal(size=(2, 3, *2 * (bundle.candidate.resolution,))).astype(np.float32)
    with torch.inference_mode():
        assert bundle.model()(torch.from_numpy(x)).shape == bundle.session().run(None, {"input": x})[0].shape


@pytest.mark.slow
def test_it_is_trained_and_its_pairs_are_collected(
    preset: Path, images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    supernet = str(tmp_path / "supernet")
    data = ["--data", str(images)]
    assert main(["train", "--space", str(preset), *data, "--out", supernet, "--epochs-scale", "2", "--quiet"]) == 0
    pairs = ["--pairs", "100", "--quantized-pairs", "100", "--quiet"]
    assert main(["collect", "--supernet", supernet, *data, *pairs]) == 0
    assert "held-out quantized pairs" in capsys.readouterr().out
