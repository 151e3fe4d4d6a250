"""The accuracy predictor learns, transfers, knows what it does not know, and comes back from its file unchanged."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from invented_accuracy import invented_accuracy, planned_rows
from scipy.stats import kendalltau
from small_presets import make_preset

from nas.errors import FileFormatError, UsageError
from nas.files import read_tensors, write_tensors
from predictors.accuracy import SCHEMA, AccuracyPredictor
from search_spaces import Candidate, MBConvSpace, as_written, get_space
from search_spaces.mbconv_preset import MBConvStage

SPACE = get_space("fashion-mbv3")
SMALL = MBConvSpace(make_preset(stages=(MBConvStage(16, 2, (1, 2)), MBConvStage(16, 1, (1, 2)))))
FP32 = planned_rows(SPACE, 1000, seed=0, mode="fp32")
QUANTIZED = planned_rows(SPACE, 400, seed=0, mode="quantized")
UNSEEN = planned_rows(SPACE, 1200, seed=1, mode="quantized")


def rmse(predictor: AccuracyPredictor, genes: np.ndarray) -> float:
    error = predictor.predict(genes).mean - invented_accuracy(SPACE, genes, noise=0)
    return float(np.sqrt(np.square(error).mean()))


@pytest.fixture(scope="module")
def fp32() -> AccuracyPredictor:
    return AccuracyPredictor(SPACE).fit(FP32, invented_accuracy(SPACE, FP32))


@pytest.fixture(scope="module")
def transferred() -> AccuracyPredictor:
    pairs = FP32, invented_accuracy(SPACE, FP32)
    predictor = AccuracyPredictor(SPACE, supernet="0123456789ab").fit(*pairs)
    return predictor.transfer(QUANTIZED, invented_accuracy(SPACE, QUANTIZED, seed=1), replay=pairs)


@pytest.fixture
def small() -> AccuracyPredictor:
    """A predictor that is quick to fit."""
    genes = SMALL.sample(100, np.random.default_rng(0))
    return AccuracyPredictor(SMALL, members=2, width=8, supernet="aaaa").fit(genes, invented_accuracy(SMALL, genes))


def test_it_ranks_networks_that_it_has_not_seen(fp32: AccuracyPredictor) -> None:
    genes = planned_rows(SPACE, 500, seed=1, mode="fp32")
    truth = invented_accuracy(SPACE, genes, noise=0)
    assert kendalltau(fp32.predict(genes).mean, truth).statistic > 0.85
    assert rmse(fp32, genes) < 0.25 * truth.std()


def test_transfer_from_fp32_beats_fitting_quantized_pairs_alone(transferred: AccuracyPredictor) -> None:
    fresh = AccuracyPredictor(SPACE).fit(QUANTIZED, invented_accuracy(SPACE, QUANTIZED, seed=1))
    assert fresh.knows_precision
    assert rmse(transferred, UNSEEN) < 0.9 * rmse(fresh, UNSEEN)


def test_transfer_does_not_forget_fp32(fp32: AccuracyPredictor, transferred: AccuracyPredictor) -> None:
    genes = planned_rows(SPACE, 500, seed=1, mode="fp32")
    assert rmse(transferred, genes) < 1.2 * rmse(fp32, genes)


def test_transfer_also_works_without_the_fp32_pairs(transferred: AccuracyPredictor) -> None:
    predictor = AccuracyPredictor(SPACE).fit(FP32, invented_accuracy(SPACE, FP32))
    predictor.transfer(QUANTIZED, invented_accuracy(SPACE, QUANTIZED, seed=1))
    assert rmse(predictor, UNSEEN) < 1.3 * rmse(transferred, UNSEEN)


def test_the_interval_covers_nine_in_ten(transferred: AccuracyPredictor) -> None:
    prediction, truth = transferred.predict(UNSEEN), invented_accuracy(SPACE, UNSEEN, seed=2)
    covered = (prediction.low <= truth) & (truth <= prediction.high)
    assert 0.84 < covered.mean() < 0.97
    assert (prediction.low < prediction.mean).all() and (prediction.mean < prediction.high).all()


def luck(genes: np.ndarray) -> np.ndarray:
    """Return what nothing but having seen the architecture tells, the same in every precision."""
    dicts = [SPACE.candidate(row).to_dict() for row in genes]
    bare = json.loads(json.dumps(dicts).replace('"int8"', '"fp32"'))
    ids = [Candidate.from_dict(one).id for one in bare]
    return np.array([np.random.default_rng(int(name, 16)).normal(0, 0.004) for name in ids])


def test_an_architecture_seen_in_fp32_narrows_no_interval() -> None:
    fp32, mixed = (genes[:300] for genes in (FP32, QUANTIZED))
    pairs = fp32, invented_accuracy(SPACE, fp32, noise=0) + luck(fp32)
    predictor = AccuracyPredictor(SPACE).fit(*pairs)
    predictor.transfer(mixed, invented_accuracy(SPACE, mixed, noise=0) + luck(mixed), replay=pairs)
    unseen = UNSEEN[:500]
    prediction, truth = predictor.predict(unseen), invented_accuracy(SPACE, unseen, noise=0) + luck(unseen)
    assert ((prediction.low <= truth) & (truth <= prediction.high)).mean() > 0.8


def test_changing_one_precision_changes_the_features_and_the_prediction(transferred: AccuracyPredictor) -> None:
    row = SPACE.largest()
    twins = np.repeat(row[None], len(row), axis=0)
    changed = [gene for gene, name in enumerate(SPACE.gene_names) if name.endswith("precision")]
    twins[changed, changed] = 1
    twins = twins[changed]
    assert (SPACE.encode(twins) != SPACE.encode(row[None])).any(1).all()
    before, after = transferred.predict(row[None]).mean, transferred.predict(twins).mean
    assert len(after) == SPACE.num_blocks + 2 and (after != before).all()
    assert (after < before).mean() > 0.7  # int8 costs accuracy, nearly everywhere


def test_a_predictor_of_fp32_alone_refuses_quantized_networks(fp32: AccuracyPredictor) -> None:
    assert not fp32.knows_precision
    with pytest.raises(UsageError, match=r"knows fp32 alone; transfer\(\) it on pairs with quantized units"):
        fp32.predict(UNSEEN)


def test_predictions_do_not_depend_on_their_company(transferred: AccuracyPredictor) -> None:
    together, alone = transferred.predict(UNSEEN), transferred.predict(UNSEEN[1100:1101])
    assert np.allclose(together.mean[1100], alone.mean, atol=1e-6)
    assert len(transferred.predict(UNSEEN[:0])) == 0


def test_the_same_seed_fits_the_same_predictor() -> None:
    genes = SMALL.sample(100, np.random.default_rng(0))
    accuracy = invented_accuracy(SMALL, genes)
    predictors = (AccuracyPredictor(SMALL, members=2, width=8, seed=seed).fit(genes, accuracy) for seed in (0, 0, 1))
    one, two, other = (predictor.predict(genes).mean for predictor in predictors)
    assert np.array_equal(one, two) and not np.array_equal(one, other)


def test_equal_accuracies_are_learned() -> None:
    genes = SMALL.sample(100, np.random.default_rng(0))
    predictor = AccuracyPredictor(SMALL, members=2, width=8).fit(genes, np.full(100, 0.5))
    assert np.allclose(predictor.predict(genes).mean, 0.5, atol=0.05)


def test_the_file_brings_back_the_same_predictor(transferred: AccuracyPredictor, tmp_path: Path) -> None:
    transferred.save(tmp_path / "predictor.safetensors")
    for space in (None, SPACE):
        back = AccuracyPredictor.load(tmp_path / "predictor.safetensors", space, supernet="0123456789ab")
        for name in ("mean", "low", "high"):
            assert np.array_equal(getattr(back.predict(UNSEEN), name), getattr(transferred.predict(UNSEEN), name))
    back.save(tmp_path / "again.safetensors")
    assert (tmp_path / "again.safetensors").read_bytes() == (tmp_path / "predictor.safetensors").read_bytes()


@pytest.mark.parametrize("menu", [["fp32"], ["int8", "fp32"], ["bf16", "int8"]])
def test_a_devices_menu_is_predicted_as_the_same_networks(
    transferred: AccuracyPredictor, tmp_path: Path, menu: list[str]
) -> None:
    transferred.save(tmp_path / "predictor.safetensors")
    space = get_space("fashion-mbv3", precisions=menu)
    genes = space.sample(50, np.random.default_rng(0))
    written = get_space("fashion-mbv3", precisions=[as_written(name) for name in menu])
    same = np.array([SPACE.genes(written.candidate(row)) for row in genes])
    back = AccuracyPredictor.load(tmp_path / "predictor.safetensors", space)
    assert np.allclose(back.predict(genes).mean, transferred.predict(same).mean, atol=1e-6)
    with pytest.raises(UsageError, match="loaded for a device's menu; load it without a space"):
        back.fit(genes, np.full(50, 0.5))


def test_a_predictor_for_another_space_is_refused(small: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.safetensors"
    small.save(path)
    with pytest.raises(FileFormatError, match=r"predicts space small \(\w+\), not fashion-mbv3 \(\w+\); collect pairs"):
        AccuracyPredictor.load(path, SPACE)
    with pytest.raises(FileFormatError, match=r"predicts space small \(\w+\), not small \(\w+\)"):
        AccuracyPredictor.load(path, MBConvSpace(replace(SMALL.preset, kernels=(3, 7))))
    with pytest.raises(FileFormatError, match="knows precisions fp32, int8, not all of fp32, int4"):
        AccuracyPredictor.load(path, MBConvSpace(SMALL.preset, ["fp32", "int4"]))


def test_a_predictor_for_another_supernet_is_refused(small: AccuracyPredictor, tmp_path: Path) -> None:
    small.save(tmp_path / "predictor.safetensors")
    with pytest.raises(FileFormatError, match="predicts supernet aaaa, not bbbb; collect pairs anew"):
        AccuracyPredictor.load(tmp_path / "predictor.safetensors", SMALL, supernet="bbbb")


def test_a_damaged_file_is_refused(small: AccuracyPredictor, tmp_path: Path) -> None:
    path = tmp_path / "predictor.safetensors"
    small.save(path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-100])
    with pytest.raises(FileFormatError, match="not a readable safetensors file"):
        AccuracyPredictor.load(path)
    path.write_bytes(whole[:-4] + b"\x00\x01\x02\x03")
    with pytest.raises(FileFormatError, match="not the recorded sha256"):
        AccuracyPredictor.load(path)
    with pytest.raises(FileFormatError, match=r"none\.safetensors"):
        AccuracyPredictor.load(tmp_path / "none.safetensors")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda info, tensors: info.pop("preset"), "does not describe an accuracy predictor"),
        (lambda info, tensors: info.update(state={}), "does not describe an accuracy predictor"),
        (lambda info, tensors: info.update(precisions=["fp32"]), "does not describe an accuracy predictor"),
        (lambda info, tensors: tensors.pop("bias_2"), "does not describe an accuracy predictor"),
        (lambda info, tensors: tensors["bias_2"].fill_(float("nan")), "holds NaN or infinity"),
    ],
)
def test_a_file_that_does_not_fit_together_is_refused(small, tmp_path: Path, change, message: str) -> None:
    path = tmp_path / "predictor.safetensors"
    small.save(path)
    tensors, info = read_tensors(path, SCHEMA, 1)
    change(info, tensors)
    write_tensors(path, tensors, SCHEMA, 1, info)
    with pytest.raises(FileFormatError, match=message):
        AccuracyPredictor.load(path)


def test_an_unfitted_predictor_says_so(tmp_path: Path) -> None:
    predictor = AccuracyPredictor(SMALL)
    genes = SMALL.sample(100, np.random.default_rng(0))
    for use in (
        lambda: predictor.predict(genes),
        lambda: predictor.save(tmp_path / "x"),
        lambda: predictor.transfer(genes, np.full(100, 0.5)),
    ):
        with pytest.raises(UsageError, match=r"has not been fitted; call fit\(\) or load\(\) first"):
            use()


@pytest.mark.parametrize(
    ("count", "accuracy", "message"),
    [
        (59, np.full(59, 0.5), r"59 rows with accuracies \(59,\); allowed: 60 or more of each"),
        (80, np.full(79, 0.5), r"80 rows with accuracies \(79,\)"),
        (80, np.full(80, 93.0), "accuracies outside 0 to 1; allowed: fractions"),
        (80, np.full(80, np.nan), "accuracies outside 0 to 1"),
    ],
)
def test_pairs_that_do_not_fit_are_refused(count: int, accuracy: np.ndarray, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        AccuracyPredictor(SMALL).fit(SMALL.sample(count, np.random.default_rng(0)), accuracy)
