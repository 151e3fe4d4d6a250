"""``nas import-ofa``, and the search of a space that has no supernet, on a simulated device."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_calibration import PLAN
from tiny_presets import BOTTLENECK

from latency_tables import get_device
from latency_tables.device import DEVICES
from nas.cli.main import main
from nas.registry import Entry
from predictors import calibrate
from predictors.ofa_accuracy import OFAAccuracyPredictor, known_part
from search_spaces import MBConvSpace, get_space
from supernets import ImageInfo, get_supernet, make_supernet
from supernets.ofa import ofa_names

PRESET = """\
schema_version = 1
name = "like-ofa"
family = "mbconv"
summary = "for tests"
resolutions = [128, 160]
channels = 3
classes = 3
activation = "hswish"
dropout = 0.0
precisions = ["fp32", "int8"]
[stem]
width = 8
stride = 2
block_width = 8
block_activation = "relu"
[head]
width = 16
mix_width = 24
[block]
kernels = [3, 5]
expands = [2, 3]
keeps = [1.0]
round_to = 8
[[stage]]
width = 16
stride = 2
depths = [1, 2]
activation = "relu"
[[stage]]
width = 24
stride = 2
depths = [1, 2]
se = true
"""


LIKE_RESNET = BOTTLENECK.replace('name = "tiny"', 'name = "like-ofa"').replace("channels = 1", "channels = 3")


@pytest.fixture
def preset(tmp_path: Path) -> Path:
    path = tmp_path / "like-ofa.toml"
    path.write_text(PRESET)
    return path


@pytest.fixture
def simulated(monkeypatch: pytest.MonkeyPatch) -> str:
    entry = Entry("latency_tables.simulated:SimulatedDevice", "for tests")
    monkeypatch.setitem(DEVICES.entries, "simulated", entry)
    return "simulated"


def ofa_checkpoint(preset: Path) -> Path:
    supernet = make_supernet(get_space(preset), ImageInfo("noise", ("a", "b", "c"), (0.5,) * 3, (0.25,) * 3), seed=4)
    own = supernet.state_dict()
    tensors = {name: own[ours].T if "_matrix" in name else own[ours] for name, ours in ofa_names(supernet).items()}
    path = preset.with_name("checkpoint.pth")
    torch.save({"state_dict": tensors}, path)
    return path


def random_predictor(space: MBConvSpace) -> OFAAccuracyPredictor:
    rng = np.random.default_rng(0)
    sizes = [(16, space.num_features), (1, 16)]
    layers = [(rng.uniform(0, 0.1, size).astype(np.float32), np.full(size[0], 0.1, np.float32)) for size in sizes]
    return OFAAccuracyPredictor(space, layers)


def ofa_perceptron(folder: Path, inputs: int = 128) -> Path:
    rng = np.random.default_rng(0)
    arrays = {
        "0_weight": rng.normal(0, 0.05, (16, inputs)).astype(np.float32), "0_bias": np.zeros(16, np.float32),
        "2_weight": rng.normal(0, 0.05, (1, 16)).astype(np.float32), "2_bias": np.full(1, 0.7, np.float32),
    }  # fmt: skip
    np.savez(folder / "predictor.npz", **arrays)
    return folder / "predictor.npz"


def failed(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    assert main(arguments) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("text", [PRESET, LIKE_RESNET], ids=["mbconv", "bottleneck"])
def test_a_supernet_is_imported_and_found_again(preset: Path, text: str, capsys: pytest.CaptureFixture[str]) -> None:
    preset.write_text(text)
    path, out = ofa_checkpoint(preset), preset.parent / "imported"
    (preset.parent / "names.txt").write_text("circle\ncross\nsquare\n")
    arguments = ["import-ofa", str(path), "--out", str(out), "--space", str(preset)]
    assert main([*arguments, "--classes", str(preset.parent / "names.txt")]) == 0
    assert "space like-ofa, 3 classes" in capsys.readouterr().out
    supernet = get_supernet(out)
    assert supernet.info.classes == ("circle", "cross", "square") and supernet.space.name == "like-ofa"
    assert "exists; name another folder with --out" in failed(arguments, capsys)
    other = [*arguments[:3], str(preset.parent / "other"), *arguments[4:]]
    assert "--measured with a supernet; allowed: with an accuracy predictor" in failed(
        [*other, "--measured", str(path)], capsys
    )
    assert "names.pth: not a text file" in failed([*other, "--classes", str(_binary(preset.parent))], capsys)


def _binary(folder: Path) -> Path:
    (folder / "names.pth").write_bytes(b"\xff\xfe\xff")
    return folder / "names.pth"


def test_a_predictor_is_imported_and_brought_to_measured_accuracies(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, out = ofa_perceptron(tmp_path), tmp_path / "imported"
    assert main(["import-ofa", str(path), "--out", str(out)]) == 0
    printed = capsys.readouterr().out
    assert "space ofa-mbv3 in fp32 at 160 to 224 px" in printed and "held-out training images" in printed
    assert OFAAccuracyPredictor.load(out / "accuracy_predictor.safetensors").space.name == "ofa-mbv3"
    kernels = [f"{'357'[i // 9 % 3]}{'357'[i % 3] * 19}" for i in range(40)]  # 27 distinct networks
    lines = [f"{kernels[i]},{'346'[i % 3] * 20},{'234'[i // 3 % 3] * 5},224,{70 + i % 7}" for i in range(40)]
    (tmp_path / "measured.csv").write_text("\n".join(["ks,e,d,r,top1", *lines, ""]))
    arguments = ["import-ofa", str(path), "--out", str(tmp_path / "second")]
    assert main([*arguments, "--measured", str(tmp_path / "measured.csv")]) == 0
    assert "of its errors on measured accuracies are within" in capsys.readouterr().out
    message = failed(["import-ofa", str(path), "--out", str(tmp_path / "third"), "--classes", str(path)], capsys)
    assert "--classes with an accuracy predictor; allowed: with a supernet" in message


def test_a_predictor_is_of_the_released_space_whose_inputs_it_has(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["import-ofa", str(ofa_perceptron(tmp_path, inputs=82)), "--out", str(tmp_path / "imported")]
    assert main(arguments) == 0
    assert "space ofa-resnet50 in fp32 at 128 to 224 px" in capsys.readouterr().out
    arguments = ["import-ofa", str(ofa_perceptron(tmp_path, inputs=99)), "--out", str(tmp_path / "other")]
    message = failed(arguments, capsys)
    assert "reads 99 features; space 'ofa-mbv3' has 128 or space 'ofa-resnet50' has 82 as once-for-all" in message


def test_a_space_without_a_supernet_is_searched_and_says_so(
    preset: Path, simulated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    known = known_part(get_space(preset))
    calibrate(get_device(simulated), known, channels=3, classes=3, plan=PLAN)
    predictor, out = preset.with_name("accuracy.safetensors"), preset.parent / "out"
    random_predictor(known).save(predictor)
    arguments = ["search", "--device", simulated, "--space", str(preset), "--accuracy-predictor", str(predictor)]
    assert main([*arguments, "--out", str(out), "--budget", "200", "--finalists", "1"]) == 0
    printed = capsys.readouterr()
    warning = "untrained weights: latency verified, accuracy predicted only"
    assert warning in printed.out.splitlines()[0] and "random inputs" in printed.out
    assert "knows fp32 at 160 to 160 px: that part of like-ofa is searched" in printed.err
    result = json.loads((out / "result.json").read_text())
    assert result["warning"] == warning and result["data"]["name"] == "random inputs"
    assert result["prediction_errors"]["accuracy_mean"] is None
    for network in result["front"]:
        assert network["measured"]["accuracy"] is network["measured"]["test_accuracy"] is None
        assert network["predicted"]["accuracy"] > 0 and network["measured"]["latency_ms"] > 0
        assert json.loads((out / network["bundle"] / "report.json").read_text())["report"]["warning"] == warning
    bundle = out / result["front"][0]["bundle"]
    assert main(["evaluate", str(bundle), "--device", simulated]) == 0
    assert warning in capsys.readouterr().out


def test_a_space_with_neither_supernet_nor_predictor_is_not_searched(
    preset: Path, simulated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for space in ("ofa-mbv3", str(preset)):
        message = failed(["search", "--device", simulated, "--space", space], capsys)
        assert f"no supernet ships for space {space!r}; name one with --supernet" in message


def test_images_are_refused_where_there_are_no_weights(
    preset: Path, simulated: str, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["search", "--device", simulated, "--space", str(preset), "--accuracy-predictor", "x", "--data", "y"]
    assert "images y for untrained weights; name the supernet" in failed(arguments, capsys)
