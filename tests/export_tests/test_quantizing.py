"""A whole quantization on a simulated device: the file that was timed is the file that was counted, and all is told."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from small_classifier import CLASSES, SIDE, foreign, small_classifier, steep_device
from tiny_job import Tiny, make_images, make_tiny

from latency_tables.bitfusion import BitFusion
from latency_tables.simulated import SimulatedDevice
from nas.compression import MixedPlan, Ranges, activation_ranges, quantize_mixed, quantized_convs
from nas.compression.layers import layered
from nas.compression.qat import Recipe
from nas.compression.trials import fusable_layers
from nas.errors import DataError, DeviceError, InfeasibleError, UsageError, VerificationError
from nas.export import Progress, save_bundle, sources
from nas.export.quantizing import QuantizeJob, run_quantize
from nas.export.sources import ModelChoice
from nas.files import read_json
from supernets import get_supernet
from supernets.graph import to_onnx

PLAN = MixedPlan(attempts=20, samples=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with images and an ONNX file."""
    place = tmp_path_factory.mktemp("quantize")
    make_images(place / "images")
    foreign(small_classifier().network, place / "net.onnx")
    return place


def job(folder: Path, out: Path, **changes: object) -> QuantizeJob:
    choice = ModelChoice(str(folder / "net.onnx"), mean=(0.5,), std=(0.25,))
    settings = {"max_drop": 0.2, "data": str(folder / "images"), "search": PLAN, **changes}
    return QuantizeJob(choice, steep_device(), out, **settings)  # type: ignore[arg-type]


def test_everything_is_in_the_folder_and_true(folder: Path, tmp_path: Path) -> None:
    found = run_quantize(job(folder, tmp_path / "out"))
    report = read_json(tmp_path / "out" / "report.json", "quantize-report", 1)
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "model.onnx",
        "path.png",
        "report.json",
        "report.md",
    ]
    chosen, model = report["chosen"], onnx.load(tmp_path / "out" / "model.onnx")
    assert model.SerializeToString() == found.result.chosen.model
    assert quantized_convs(model) == sum(
        layer["precision"] == "int8" and layer["operator"] == "Conv" for layer in report["layers"]
    )
    counted = found.result.trials.count(steep_device().session(found.result.chosen.model))
    assert chosen["accuracy"] == pytest.approx(counted.mean())
    assert chosen["change"]["value"] >= report["target"]["allowed_change"]
    assert chosen["latency_ms"] == min(
        one["latency_ms"] for one in report["measured"] if one["change"] is None or one["change"]["value"] >= -0.1
    )
    assert len(report["order"]) == 6 and report["interactions"]["tried"] and len(report["tried"]) <= 20
    text = (tmp_path / "out" / "report.md").read_text()
    assert "simulated 1, modelled" in text and "chosen**" in text and "| expand.0 |" in text


def test_a_bundle_is_quantized_as_it_is_stored(tmp_path: Path) -> None:
    tiny: Tiny = make_tiny(tmp_path)
    supernet = get_supernet(tiny.supernet)
    candidate = tiny.space.candidate(tiny.space.with_precision(tiny.space.largest()[None], "fp32")[0])
    subnet = supernet.extract(candidate).eval()
    save_bundle(
        tmp_path / "bundle", subnet=subnet, preset=tiny.space.preset, images=supernet.info,
        model=to_onnx(subnet, 1, candidate.resolution, "N"), report={"device": {"name": "cpu"}},
    )  # fmt: skip
    choice, data = ModelChoice(str(tmp_path / "bundle")), str(tiny.images)
    found = run_quantize(QuantizeJob(choice, steep_device(), tmp_path / "out", max_drop=0.5, data=data, search=PLAN))
    assert found.result.trials.graph.layers[0].name == "stem.conv" and found.info == supernet.info


def test_what_was_chosen_is_fine_tuned_at_the_end(folder: Path, tmp_path: Path) -> None:
    found = run_quantize(job(folder, tmp_path / "out", tuning=Recipe(2, 0.03)))
    report = read_json(tmp_path / "out" / "report.json", "quantize-report", 1)
    before = next(one for one in report["measured"] if one["int8"] == report["chosen"]["int8"])
    assert report["chosen"]["stage"] == "fine-tuned" and before["stage"] != "fine-tuned"
    assert report["chosen"]["accuracy"] >= before["accuracy"]
    assert (tmp_path / "out" / "model.onnx").read_bytes() == found.result.chosen.model
    assert len({one.model for one in found.result.measured}) == len(found.result.measured)
    assert "fine-tuned, chosen**" in (tmp_path / "out" / "report.md").read_text()


def test_fp32_is_not_fine_tuned_and_a_worse_network_is_not_kept(folder: Path, tmp_path: Path) -> None:
    notes: list[str] = []
    asked = job(folder, tmp_path / "a", tuning=Recipe(1, 1e-3))
    dear = SimulatedDevice(costs=replace(steep_device()._costs, quantize_element_ns=1e6, mac_int8_ns=9.0))
    found = run_quantize(replace(asked, device=dear), Progress(note=notes.append))
    assert not any(found.result.chosen.mask) and "fp32 was chosen; there is nothing to fine-tune" in notes
    found = run_quantize(job(folder, tmp_path / "b", tuning=Recipe(1, 30.0)))
    assert found.result.attempts[-1].stage == "fine-tuned" and found.result.chosen.attempt.stage != "fine-tuned"


