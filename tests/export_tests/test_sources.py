"""A model of every kind is opened with the logits that it has by itself; what cannot be opened is one line."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from safetensors.torch import save_file
from small_classifier import FLATTEN, foreign, graph_of, small_classifier

from nas.compression import HOST
from nas.compression.models import RANDOM
from nas.errors import FileFormatError, UsageError
from nas.export.sources import ModelChoice, Source, open_source


def agrees(source: Source) -> None:
    rng = np.random.default_rng(0)
    images = rng.standard_normal((4, source.channels, source.resolution, source.resolution), dtype=np.float32)
    found = HOST.session(source.graph.SerializeToString()).run(None, {"input": images})[0]
    with torch.inference_mode():
        expected = source.reference(torch.from_numpy(images)).numpy()
    np.testing.assert_allclose(found, expected, atol=1e-4 * max(1, np.abs(expected).max()))


def test_a_function_of_ones_own(monkeypatch: pytest.MonkeyPatch) -> None:
    source = open_source(ModelChoice("small_classifier:untrained", resolution=12), 3)
    assert (source.channels, source.resolution, source.info, source.mean) == (1, 12, None, None)
    agrees(source)


def test_weights_are_loaded_into_it(tmp_path: Path) -> None:
    small = small_classifier()
    save_file(small.network.state_dict(), tmp_path / "weights.safetensors")
    choice = ModelChoice("small_classifier:untrained", str(tmp_path / "weights.safetensors"), 12, (0.5,), (0.25,))
    source = open_source(choice, 3)
    torch.testing.assert_close(source.reference(small.images), small.network(small.images))
    assert (source.mean, source.std) == ((0.5,), (0.25,))


def test_an_onnx_file_with_a_fixed_batch(tmp_path: Path) -> None:
    small = small_classifier()
    foreign(small.network, tmp_path / "net.onnx")
    source = open_source(ModelChoice(str(tmp_path / "net.onnx")), 3)
    assert (source.channels, source.resolution) == (1, 12)
    agrees(source)


@pytest.mark.parametrize("name", ["torchvision:mobilenet_v3_small", "squeezenet1_1", "mobilenetv3_small_050"])
def test_a_name_of_torchvision_or_timm(name: str) -> None:
    source = open_source(ModelChoice(name, RANDOM, 32), 5)
    assert (source.channels, source.resolution, source.mean) == (3, 32, (0.485, 0.456, 0.406))
    agrees(source)


def saved(model: onnx.ModelProto, path: Path) -> str:
    onnx.save(model, path)
    return str(path)


def test_a_network_that_does_not_say_how_large_its_images_are_is_asked() -> None:
    with pytest.raises(
        UsageError, match=r"small_classifier:untrained does not say how large its images are; give --res"
    ):
        open_source(ModelChoice("small_classifier:untrained"), 3)


def test_an_onnx_file_that_does_not_fit_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "text.onnx").write_text("no model")
    with pytest.raises(FileFormatError, match=r"text.onnx: not an ONNX model \("):
        open_source(ModelChoice(str(tmp_path / "text.onnx")), 3)
    model = graph_of(FLATTEN)
    with pytest.raises(UsageError, match=r"an ONNX file has its weights inside; leave --weights out"):
        open_source(ModelChoice(saved(model, tmp_path / "a.onnx"), weights="x"), 3)
    with pytest.raises(UsageError, match=r"its images are 1 x 4 x 4; allowed: square ones of fixed channels"):
        open_source(ModelChoice(saved(model, tmp_path / "a.onnx"), resolution=8), 3)
    tensor = onnx.TensorProto(name="w", data_type=1, dims=[1], data_location=onnx.TensorProto.EXTERNAL)
    model.graph.initializer.append(tensor)
    (tmp_path / "b.onnx").write_bytes(model.SerializeToString())
    with pytest.raises(FileFormatError, match=r"it keeps weights in another file; allowed: weights inside the model"):
        open_source(ModelChoice(str(tmp_path / "b.onnx")), 3)
