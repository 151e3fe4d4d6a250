"""The real CIFAR-10, where it is at hand: its sheets are the official images, and its parts stay what they are."""

import hashlib

import numpy as np
import pytest
import torch
from shared_data import shared_data

from supernets.datasets import load_splits


def test_the_official_set_in_its_parts() -> None:
    splits = load_splits(shared_data("cifar10"), size=32, channels=3, need_train=True)
    assert splits.train is not None
    parts = (splits.train, splits.validation, splits.calibration, splits.test)
    assert [len(part) for part in parts] == [43_000, 5_000, 2_000, 10_000]
    assert all(torch.bincount(part.labels).unique().numel() == 1 for part in parts)
    levels = np.arange(256) / 255
    for channel, (mean, std) in enumerate(zip(splits.mean, splits.std, strict=True)):
        counts = sum(np.bincount(part.images[:, channel].flatten(), minlength=256) for part in parts[:3])
        assert np.average(levels, weights=counts) == pytest.approx(mean, abs=1e-7)
        assert np.average((levels - mean) ** 2, weights=counts) ** 0.5 == pytest.approx(std, abs=1e-7)
    chosen = [hashlib.sha256(part.images.numpy().tobytes()).hexdigest()[:12] for part in parts]
    assert chosen == ["b550281e708c", "7a7f5830d34c", "0755c51c112f", "177777c33ba7"]
