"""A newcomer with a folder of photographs: three commands, and a network that knows them."""

import json
from pathlib import Path

import numpy as np
import pytest
from photographs import PHOTOGRAPHS, photograph_folder
from tiny_presets import PRESET

from latency_tables.device import DEVICES
from nas.cli.main import main
from nas.export import load_bundle
from nas.registry import Entry
from supernets import prepare
from supernets.datasets import load_splits

CHANCE = 1 / len(PHOTOGRAPHS)


def run(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> str:
    """Run a command that must succeed; return what it printed on standard output."""
    code = main(arguments)
    printed = capsys.readouterr()
    assert code == 0, printed.err
    return printed.out


def newcomer(
    folder: Path, space: str, device: str, epochs_scale: float, capsys: pytest.CaptureFixture[str]
) -> tuple[float, float]:
    """Train, collect and search; return the chosen bundle's test accuracy by onnxruntime and by `nas evaluate`."""
    photographs = photograph_folder(folder / "photographs")
    data, net, out = ["--data", str(photographs)], str(folder / "net"), folder / "out"
    scale = ["--epochs-scale", str(epochs_scale), "--batch-size", "16"]
    run(["train", "--space", space, *data, "--out", net, *scale, "--quiet"], capsys)
    run(["collect", "--supernet", net, *data, "--pairs", "100", "--quantized-pairs", "100"], capsys)
    run(["search", "--device", device, "--supernet", net, *data, "--finalists", "3", "--out", str(out)], capsys)
    result = json.loads((out / "result.json").read_text())
    place = out / next(one["bundle"] for one in result["front"] if one["id"] == result["chosen"])
    bundle = load_bundle(place)
    assert bundle.images.classes == tuple(PHOTOGRAPHS) and bundle.images.channels == 3
    test = load_splits(photographs, size=max(bundle.preset.resolutions), channels=3).test
    pixels = prepare(test.images, bundle.candidate.resolution, bundle.images).numpy()
    session = bundle.session()
    logits = [session.run(None, {"input": pixels[number : number + 1]})[0][0] for number in range(len(pixels))]
    again = json.loads(run(["evaluate", str(place), "--device", device, *data, "--json"], capsys))
    assert again["now"]["test_accuracy"] == again["reported"]["test_accuracy"]
    return float((np.argmax(logits, 1) == test.labels.numpy()).mean()), again["now"]["test_accuracy"]


@pytest.mark.slow
def test_photographs_are_learned_on_a_simulated_device(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(DEVICES.entries, "simulated", Entry("latency_tables.simulated:SimulatedDevice", "for tests"))
    space = tmp_path / "tiny.toml"
    space.write_text(PRESET)
    alone, evaluated = newcomer(tmp_path, str(space), "simulated", 8, capsys)
    assert alone == pytest.approx(evaluated, abs=0.03) and alone > 2 * CHANCE


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_photographs_are_learned_on_this_machine(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    alone, evaluated = newcomer(tmp_path, "fashion-mbv3", "cpu", 0.15, capsys)
    assert alone == pytest.approx(evaluated, abs=0.03) and alone > 2 * CHANCE
