"""Places that cannot be looked at, a manifest that was changed, decoders that fail: one error that says what to do."""

import shutil
from pathlib import Path

import pytest
from PIL import Image

from nas.errors import DataError, FileFormatError, UsageError
from supernets.datasets import fashion, inspect_data, load_splits
from supernets.datasets.decode import decode_images, is_grey


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('"parts": {', '"parts": 5, "rest": {'),
        ('"count": 5000', '"count": 5001'),
        ('"mean": 0.286122', '"mean": 0.386122'),
        ('"seed": 20170828', '"seed": 0'),
    ],
)
def test_a_manifest_that_says_anything_else_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, before: str, after: str
) -> None:
    text = (fashion.SLICE / fashion.MANIFEST).read_text()
    assert before in text
    (tmp_path / fashion.MANIFEST).write_text(text.replace(before, after))
    monkeypatch.setattr(fashion, "SLICE", tmp_path)
    message = rf"slice\.json: its SHA-256 is \w{{64}}, not {fashion.MANIFEST_SHA256}; install the package again"
    with pytest.raises(FileFormatError, match=message):
        load_splits(size=28, channels=1)


def test_a_place_that_cannot_be_looked_at_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = "n" * 300
    message = rf"{name}\S*: cannot be looked at \(File name too long\); mend it or name another place"
    with pytest.raises(UsageError, match=message):
        inspect_data(name)
    monkeypatch.setattr(fashion, "DEBIAN", tmp_path)
    monkeypatch.setenv("HWNAS_DATA", name)
    with pytest.raises(UsageError, match=message):
        load_splits(size=28, channels=1, need_train=True)


def test_a_folder_that_is_closed_is_one_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(fashion.SLICE, tmp_path / "slice")

    def closed(path: object, **_keywords: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("os.stat", closed)  # root may look everywhere
    with pytest.raises(UsageError, match=r"slice: cannot be looked at \(Permission denied\); mend it or name another"):
        inspect_data(tmp_path / "slice")


def test_a_decoder_that_fails_names_the_image(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(_image: Image.Image) -> None:
        raise RuntimeError("Failed to decode frame 0: Decoding of color planes failed")

    path = tmp_path / "a.png"
    Image.new("RGB", (8, 8)).save(path)
    monkeypatch.setattr("PIL.ImageFile.ImageFile.load", broken)
    message = r"a\.png cannot be read \(Failed to decode frame 0: .*\); remove it or replace it"
    with pytest.raises(DataError, match=message):
        is_grey(path)
    with pytest.raises(DataError, match=message):
        decode_images([path], 16, 3, lambda: None)
