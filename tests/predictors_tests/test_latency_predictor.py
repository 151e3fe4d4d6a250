"""The latency predictor: additive, monotone in what costs, honest about its error, and the same after a round trip."""

import json
from pathlib import Path

import numpy as np
import pytest
from tiny_space import tiny_space

from latency_tables import LatencyTable
from latency_tables.costs import Images
from latency_tables.features import cost_features, count_features, feature_matrix, weighted_sum
from nas.errors import FileFormatError, UsageError
from predictors import LatencyPredictor
from search_spaces import Genes, get_space

SPACE = get_space("fashion-mbv3")
FEATURES = cost_features(SPACE, Images(1, 10))
TRUTH = weighted_sum(FEATURES, np.random.default_rng(5).random(len(FEATURES)) / 100)


def measured(n: int, seed: int, noise: float = 0.02) -> tuple[Genes, np.ndarray]:
    rng = np.random.default_rng(seed)
    genes = SPACE.sample(n, rng)
    return genes, TRUTH.predict_ms(genes) * rng.normal(1, noise, n)


@pytest.fixture(scope="module")
def fitted() -> LatencyPredictor:
    return LatencyPredictor(SPACE).fit(*measured(200, seed=0))


def test_it_predicts_networks_it_has_not_seen_within_its_interval(fitted: LatencyPredictor) -> None:
    genes, ms = measured(500, seed=1)
    found = fitted.predict(genes)
    assert np.median(np.abs(found.mean / ms - 1)) < 0.03
    assert 0.84 <= ((found.low <= ms) & (ms <= found.high)).mean() <= 0.98


def test_noise_earns_no_correction_and_a_factor_that_no_sum_holds_does(fitted: LatencyPredictor) -> None:
    assert fitted.correction == {}
    genes, ms = measured(300, seed=0)
    warped = ms * np.exp(0.2 * np.sin(SPACE.resolution_index(genes) * 2.0))
    corrected = LatencyPredictor(SPACE, TRUTH).fit(genes, warped)
    assert corrected.correction
    fresh, fresh_ms = measured(200, seed=1)
    fresh_ms = fresh_ms * np.exp(0.2 * np.sin(SPACE.resolution_index(fresh) * 2.0))
    plain = np.abs(TRUTH.predict_ms(fresh) / fresh_ms - 1).mean()
    assert np.abs(corrected.predict(fresh).mean / fresh_ms - 1).mean() < plain / 2


def test_a_table_that_is_off_by_a_factor_is_corrected_and_the_interval_stays_honest() -> None:
    genes, ms = measured(300, seed=0)
    fresh, fresh_ms = measured(500, seed=1)
    found = LatencyPredictor(SPACE, TRUTH).fit(genes, 2 * ms).predict(fresh)
    assert np.median(np.abs(found.mean / (2 * fresh_ms) - 1)) < 0.03
    assert 0.84 <= ((found.low <= 2 * fresh_ms) & (2 * fresh_ms <= found.high)).mean() <= 0.98


@pytest.mark.parametrize("table", [None, TRUTH], ids=["fitted table", "given table"])
def test_wild_measurements_widen_the_interval_and_hardly_move_the_mean(table: LatencyTable | None) -> None:
    def wild(n: int, seed: int) -> tuple[Genes, np.ndarray]:
        genes, ms = measured(n, seed)
        return genes, ms * np.where(np.random.default_rng(seed).random(n) < 0.2, 2.0, 1.0)

    genes, ms = wild(600, seed=0)
    fresh, fresh_ms = wild(1000, seed=1)
    found = LatencyPredictor(SPACE, table).fit(genes, ms).predict(fresh)
    assert 0.84 <= ((found.low <= fresh_ms) & (fresh_ms <= found.high)).mean() <= 1.0
    assert np.median(np.abs(found.mean / TRUTH.predict_ms(fresh) - 1)) < 0.1


