"""A bundle opens as it was saved, runs, and a damaged or tampered one is named."""

import json
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, external_data_helper
from tiny_job import CLASSES, Tiny, make_tiny

from nas.errors import FileFormatError, UsageError
from nas.export import load_bundle, save_bundle
from supernets import get_supernet
from supernets.graph import to_onnx


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture
def saved(tiny: Tiny, tmp_path: Path) -> Path:
    net = get_supernet(tiny.supernet)
    subnet = net.extract(tiny.space.candidate(tiny.space.largest()))
    graph = to_onnx(subnet, 1, subnet.candidate.resolution, batch="N")
    report = {"measured": {"accuracy": 0.5}}
    return save_bundle(
        tmp_path / "bundle", subnet=subnet, preset=tiny.space.preset, images=net.info, model=graph, report=report
    )


def test_a_bundle_opens_as_it_was_saved(saved: Path, tiny: Tiny) -> None:
    bundle = load_bundle(saved)
    assert len(repr(bundle)) < 3000  # no tensors, no bytes
    assert bundle.report == {"measured": {"accuracy": 0.5}}
    assert bundle.candidate == tiny.space.candidate(tiny.space.largest())
    assert bundle.images.classes == CLASSES and bundle.preset == tiny.space.preset
    assert sorted(path.name for path in saved.iterdir()) == [
        "model.onnx", "report.json", "subnet.json", "weights.safetensors",
    ]  # fmt: skip


def test_its_torch_model_and_its_session_agree(saved: Path) -> None:
    bundle = load_bundle(saved)
    images = np.random.default_rng(0).standard_normal((5, 1, 16, 16), dtype=np.float32)
    with torch.no_grad():
        logits = bundle.model()(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(bundle.session().run(None, {"input": images})[0], logits, atol=1e-4)


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "subnet.json"])
def test_a_changed_byte_is_found_and_the_file_named(saved: Path, name: str) -> None:
    data = bytearray((saved / name).read_bytes())
    data[len(data) // 2] ^= 1
    (saved / name).write_bytes(data)
    with pytest.raises(FileFormatError, match=rf"{name}: sha256 \w+… is not \w+… as report.json records"):
        load_bundle(saved)


def test_a_bundle_that_names_no_device_says_so(saved: Path) -> None:
    with pytest.raises(FileFormatError, match=r"report\.json: it has no device's name"):
        _ = load_bundle(saved).device_name


@pytest.mark.parametrize("name", ["model.onnx", "weights.safetensors", "subnet.json", "report.json"])
def test_a_missing_file_is_named(saved: Path, name: str) -> None:
    (saved / name).unlink()
    with pytest.raises(FileFormatError, match=rf"{name}: cannot be read"):
        load_bundle(saved)


def test_a_report_that_was_edited_is_refused(saved: Path) -> None:
    text = (saved / "report.json").read_text()
    (saved / "report.json").write_text(text.replace('"accuracy": 0.5', '"accuracy": 0.9'))
    with pytest.raises(FileFormatError, match=r"report.json: its content has not the recorded sha256"):
        load_bundle(saved)


def test_a_report_without_hashes_is_refused(saved: Path) -> None:
    content = json.loads((saved / "report.json").read_text())
    (saved / "report.json").write_text(json.dumps({**content, "files": {}}))
    with pytest.raises(FileFormatError, match=r"report.json: it lacks the report or the hashes of model.onnx"):
        load_bundle(saved)


def test_a_link_out_of_the_folder_is_refused(saved: Path) -> None:
    (saved / "model.onnx").rename(saved.parent / "elsewhere.onnx")
    (saved / "model.onnx").symlink_to(saved.parent / "elsewhere.onnx")
    with pytest.raises(FileFormatError, match=r"model.onnx: a link; allowed: a regular file of the bundle"):
        load_bundle(saved)


def test_a_folder_that_is_no_bundle_is_refused(tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"nowhere: no bundle there; allowed: a folder that holds model.onnx"):
        load_bundle(tmp_path / "nowhere")


def resealed(saved: Path) -> None:
    """Record the hashes of the files as they are now: what somebody who wants to deceive would do."""
    from nas.export.bundle import HASHED, REPORT_SCHEMA, _digest
    from nas.files import sha256, write_json

    report = json.loads((saved / "report.json").read_text())["report"]
    sealed = {"files": {name: sha256(saved / name) for name in HASHED}, "report": report}
    write_json(saved / "report.json", *REPORT_SCHEMA, {**sealed, "sha256": _digest(sealed)})


def test_a_model_that_reaches_for_other_files_is_refused(saved: Path) -> None:
    model = onnx.load(saved / "model.onnx")
    tensor = model.graph.initializer[0]
    external_data_helper.set_external_data(tensor, "../../secret")
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    (saved / "model.onnx").write_bytes(model.SerializeToString())
    resealed(saved)
    with pytest.raises(FileFormatError, match=r"model.onnx: it keeps weights in another file"):
        load_bundle(saved)


def test_a_model_of_another_input_is_refused(saved: Path) -> None:
    model = onnx.load(saved / "model.onnx")
    model.graph.input[0].type.tensor_type.shape.dim[2].dim_value = 99
    (saved / "model.onnx").write_bytes(model.SerializeToString())
    resealed(saved)
    with pytest.raises(FileFormatError, match=r"model.onnx: its inputs are .*99.*; allowed: one of \(N, 1, 16, 16\)"):
        load_bundle(saved)


def test_a_model_that_is_none_is_refused(saved: Path) -> None:
    (saved / "model.onnx").write_bytes(b"not a model")
    resealed(saved)
    with pytest.raises(FileFormatError, match=r"model.onnx: not an ONNX model"):
        load_bundle(saved)


@pytest.mark.parametrize(
    ("old", "new"),
    [('"kernel": 5', '"kernel": 4'), ('"space": "tiny"', '"space": "huge"'), ('"resolution": 16', '"resolution": "x"')],
)
def test_a_subnet_that_is_not_of_its_preset_is_refused(saved: Path, old: str, new: str) -> None:
    text = (saved / "subnet.json").read_text()
    assert old in text
    (saved / "subnet.json").write_text(text.replace(old, new))
    resealed(saved)
    with pytest.raises(FileFormatError, match=r"subnet.json: "):
        load_bundle(saved)


def test_a_folder_in_use_is_not_overwritten(saved: Path, tiny: Tiny) -> None:
    bundle = load_bundle(saved)
    with pytest.raises(UsageError, match=r"output .*bundle exists and is not an empty folder"):
        save_bundle(
            saved, subnet=bundle.model(), preset=bundle.preset, images=bundle.images,
            model=onnx.load(saved / "model.onnx"), report={},
        )  # fmt: skip


def test_nothing_half_written_stays(tiny: Tiny, tmp_path: Path) -> None:
    net = get_supernet(tiny.supernet)
    subnet = net.extract(tiny.space.candidate(tiny.space.smallest()))
    graph = to_onnx(subnet, 1, subnet.candidate.resolution)
    with pytest.raises(ValueError, match="Out of range float"):
        save_bundle(
            tmp_path / "b", subnet=subnet, preset=tiny.space.preset, images=net.info, model=graph,
            report={"accuracy": float("nan")},
        )  # fmt: skip
    assert list(tmp_path.iterdir()) == []
