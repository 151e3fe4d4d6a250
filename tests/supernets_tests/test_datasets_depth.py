"""Depth sets: written, read, and refused."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.compression.pruning import DEPTH, depth_estimation
from nas.errors import DataError, FileFormatError
from supernets.datasets.depth import PARTS, DepthSet, DepthSplits, load_depth, save_depth


def splits(n: int = 2) -> DepthSplits:
    rng = torch.Generator().manual_seed(0)
    parts = {
        name: DepthSet(
            torch.randint(0, 256, (n, 3, 8, 8), generator=rng, dtype=torch.uint8),
            1 + torch.rand(n, 8, 8, generator=rng),
        )
        for name in PARTS
    }
    return DepthSplits("rooms", **parts)


def test_a_depth_set_is_read_as_it_was_written(tmp_path: Path) -> None:
    save_depth(tmp_path / "rooms.npz", splits())
    found = load_depth(tmp_path / "rooms.npz")
    assert found.name == "rooms"
    assert torch.equal(found.test.images, splits().test.images)
    assert torch.equal(found.train.depths, splits().train.depths)


@pytest.mark.parametrize(
    ("name", "array", "message"),
    [
        (
            "train_images",
            np.zeros((2, 3, 8, 9), np.uint8),
            r"train_images is uint8 \(2, 3, 8, 9\); allowed: uint8",
        ),
        ("test_depths", np.ones((2, 8, 8)), r"test_depths is float64 \(2, 8, 8\); allowed: float32 \(2, 8, 8\)"),
        (
            "test_depths",
            np.full((2, 8, 8), np.nan, np.float32),
            r"test_depths holds values that are no depths",
        ),
        ("validation_depths", np.full((2, 8, 8), -1, np.float32), r"validation_depths holds values that are no depths"),
    ],
)
def test_arrays_that_are_no_depths_are_refused(tmp_path: Path, name: str, array: np.ndarray, message: str) -> None:
    save_depth(tmp_path / "rooms.npz", splits())
    with np.load(tmp_path / "rooms.npz") as found:
        arrays = {key: found[key] for key in found}
    np.savez(tmp_path / "bad.npz", **(arrays | {name: array}))
    with pytest.raises(DataError, match=rf"bad.npz: {message}"):
        load_depth(tmp_path / "bad.npz")


def test_files_that_lack_a_part_are_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "half.npz", train_images=np.zeros((1, 3, 8, 8), np.uint8))
    with pytest.raises(FileFormatError, match=r"half.npz: not a readable npz file"):
        load_depth(tmp_path / "half.npz")


def test_parts_of_several_sizes_are_refused(tmp_path: Path) -> None:
    small = DepthSet(torch.zeros(1, 3, 4, 4, dtype=torch.uint8), torch.ones(1, 4, 4))
    save_depth(tmp_path / "two.npz", DepthSplits("two", splits().train, splits().validation, small))
    with pytest.raises(DataError, match=r"two.npz: its parts differ in the shape of their images"):
        load_depth(tmp_path / "two.npz")


def test_depth_is_judged_by_its_root_mean_square_error_where_it_is_known() -> None:
    task = depth_estimation(splits())
    target = torch.tensor([[[[1.0, 0.0], [2.0, 4.0]]]])
    assert float(DEPTH.score(target + torch.tensor([[[[3.0, 9.0], [0.0, 0.0]]]]), target)) == pytest.approx(3**0.5)
    assert float(DEPTH.loss(target + 0.5, target)) == 0.5
    assert DEPTH.better(0.1, 0.2) and not DEPTH.better(0.2, 0.1)
    assert task.train.targets.shape == (2, 1, 8, 8) and task.resolution == 8
    assert float(task.prepared(task.train.images).abs().max()) <= 1
