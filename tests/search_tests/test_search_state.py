"""What is no state of a search, or a damaged one, is refused by name."""

import io
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from nas.errors import FileFormatError, UsageError
from nas.search import search
from nas.search.testing import ToySpace, toy_problem

SPACE = ToySpace()
Arrays = dict[str, Any]


@pytest.fixture(scope="module")
def arrays(tmp_path_factory: pytest.TempPathFactory) -> Arrays:
    path = tmp_path_factory.mktemp("state") / "state.npz"
    search(toy_problem(SPACE), budget=200, storage=path)
    with np.load(path) as file:
        return dict(file)


def as_text(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return array.astype(str)


def with_nan(array: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    return np.where(np.arange(len(array)) == 3, math.nan, array)


NO_ROWS = "not one row of genes and scores a candidate; remove it to start anew"


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        ("score:accuracy", None, r"not a readable search state \(it lacks score:accuracy\); remove it to start anew"),
        ("genes", None, r"not a readable search state \(it lacks genes\)"),
        ("score:accuracy", as_text, NO_ROWS),
        ("score:accuracy", lambda scores: scores[:, None], NO_ROWS),
        ("score:accuracy", with_nan, "accuracy is not finite everywhere; remove it to start anew"),
        ("genes", lambda genes: genes.astype(float), NO_ROWS),
        ("genes", lambda genes: genes[:, :-1], NO_ROWS),
        ("genes", lambda genes: genes[0, 0], NO_ROWS),
        ("header", lambda header: np.array("[" * 100_000), r"not a readable search state \(.*recursion"),
        ("header", lambda header: np.array(json.dumps([1])), "schema None version None; allowed: 'hwnas search state'"),
    ],
)
def test_a_state_that_does_not_fit_is_refused(
    tmp_path: Path, arrays: Arrays, name: str, change: Callable[[Any], Any] | None, message: str
) -> None:
    path = tmp_path / "state.npz"
    others = {key: array for key, array in arrays.items() if key != name}
    np.savez(path, **(others if change is None else {**others, name: change(arrays[name])}))
    refused(path, message)


@pytest.mark.parametrize("kind", ["npy", "folder", "pickle"])
def test_what_is_no_state_is_refused(tmp_path: Path, kind: str) -> None:
    path = tmp_path / "state.npz"
    if kind == "folder":
        path.mkdir()
    else:
        content = io.BytesIO()
        np.save(content, np.arange(3) if kind == "npy" else np.array([{}]), allow_pickle=True)
        path.write_bytes(content.getvalue())
    refused(path, r"not a readable search state \(.*\); remove it to start anew")


def test_a_damaged_state_is_refused_or_read(tmp_path: Path, arrays: Arrays) -> None:
    path, rng = tmp_path / "state.npz", np.random.default_rng(0)
    np.savez_compressed(path, **arrays)
    data = np.frombuffer(path.read_bytes(), np.uint8)
    for _ in range(200):
        damaged = data.copy()
        damaged[rng.integers(len(data), size=3)] = rng.integers(256, size=3)
        path.write_bytes(damaged.tobytes()[: rng.integers(len(data) // 2, 2 * len(data))])
        try:
            search(toy_problem(SPACE), budget=200, storage=path)
        except (FileFormatError, UsageError) as error:
            assert "state.npz" in str(error)


def test_a_place_that_cannot_be_looked_at_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"cannot be looked at \(File name too long\); mend it or name another place"):
        search(toy_problem(SPACE), budget=200, storage=tmp_path / ("n" * 300))


def refused(path: Path, message: str) -> None:
    with pytest.raises(FileFormatError, match=rf"state\.npz: {message}"):
        search(toy_problem(SPACE), budget=200, storage=path)