@pytest.mark.parametrize("epochs", [1, 3])
def test_a_fine_tuning_that_diverges_loses_nothing(folder: Path, tmp_path: Path, epochs: int) -> None:
    notes: list[str] = []
    diverging = job(folder, tmp_path / "out", tuning=Recipe(epochs, float("inf")))
    found = run_quantize(diverging, Progress(note=notes.append))
    assert any(note.startswith("not fine-tuned: ") and "not finite" in note for note in notes)
    assert (tmp_path / "out" / "model.onnx").read_bytes() == found.result.chosen.model
    assert all(attempt.stage != "fine-tuned" for attempt in found.result.attempts)


@pytest.mark.parametrize(
    ("drop", "message"),
    [
        (0.0, r"100 % of fp32's accuracy with confidence cannot be shown by any number of images; allow a drop"),
        (
            0.01,
            r"99 % of fp32's .* by 24 validation images, even if no .* changes; give at least \d{3,} or allow",
        ),
    ],
)
def test_too_few_images_for_confidence_are_told_before_anything_is_measured(
    folder: Path, tmp_path: Path, drop: float, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nas.compression.mixed.find_order", None)
    with pytest.raises(InfeasibleError, match=message):
        run_quantize(job(folder, tmp_path / "out", max_drop=drop, confident=True))
    assert list(tmp_path.iterdir()) == []


def test_a_layer_that_the_runtime_cannot_fuse_stays_in_fp32_and_is_named(folder: Path, tmp_path: Path) -> None:
    class Partial(SimulatedDevice):
        """Runs no matrix product in integers."""

        def integer_kernels(self, model: bytes) -> dict[str, int]:
            return {**super().integer_kernels(model), "Gemm": 0}

    notes: list[str] = []
    asked = replace(job(folder, tmp_path / "out"), device=Partial(costs=steep_device()._costs))
    found = run_quantize(asked, Progress(note=notes.append))
    assert not found.result.chosen.mask[5] and any(found.result.chosen.mask)
    assert "simulated 1 cannot run head.2 in integers; they stay in fp32" in notes


def test_a_runtime_that_fuses_nothing_is_one_line() -> None:
    class Never(SimulatedDevice):
        def integer_kernels(self, model: bytes) -> dict[str, int]:
            return {}

    small = small_classifier()
    ranges = activation_ranges(small.graph.model, small.images.numpy())
    with pytest.raises(DeviceError, match=r"simulated 1 runs no layer of this model in integers; nothing can be"):
        fusable_layers(layered(small.graph.model), ranges, Never())


def test_layers_that_run_alone_but_not_together_are_taken_up_one_by_one() -> None:
    class Crowded(SimulatedDevice):
        """Runs no more than two convolutions in integers."""

        def integer_kernels(self, model: bytes) -> dict[str, int]:
            found = super().integer_kernels(model)
            return {**found, "Conv": min(2, found["Conv"])}

    small = small_classifier()
    ranges = activation_ranges(small.graph.model, small.images.numpy())
    possible = fusable_layers(layered(small.graph.model), ranges, Crowded())
    assert possible == (True, True, False, False, False, True)


def test_a_finalist_that_fails_its_gates_is_left_out(folder: Path, tmp_path: Path) -> None:
    base = job(folder, tmp_path / "out")
    wrong = ModelChoice("small_classifier:untrained", resolution=SIDE, mean=(0.5,), std=(0.25,))
    source = sources.open_source(base.model, CLASSES)
    other = sources.open_source(wrong, CLASSES)

    def mixed(choice: ModelChoice, classes: int) -> sources.Source:
        return sources.Source("mixed", source.graph, other.reference, 1, SIDE, (0.5,), (0.25,))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("nas.export.quantizing.open_source", mixed)
        with pytest.raises(VerificationError, match=r"gate A: the graph's logits in fp32 differ from torch's"):
            run_quantize(base)


def test_a_device_without_a_choice_is_refused(folder: Path, tmp_path: Path) -> None:
    base = job(folder, tmp_path / "out")
    for on, menu in ((BitFusion(), "w8a8, w6a6, w4a4"), (SimulatedDevice(precisions=("fp32",)), "fp32")):
        with pytest.raises(DeviceError, match=rf"executes {menu}; allowed: one with int8 beside a float precision"):
            run_quantize(QuantizeJob(base.model, on, base.out))


def test_images_of_other_classes_are_refused(tmp_path: Path, folder: Path) -> None:
    other = make_images(tmp_path / "two", ("ball", "box"))
    with pytest.raises(DataError, match=r"net.onnx returns \(1, 3\) of one image; data two has 2 classes: give the"):
        run_quantize(job(folder, tmp_path / "out", data=str(other)))


def test_fine_tuned_ranges_are_from_the_images_that_the_report_counts(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[int] = []

    def ranges(model: onnx.ModelProto, images: np.ndarray) -> Ranges:
        counted.append(len(images))
        return activation_ranges(model, images)

    for module in ("quantizing", "quantize_tuning"):
        monkeypatch.setattr(f"nas.export.{module}.activation_ranges", ranges)
    run_quantize(job(folder, tmp_path / "out", loss_images=8, tuning=Recipe(1)))
    data = read_json(tmp_path / "out" / "report.json", "quantize-report", 1)["data"]
    assert counted == [data["ranges"]] * 2 and data["ranges"] > data["losses"] == 8


def test_floats_are_called_what_the_device_computes_them_in(folder: Path, tmp_path: Path) -> None:
    class Halves(SimulatedDevice):
        """Says that it computes floats in bf16."""

        @property
        def executed_float(self) -> str:
            return "bf16"

    run_quantize(replace(job(folder, tmp_path / "out"), device=Halves(costs=steep_device()._costs)))
    report = read_json(tmp_path / "out" / "report.json", "quantize-report", 1)
    assert {one["precision"] for one in report["layers"]} <= {"bf16", "int8"}
    text = (tmp_path / "out" / "report.md").read_text()
    assert "| bf16 |" in text and "% of bf16's accuracy" in text and "fp32" not in text


@pytest.mark.parametrize("drop", [-0.1, 1.0, float("nan")])
def test_a_drop_that_cannot_be_is_refused(folder: Path, tmp_path: Path, drop: float) -> None:
    with pytest.raises(UsageError, match=r"max drop .*; allowed: from 0 to below 1, a fraction of fp32's accuracy"):
        run_quantize(job(folder, tmp_path / "out", max_drop=drop))


def test_a_normalisation_of_other_channels_is_refused(folder: Path, tmp_path: Path) -> None:
    choice = ModelChoice(str(folder / "net.onnx"), mean=(0.5, 0.5), std=(0.2, 0.2))
    with pytest.raises(UsageError, match=r"--mean \(0.5, 0.5\) and --std \(0.2, 0.2\) for images of 1 channels"):
        run_quantize(QuantizeJob(choice, steep_device(), tmp_path / "out", data=str(folder / "images")))


def test_one_call_does_it_in_a_script() -> None:
    small = small_classifier()
    batches = list(zip(small.images.split(32), small.labels.split(32), strict=True))
    found = quantize_mixed(small.network, batches, steep_device(), max_drop=0.1, validation=batches[3:], plan=PLAN)
    assert len(found.target.baseline) == 96 and any(found.chosen.mask)
    again = quantize_mixed(small.graph.model, batches, steep_device(), max_drop=0.1, plan=PLAN)
    assert len(again.target.baseline) == 192
    np.testing.assert_array_equal(again.order.sensitivities, found.order.sensitivities)


def test_an_empty_calibration_set_is_one_line() -> None:
    small = small_classifier()
    with pytest.raises(DataError, match=r"the loader gives no images; give a few hundred to calibrate on"):
        quantize_mixed(small.network, [], steep_device(), max_drop=0.1)
    with pytest.raises(DataError, match=r"the loader's images are torch.float64 \(192, 1, 12, 12\); allowed: float32"):
        quantize_mixed(small.network, [(small.images.double(), small.labels)], steep_device(), max_drop=0.1)


@pytest.mark.parametrize(
    ("labels", "judge", "message"),
    [
        (torch.full((192,), 3), SIDE, r"labels from 0 to 3; the model has 3 classes: allowed: 0 to 2"),
        (torch.zeros(192, 3), SIDE, r"labels are torch.float32 \(192, 3\) of 192 images; allowed: one class an image"),
        (
            torch.zeros(192, dtype=torch.int64),
            8,
            r"validation images are \(1, 8, 8\); the calibration images are \(1, 12",
        ),
    ],
)
def test_labels_and_images_that_do_not_fit_are_one_line(labels: torch.Tensor, judge: int, message: str) -> None:
    small = small_classifier()
    validation = [(small.images[..., :judge, :judge], labels)]
    with pytest.raises(DataError, match=message):
        quantize_mixed(
            small.network, [(small.images, small.labels)], steep_device(), max_drop=0.1, validation=validation
        )


def test_images_of_another_shape_than_a_graphs_are_refused() -> None:
    small = small_classifier()
    batches = [(small.images, small.labels), (small.images[..., :8, :8], small.labels)]
    with pytest.raises(DataError, match=r"the loader's images differ in shape; allowed: all of one shape"):
        quantize_mixed(small.network, batches, steep_device(), max_drop=0.1)
    with pytest.raises(DataError, match=r"images are \(1, 8, 8\); the model takes \(1, 12, 12\), 0 for any: prepare"):
        quantize_mixed(small.graph.model, batches[1:], steep_device(), max_drop=0.1)


def test_a_script_may_ask_for_confidence() -> None:
    small = small_classifier()
    with pytest.raises(InfeasibleError, match=r"99.9 % of fp32's accuracy with confidence cannot be shown by 192"):
        quantize_mixed(small.network, [(small.images, small.labels)], steep_device(), max_drop=0.001, confident=True)
