"""``nas prune`` from the command line."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tiny_job import make_tiny

import latency_tables
from latency_tables.simulated import CostModel, SimulatedDevice
from nas.cli.main import main
from nas.export import save_bundle
from nas.export.pruning_verification import Verified, verify
from supernets import get_supernet
from supernets.graph import to_onnx

NET = """\
from torch import nn
def build(classes=4):
    return nn.Sequential(nn.Conv2d(1, 32, 3, 2, 1), nn.BatchNorm2d(32), nn.ReLU(), nn.Conv2d(32, 16, 3, 2, 1),
                         nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(16, classes))
def dense():
    return nn.Sequential(nn.Conv2d(3, 32, 3, padding=1), nn.ReLU(), nn.Conv2d(32, 1, 3, padding=1))
"""
SHORT = ("--step", "0.3", "--short-steps", "1", "--epochs", "1", "--batch-size", "8", "--quiet")


@pytest.fixture(autouse=True)
def simulated(monkeypatch: pytest.MonkeyPatch) -> None:
    made = SimulatedDevice(costs=CostModel(noise=0.0, drift=0.0, node_ns=100.0))
    monkeypatch.setattr(latency_tables, "get_device", lambda name: made)


@pytest.fixture
def net(tmp_path: Path) -> str:
    (tmp_path / "net.py").write_text(NET)
    return str(tmp_path / "net.py")


@pytest.fixture
def photos(tmp_path: Path) -> str:
    rng = np.random.default_rng(0)
    for label in ("a", "b"):
        (tmp_path / "photos" / label).mkdir(parents=True)
        for number in range(12):
            pixels = rng.integers(0, 200, (16, 16)) + (50 if label == "a" else 0)
            Image.fromarray(pixels.astype(np.uint8)).save(tmp_path / "photos" / label / f"{number}.png")
    return str(tmp_path / "photos")


def test_a_classifier_is_pruned_on_a_folder_of_images(
    tmp_path: Path, net: str, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", f"{net}:build", "--device", "simulated", "--data", photos, "--resolution", "16", *SHORT]
    out = str(tmp_path / "out")
    assert main([*words, "--latency", "0.00001", "--out", out]) == 2
    least = capsys.readouterr().err
    assert least.startswith("error: latency 1e-05 ms: pruning this model reaches") and least.count("\n") == 1
    assert main([*words, "--latency", "0.007", "--out", out, "--importance", "taylor", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    assert report["met"] and report["metric"] == "accuracy" and report["asked"]["importance"] == "taylor"
    assert main([*words, "--latency", "0.007", "--out", out, "--resume"]) == 2
    assert "the run in it has ended" in capsys.readouterr().err


def test_a_dense_predictor_is_pruned_on_depths(tmp_path: Path, net: str, capsys: pytest.CaptureFixture[str]) -> None:
    rng = np.random.default_rng(0)
    arrays = {}
    for part in ("train", "validation", "test"):
        arrays[f"{part}_images"] = rng.integers(0, 256, (8, 3, 8, 8)).astype(np.uint8)
        arrays[f"{part}_depths"] = (1 + rng.random((8, 8, 8))).astype(np.float32)
    np.savez(tmp_path / "rooms.npz", **arrays)
    out = tmp_path / "out"
    words = ["prune", f"{net}:dense", "--device", "simulated", "--data", str(tmp_path / "rooms.npz"), *SHORT]
    assert main([*words, "--latency", "0.003", "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "RMSE [m]" in printed and "times as fast; 0.003 ms met." in printed
    report = json.loads((out / "report.json").read_text())
    assert report["mean"] == [0.5] * 3
    words += ["--latency", "0.003", "--out", str(tmp_path / "other")]
    assert main([*words, "--resolution", "16"]) == 2
    assert "rooms.npz has images of a size of its own; leave it out" in capsys.readouterr().err
    assert main([*words, "--mean", "0.4,0.5", "--std", "0.2,0.2"]) == 2
    assert "for images of 3 channels; allowed: one number a channel for both" in capsys.readouterr().err
    assert main([*words, "--mean", "0.4,0.5,0.6", "--std", "0.2,0.2,0.2", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["mean"] == [0.4, 0.5, 0.6]
    assert (out / "report.md").exists()


def test_a_bundle_is_pruned_on_the_images_it_is_for(
    tmp_path: Path, photos: str, capsys: pytest.CaptureFixture[str]
) -> None:
    tiny = make_tiny(tmp_path)
    supernet = get_supernet(tiny.supernet)
    subnet = supernet.extract(tiny.space.candidate(tiny.space.largest())).eval()
    graph = to_onnx(subnet, 1, subnet.candidate.resolution, batch="N")
    bundle = save_bundle(
        tmp_path / "bundle", subnet=subnet, preset=tiny.space.preset, images=supernet.info, model=graph, report={}
    )
    words = ["prune", str(bundle), "--device", "simulated", "--out", str(tmp_path / "out"), *SHORT]
    assert main([*words, "--data", photos, "--latency", "0.005"]) == 2
    assert "has 2 classes (a, b); the network was trained on" in capsys.readouterr().err
    assert main([*words, "--data", str(tiny.images), "--latency", "0.005", "--resolution", "8"]) == 2
    assert "a bundle has its own weights, resolution, mean and std; leave them out" in capsys.readouterr().err
    assert main([*words, "--data", str(tiny.images), "--latency", "0.014", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["met"]


def test_a_latency_that_is_missed_in_the_end_is_a_failure(
    tmp_path: Path, net: str, photos: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def slower(*arguments: Any) -> dict[str, Verified]:
        return {
            name: replace(one, latency=replace(one.latency, latency_ms=0.5)) for name, one in verify(*arguments).items()
        }

    monkeypatch.setattr("nas.export.pruning.verify", slower)
    words = ["prune", f"{net}:build", "--device", "simulated", "--data", photos, "--resolution", "16", *SHORT]
    assert main([*words, "--latency", "0.007", "--out", str(tmp_path / "out")]) == 1
    printed = capsys.readouterr()
    assert printed.err == "error: 0.007 ms was met before the last training and is 0.5 ms now; prune to less\n"
    assert "0.007 ms not met." in printed.out and (tmp_path / "out/report.md").exists()


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (("--importance", "size", "--resolution", "16"), "unknown importance 'size'"),
        (("--data", "/nowhere", "--resolution", "16"), "data folder /nowhere is not there"),
        (("--mean", "0.5", "--resolution", "16"), "--mean and --std belong together; give both or neither"),
        ((), "does not say what size of images it takes; give --resolution"),
        (("--weights", "/nowhere.pth", "--resolution", "16"), "weights /nowhere.pth: no such file"),
    ],
)
def test_wrong_input_is_one_line(
    tmp_path: Path, net: str, photos: str, extra: tuple[str, ...], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["prune", f"{net}:build", "--device", "simulated", "--latency", "0.007", "--out", str(tmp_path / "out")]
    assert main([*words, "--data", photos, *SHORT, *extra]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1
