"""What every predictor owes its user. A new predictor is one more line in PREDICTORS."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tiny_space import tiny_space

from nas.errors import NasError, UsageError
from predictors import LatencyPredictor
from predictors.accuracy import AccuracyPredictor
from search_spaces import Genes

SPACE = tiny_space()
PREDICTORS: dict[str, Callable[[], Any]] = {
    "latency": lambda: LatencyPredictor(SPACE),
    "accuracy": lambda: AccuracyPredictor(SPACE, members=2, width=16),
}

every_predictor = pytest.mark.parametrize("name", PREDICTORS)


def pairs(n: int, seed: int) -> tuple[Genes, NDArray[np.float64]]:
    """Return networks and a target between 0 and 1 that grows with what they have in them."""
    genes = SPACE.sample(n, np.random.default_rng(seed))
    depth = (SPACE.part_codes(genes)[:, 1:-1] > 0).sum(1)
    int8 = np.array([[p == "int8" for p in SPACE.candidate(row).precisions[1:2]] for row in genes])[:, 0]
    return genes, 0.3 + 0.1 * depth + 0.05 * SPACE.resolution_index(genes) - 0.04 * int8


@pytest.fixture(scope="module")
def fitted() -> dict[str, Any]:
    genes, targets = pairs(240, seed=0)
    made = {name: make() for name, make in PREDICTORS.items()}
    for predictor in made.values():
        assert predictor.fit(genes, targets) is predictor
    return made


@every_predictor
def test_it_ranks_networks_it_has_not_seen(name: str, fitted: dict[str, Any]) -> None:
    genes, targets = pairs(200, seed=1)
    found = fitted[name].predict(genes)
    assert found.mean.shape == found.low.shape == found.high.shape == (200,) and len(found) == 200
    assert np.corrcoef(found.mean, targets)[0, 1] > 0.8
    assert np.isfinite(found.mean).all()
    assert (found.low <= found.mean).all() and (found.mean <= found.high).all()


@every_predictor
def test_its_interval_holds_most_networks(name: str, fitted: dict[str, Any]) -> None:
    genes, targets = pairs(400, seed=2)
    found = fitted[name].predict(genes)
    assert ((found.low <= targets) & (targets <= found.high)).mean() > 0.8


@every_predictor
def test_it_looks_at_rows_one_by_one_and_changes_nothing(name: str, fitted: dict[str, Any]) -> None:
    genes, _ = pairs(50, seed=3)
    before = genes.copy()
    together = fitted[name].predict(genes).mean
    alone = np.concatenate([fitted[name].predict(row[None]).mean for row in genes])
    assert np.allclose(together, alone, rtol=1e-4) and np.array_equal(genes, before)
    assert len(fitted[name].predict(genes[:0])) == 0


@every_predictor
def test_one_precision_gene_changes_the_prediction(name: str, fitted: dict[str, Any]) -> None:
    row = SPACE.largest("fp32")
    twin = row.copy()
    twin[-4 * SPACE.num_blocks + 3] = SPACE.precisions.index("int8")
    found = fitted[name].predict(np.stack([row, twin])).mean
    assert found[0] != found[1]


@every_predictor
def test_it_comes_back_from_its_file(name: str, fitted: dict[str, Any], tmp_path: Path) -> None:
    genes, _ = pairs(50, seed=4)
    path = tmp_path / "predictor"
    fitted[name].save(path)
    loaded = type(fitted[name]).load(path)
    assert np.allclose(loaded.predict(genes).mean, fitted[name].predict(genes).mean, rtol=1e-5)
    assert np.allclose(loaded.predict(genes).high, fitted[name].predict(genes).high, rtol=1e-5)


@every_predictor
def test_a_file_cut_short_is_refused_by_name(name: str, fitted: dict[str, Any], tmp_path: Path) -> None:
    path = tmp_path / "predictor"
    fitted[name].save(path)
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(NasError, match="predictor"):
        type(fitted[name]).load(path)


@every_predictor
def test_equal_fits_predict_the_same(name: str, fitted: dict[str, Any]) -> None:
    genes, targets = pairs(240, seed=0)
    again = PREDICTORS[name]().fit(genes, targets)
    assert np.allclose(again.predict(genes).mean, fitted[name].predict(genes).mean, rtol=1e-4)


@every_predictor
def test_before_it_is_fitted_it_says_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="fitted"):
        PREDICTORS[name]().predict(SPACE.largest()[None])
    with pytest.raises(UsageError, match="fitted"):
        PREDICTORS[name]().save(tmp_path / "predictor")


@every_predictor
def test_too_few_networks_are_refused(name: str) -> None:
    with pytest.raises(UsageError, match=r"\d+ "):
        PREDICTORS[name]().fit(*pairs(5, seed=0))