def test_no_correction_that_judges_a_network_has_seen_it() -> None:
    genes, ms = measured(60, seed=0)
    folds = np.arange(60) % 10
    predictor = LatencyPredictor(SPACE)
    matrix = feature_matrix(count_features(SPACE), genes)
    before = predictor._unseen_corrections(matrix, genes, ms, folds)
    after = predictor._unseen_corrections(matrix, genes, np.where(folds == 0, 3 * ms, ms), folds)
    assert np.array_equal(before[folds == 0], after[folds == 0])
    assert not np.allclose(before[folds == 1], after[folds == 1])


def test_changing_one_precision_gene_changes_the_prediction(fitted: LatencyPredictor) -> None:
    row = SPACE.largest("fp32")
    twins = np.stack([row] * SPACE.num_genes)
    first_block = SPACE.num_genes - 4 * SPACE.num_blocks
    genes = [1, 2, *range(first_block + 3, SPACE.num_genes, 4)]
    for gene in genes:
        twins[gene, gene] = SPACE.precisions.index("int8")
    assert (fitted.predict(twins).mean[genes] != fitted.predict(row[None]).mean[0]).all()


@pytest.mark.parametrize("corrected", [False, True])
def test_it_is_the_same_after_a_round_trip(tmp_path: Path, corrected: bool) -> None:
    genes, ms = measured(60, seed=2)
    predictor = LatencyPredictor(SPACE, TRUTH if corrected else None)
    predictor.fit(genes, ms * np.exp(0.2 * SPACE.resolution_index(genes)) if corrected else ms)
    assert bool(predictor.correction) == corrected
    path = tmp_path / "latency.json"
    predictor.save(path, {"cpu": "x"})
    for loaded in (LatencyPredictor.load(path), LatencyPredictor.load(path, SPACE)):
        before, after = predictor.predict(genes), loaded.predict(genes)
        for name in ("mean", "low", "high"):
            assert np.allclose(getattr(before, name), getattr(after, name), rtol=1e-5)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"radius_log": -1}, r"latency\.json: radius_log is -1; allowed: 0 to 10; delete"),
        ({"radius_log": "wide"}, r"radius_log is 'wide'"),
        ({"exponent": 0}, r"exponent is 0; allowed: 0.001 to 10; delete"),
        ({"correction": {"offset": 1.0}}, r"its correction does not fit space 'fashion-mbv3'"),
        ({"correction": {**dict.fromkeys(count_features(SPACE), "x"), "offset": 1.0}}, r"its correction does not fit"),
        ({"preset": {}}, r"latency\.json: name is missing"),
        ({"schema_version": 99}, r"version 99; allowed: 'hwnas latency predictor' version 1"),
    ],
)
def test_a_damaged_file_is_refused_by_name(
    tmp_path: Path, fitted: LatencyPredictor, change: dict[str, object], message: str
) -> None:
    path = tmp_path / "latency.json"
    fitted.save(path)
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    with pytest.raises(FileFormatError, match=message):
        LatencyPredictor.load(path)


def test_a_predictor_of_another_space_is_refused(tmp_path: Path, fitted: LatencyPredictor) -> None:
    fitted.save(tmp_path / "latency.json")
    with pytest.raises(FileFormatError, match=r"not of tiny"):
        LatencyPredictor.load(tmp_path / "latency.json", tiny_space())


def test_an_unfitted_one_says_so(tmp_path: Path) -> None:
    for use in (
        lambda: LatencyPredictor(SPACE).predict(SPACE.largest()[None]),
        lambda: LatencyPredictor(SPACE).save(tmp_path / "x"),
    ):
        with pytest.raises(UsageError, match=r"has not been fitted; call fit\(\) or load\(\) first"):
            use()


def test_too_few_networks_are_refused() -> None:
    with pytest.raises(UsageError, match="5 latencies for 5 networks; allowed: one each, for 20 networks or more"):
        LatencyPredictor(SPACE).fit(*measured(5, seed=0))
