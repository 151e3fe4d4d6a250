"""Numbers out of range, processors that there are not, and places that cannot be looked at: one line, exit code 2."""

from pathlib import Path

import numpy as np
import pytest
import torch

from nas.cli.main import main
from nas.cli.options import MOST_SEED

LONG = "n" * 300
TRAIN = ["train", "--out", "new"]
COLLECT = ["collect", "--supernet", "fashion-mbv3", "--out", "new"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["calibrate", "--device", "cpu", "--seconds", "inf"], "error: Invalid value for '--seconds'"),
        (
            ["calibrate", "--device", "cpu", "--seconds", "nan"],
            "error: Invalid value for '--seconds'",
        ),
        ([*TRAIN, "--epochs-scale", "inf"], "error: Invalid value for '--epochs-scale'"),
        ([*TRAIN, "--epochs-scale", "1e9"], "error: Invalid value for '--epochs-scale'"),
        ([*TRAIN, "--epochs-scale", "nan"], "error: Invalid value for '--epochs-scale'"),
        ([*TRAIN, "--seed", str(2**64)], "error: Invalid value for '--seed'"),
        ([*COLLECT, "--seed", str(10**30)], "error: Invalid value for '--seed'"),
        *(
            ([*command, "--torch-device", name], f"error: --torch-device {name!r}: not known; allowed: cpu, or cuda")
            for command in (TRAIN, COLLECT)
            for name in ("meta", "hpu", "privateuseone", "foo", "", "cuda:x", "cpu:0")
        ),
        *(
            ([*command, "--torch-device", "cuda:99"], "error: --torch-device 'cuda:99': ")
            for command in (TRAIN, COLLECT)
        ),
        (["train", "--out", LONG], f"error: {LONG}: cannot be looked at (File name too long)"),
        (["train", "--out", LONG, "--resume"], f"error: {LONG}/"),
        ([*TRAIN, "--data", LONG], f"error: {LONG}: cannot be looked at (File name too long)"),
        (["collect", "--supernet", LONG], f"error: {LONG}: cannot be looked at (File name too long)"),
        (["collect", "--supernet", "fashion-mbv3", "--out", LONG], f"error: {LONG}"),
        (["search", "--device", "cpu", "--supernet", LONG], f"error: {LONG}: cannot be looked at (File name too long)"),
        (["search", "--device", "cpu", "--out", LONG], f"error: {LONG}: cannot be looked at (File name too long)"),
        (["search", "--device", "cpu", "--storage", LONG], f"error: {LONG}: cannot be looked at (File name too long)"),
        (["evaluate", LONG], f"error: {LONG}: cannot be looked at (File name too long)"),
    ],
)
def test_it_is_one_line_and_nothing_is_written(
    arguments: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    monkeypatch.chdir(tmp_path)
    refused(arguments, message, capsys)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("cache", "message"),
    [
        (LONG, f"error: {LONG}/"),
        ("~nobody-of-that-name/x", "error: $HWNAS_CACHE is ~nobody-of-that-name/x, and that home folder is not known"),
    ],
)
def test_a_cache_that_cannot_be_is_one_line(
    cache: str, message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HWNAS_CACHE", cache)
    refused(["calibrate", "--device", "cpu"], message, capsys)


def refused(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and printed.err.count("\n") == 1
    assert printed.err.startswith(message)


def test_the_largest_seed_is_one_that_all_generators_take() -> None:
    np.random.default_rng((MOST_SEED, 1)).random()
    torch.Generator().manual_seed(MOST_SEED)
    torch.Generator().manual_seed(MOST_SEED + 1)  # as a predictor's transfer does
