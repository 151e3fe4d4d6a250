"""Weights come back to the bit, or are refused: no damage to a file goes unseen."""

from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas import files
from nas.errors import FileFormatError

INFO = {"space": "s", "accuracy": 0.75, "widths": [8, 16]}


def tensors() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(0)
    weight = torch.randn(3, 4, generator=generator)
    return {
        "weight": weight,
        "tied": weight,
        "column": weight[:, 1],
        "half": weight.bfloat16(),
        "steps": torch.tensor(7),
        "mask": torch.tensor([True, False]),
        "none": torch.empty(0, 2),
    }


@pytest.fixture
def path(tmp_path: Path) -> Path:
    files.write_tensors(tmp_path / "w.safetensors", tensors(), "weights", 2, INFO)
    return tmp_path / "w.safetensors"


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "w.safetensors"
    files.write_tensors(path, {"w": torch.arange(4.0)}, "weights", 2, INFO)
    return path


def test_tensors_and_info_come_back_as_they_were(path: Path) -> None:
    read, info = files.read_tensors(path, "weights", 2)
    assert info == INFO
    assert read.keys() == tensors().keys()
    for name, tensor in tensors().items():
        assert read[name].dtype == tensor.dtype
        torch.testing.assert_close(read[name], tensor, rtol=0, atol=0)


def test_equal_content_gives_equal_bytes(path: Path, tmp_path: Path) -> None:
    again = dict(reversed(tensors().items()))
    files.write_tensors(tmp_path / "again.safetensors", again, "weights", 2, dict(reversed(INFO.items())))
    assert (tmp_path / "again.safetensors").read_bytes() == path.read_bytes()


def test_another_schema_or_version_is_refused(path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"schema 'weights' version 2; allowed: 'weights' version 3"):
        files.read_tensors(path, "weights", 3)
    with pytest.raises(FileFormatError, match=r"schema 'weights' version 2; allowed: 'predictor' version 2"):
        files.read_tensors(path, "predictor", 2)


def test_a_foreign_safetensors_file_is_refused(tmp_path: Path) -> None:
    from safetensors.torch import save_file

    save_file({"w": torch.zeros(2)}, tmp_path / "w.safetensors")
    with pytest.raises(FileFormatError, match=r"schema None version None; allowed: 'weights' version 2"):
        files.read_tensors(tmp_path / "w.safetensors", "weights", 2)


@pytest.mark.parametrize(("name", "reason"), [("missing", "No such file"), (".", "not a regular file")])
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    with pytest.raises(FileFormatError, match=rf"cannot be read \({reason}"):
        files.read_tensors(tmp_path / name, "weights", 2)


@given(length=st.integers(0, 2**10))
def test_a_truncated_file_is_refused(whole: Path, length: int) -> None:
    data = whole.read_bytes()
    cut = whole.with_name("cut.safetensors")
    cut.write_bytes(data[: length % len(data)])
    with pytest.raises(FileFormatError, match=r"cut\.safetensors: not a readable safetensors file"):
        files.read_tensors(cut, "weights", 2)


def test_no_damaged_byte_goes_unseen(whole: Path) -> None:
    data = whole.read_bytes()
    damaged = whole.with_name("damaged.safetensors")
    for place in range(len(data)):
        for flip in (0x01, 0x80):
            damaged.write_bytes(data[:place] + bytes([data[place] ^ flip]) + data[place + 1 :])
            with pytest.raises(FileFormatError, match=r"damaged\.safetensors: "):
                files.read_tensors(damaged, "weights", 2)


def test_damage_to_the_weights_names_the_hash(whole: Path) -> None:
    data = bytearray(whole.read_bytes())
    data[-1] ^= 1
    damaged = whole.with_name("damaged.safetensors")
    damaged.write_bytes(data)
    with pytest.raises(FileFormatError, match="its content has not the recorded sha256; it is damaged, fetch it again"):
        files.read_tensors(damaged, "weights", 2)
