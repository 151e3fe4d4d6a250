"""Once-for-all's accuracy predictor: as released, against measured ImageNet accuracies, and files that do not fit."""

import gzip
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from ofa_data import ofa_data
from scipy.stats import spearmanr

from nas.errors import FileFormatError, UsageError
from predictors.ofa_accuracy import OFAAccuracyPredictor, distinct_means, import_ofa_predictor, known_part
from predictors.ofa_encoding import BOTTLENECK_INPUTS, ENCODINGS
from predictors.ofa_layers import is_predictor, read_layers
from predictors.ofa_measured import read_measured
from search_spaces import SearchSpace, get_space

SPACE = known_part(get_space("ofa-mbv3"))
HEADER = "ks,e,d,r,top1\n"
LINE = f"{'3' * 20},{'6' * 20},22222,224,75.5\n"


def random_arrays(inputs: int = 128, seed: int = 0) -> dict[str, np.ndarray]:
    rng = np.random.default_rng(seed)
    sizes = [inputs, 400, 400, 400, 1]
    arrays = {}
    for number, (given, out) in enumerate(pairwise(sizes)):
        arrays[f"{2 * number}.weight"] = (rng.normal(size=(out, given)) / given**0.5).astype(np.float32)
        arrays[f"{2 * number}.bias"] = (0.1 * rng.normal(size=out)).astype(np.float32)
    arrays["6.weight"] /= 10
    arrays["6.bias"] += 0.5
    return arrays


def saved(folder: Path, arrays: dict[str, np.ndarray], name: str = "predictor.pth") -> Path:
    path = folder / name
    if path.suffix == ".npz":
        np.savez(path, **{key.replace(".", "_"): value for key, value in arrays.items()})
    else:
        torch.save({key: torch.from_numpy(value) for key, value in arrays.items()}, path)
    return path


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return saved(tmp_path, random_arrays())


def ofa_features(row: np.ndarray) -> np.ndarray:
    """OFA's one-hot features of one row, decoded the slow and plain way."""
    candidate = SPACE.candidate(row)
    features = np.zeros(128)
    for number, block in enumerate(block for stage in candidate.blocks for block in stage):
        if block is not None:
            features[3 * number + [3, 5, 7].index(block.kernel)] = 1
            features[60 + 3 * number + [3, 4, 6].index(block.expand)] = 1
    place = (candidate.resolution - 112) / 16
    low = int(place)
    features[120 + low] += 1 - (place - low)
    if place > low:
        features[121 + low] += place - low
    return features


def test_it_answers_as_the_perceptron_on_once_for_alls_features(path: Path) -> None:
    genes = SPACE.sample(60, np.random.default_rng(0))
    x = np.stack([ofa_features(row) for row in genes])
    layers = list(random_arrays().values())
    for weight, bias in zip(layers[:-2:2], layers[1:-2:2], strict=True):
        x = np.maximum(x @ weight.T + bias, 0)
    expected = x @ layers[-2][0] + layers[-1][0]
    np.testing.assert_allclose(import_ofa_predictor(path, SPACE).predict(genes).mean, expected, rtol=0, atol=2e-6)


def test_torch_and_npz_files_are_the_same(path: Path, tmp_path: Path) -> None:
    genes = SPACE.sample(20, np.random.default_rng(0))
    other = saved(tmp_path, random_arrays(), "predictor.npz")
    found = [import_ofa_predictor(file, SPACE).predict(genes).mean for file in (path, other)]
    assert np.array_equal(*found)
    assert is_predictor(path) and is_predictor(other)


def test_the_other_spelling_has_its_base_accuracy_for_a_last_bias(tmp_path: Path) -> None:
    arrays = random_arrays()
    last = arrays.pop("6.bias")
    renamed = {f"layers.{int(name[0]) // 2}.0{name[1:]}": array for name, array in arrays.items() if name[0] != "6"}
    renamed |= {"layers.3.weight": arrays["6.weight"], "base_acc": last}
    layers = read_layers(saved(tmp_path, renamed))
    for (weight, bias), number in zip(layers, (0, 2, 4, 6), strict=True):
        assert np.array_equal(weight, random_arrays()[f"{number}.weight"])
        assert np.array_equal(bias, random_arrays()[f"{number}.bias"])


def test_it_knows_fp32_at_160_to_224_pixels_alone(path: Path) -> None:
    space = import_ofa_predictor(path, get_space("ofa-mbv3-w1.2")).space
    assert space.precisions == ("fp32",) and (space.resolutions[0], space.resolutions[-1]) == (160, 224)
    with pytest.raises(UsageError, match="space 'fashion-mbv3' has no resolution from 160 to 224 px"):
        known_part(get_space("fashion-mbv3"))


def test_floats_of_another_kind_are_answered_as_fp32(path: Path, tmp_path: Path) -> None:
    predictor = import_ofa_predictor(path, SPACE)
    predictor.save(tmp_path / "ours.safetensors")
    other = OFAAccuracyPredictor.load(tmp_path / "ours.safetensors", get_space("ofa-mbv3", precisions=("bf16", "int8")))
    genes = SPACE.sample(40, np.random.default_rng(1))
    assert other.space.precisions == ("bf16",) and other.space.size == SPACE.size
    assert np.array_equal(other.predict(genes).mean, predictor.predict(genes).mean)


def test_it_reads_back_as_it_was_written(path: Path, tmp_path: Path) -> None:
    genes = SPACE.sample(40, np.random.default_rng(1))
    predictor = import_ofa_predictor(path, SPACE).calibrate(genes, np.linspace(0.7, 0.8, 40))
    predictor.save(tmp_path / "ours.safetensors")
    again = OFAAccuracyPredictor.load(tmp_path / "ours.safetensors", get_space("ofa-mbv3"))
    assert again.scale == predictor.scale and again.space.preset == SPACE.preset
    for name in ("mean", "low", "high"):
        assert np.array_equal(getattr(again.predict(genes), name), getattr(predictor.predict(genes), name))
    with pytest.raises(
        FileFormatError, match=r"predicts space 'ofa-mbv3' or another version of it, not 'ofa-mbv3-w1.2'"
    ):
        OFAAccuracyPredictor.load(tmp_path / "ours.safetensors", get_space("ofa-mbv3-w1.2"))


def test_before_calibration_nothing_is_claimed_of_its_errors(path: Path) -> None:
    predicted = import_ofa_predictor(path, SPACE).predict(SPACE.sample(5, np.random.default_rng(0)))
    assert (predicted.low <= 0.01).all() and (predicted.high >= 0.99).all()


def test_calibration_wants_enough_fractions(path: Path) -> None:
    predictor, genes = import_ofa_predictor(path, SPACE), SPACE.sample(30, np.random.default_rng(0))
    with pytest.raises(UsageError, match=r"5 rows with accuracies \(5,\); allowed: 20 or more of each"):
        predictor.calibrate(genes[:5], np.full(5, 0.7))
    with pytest.raises(UsageError, match="accuracies outside 0 to 1; allowed: fractions"):
        predictor.calibrate(genes, np.full(30, 75.0))
    with pytest.raises(UsageError, match="15 distinct rows; allowed: 20 or more"):
        predictor.calibrate(np.concatenate([genes[:15], genes[:15]]), np.full(30, 0.7))


def test_of_equal_networks_the_mean_counts_once() -> None:
    genes = SPACE.sample(3, np.random.default_rng(0))[[0, 1, 0, 2]]
    rows, means = distinct_means(genes, np.array([0.1, 0.2, 0.3, 0.4]))
    assert np.array_equal(rows, genes[[0, 1, 3]]) and means.tolist() == pytest.approx([0.2, 0.2, 0.4])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda a: a.update({"0.weight": np.zeros((400, 82), np.float32)}), "its first layer reads 82 features"),
        (lambda a: a.update(other=np.zeros(3, np.float32)), "array other is of no accuracy predictor"),
        (lambda a: a.pop("2.bias"), "not every layer has a weight and a bias"),
        (lambda a: a.update({"2.bias": np.zeros(3, np.float32)}), r"layer 1 has shapes \(400, 400\) and \(3,\)"),
        (lambda a: a.update({"6.weight": np.zeros((2, 400), np.float32)}), "layer 3 has shapes .* out 1 in the last"),
        (lambda a: a["4.bias"].fill(np.nan), "holds NaN or infinity"),
    ],
)
@pytest.mark.parametrize("name", ["predictor.pth", "predictor.npz"])
def test_files_that_do_not_fit_are_refused(tmp_path: Path, name: str, change, message: str) -> None:  # type: ignore[no-untyped-def]
    arrays = random_arrays()
    change(arrays)
    with pytest.raises(FileFormatError, match=message):
        import_ofa_predictor(saved(tmp_path, arrays, name), SPACE)


def test_an_npz_that_is_none_is_refused(tmp_path: Path) -> None:
    (tmp_path / "a.npz").write_bytes(b"no zip")
    with pytest.raises(FileFormatError, match="not an npz file of plain arrays"):
        read_layers(tmp_path / "a.npz")
    with pytest.raises(FileFormatError, match=r"none\.npz: cannot be read"):
        read_layers(tmp_path / "none.npz")


def test_a_file_of_another_content_is_refused(path: Path, tmp_path: Path) -> None:
    from nas.files import write_tensors

    for info in ({}, {"kind": "other"}, {"kind": "once-for-all"}):
        write_tensors(tmp_path / "x.safetensors", {"a": torch.zeros(1)}, "accuracy-predictor", 1, info)
        with pytest.raises(FileFormatError, match="does not describe once-for-all's accuracy predictor"):
            OFAAccuracyPredictor.load(tmp_path / "x.safetensors")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (HEADER, "it has no lines"),
        (HEADER + LINE.replace("3", "4", 1), "line 2 is no network of 'ofa-mbv3' .*kernel 4; allowed: 3, 5, 7"),
        (HEADER + LINE.replace("22222", "222"), "line 2 is no network"),
        (HEADER + LINE.replace("75.5", "good"), "line 2 is no network"),
        ("ks,e,d,top1\n" + LINE, "line 2 is no network of 'ofa-mbv3' .*'r'"),
    ],
)
def test_measured_accuracies_that_do_not_fit_are_refused(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "measured.csv").write_text(text)
    with pytest.raises(FileFormatError, match=message):
        read_measured(tmp_path / "measured.csv", SPACE)


def test_measured_accuracies_may_be_gzipped(tmp_path: Path) -> None:
    (tmp_path / "measured.csv.gz").write_bytes(gzip.compress((HEADER + LINE).encode()))
    genes, accuracy = read_measured(tmp_path / "measured.csv.gz", SPACE)
    assert SPACE.candidate(genes[0]).resolution == 224 and accuracy.tolist() == [0.755]
    (tmp_path / "bad.csv.gz").write_bytes(b"no gzip")
    with pytest.raises(FileFormatError, match="not a CSV file"):
        read_measured(tmp_path / "bad.csv.gz", SPACE)


def test_the_released_one_orders_measured_imagenet_accuracies() -> None:
    predictor = import_ofa_predictor(ofa_data("acc_predictor_mbv3.npz"), SPACE)
    genes, accuracy = read_measured(ofa_data("dynast_ofa_mbv3_w10_imagenet.csv.gz"), SPACE)
    assert len(genes) > 1000
    assert spearmanr(predictor.predict(genes).mean, accuracy).statistic >= 0.98


def test_calibrated_it_is_right_on_networks_it_was_not_calibrated_to() -> None:
    genes, accuracy = read_measured(ofa_data("dynast_ofa_mbv3_w10_imagenet.csv.gz"), SPACE)
    order = np.random.default_rng(0).permutation(len(genes))
    seen, unseen = order[:300], order[300:]
    raw = import_ofa_predictor(ofa_data("acc_predictor_mbv3.npz"), SPACE)
    predicted = raw.calibrate(genes[seen], accuracy[seen]).predict(genes[unseen])
    assert np.abs(predicted.mean - accuracy[unseen]).mean() < 0.004
    assert ((predicted.low <= accuracy[unseen]) & (accuracy[unseen] <= predicted.high)).mean() > 0.85
    assert (raw.predict(genes).mean - accuracy).mean() > 0.03  # as released it speaks of training images


def test_as_released_more_pixels_are_more_accurate() -> None:
    predictor = import_ofa_predictor(ofa_data("acc_predictor_mbv3.npz"), SPACE)
    for row in (SPACE.largest(), SPACE.smallest(), *SPACE.sample(10, np.random.default_rng(0))):
        genes = np.repeat(row[None], len(SPACE.resolutions), axis=0)
        genes[:, 0] = np.arange(len(genes))
        assert (np.diff(predictor.predict(genes).mean) > 0).all()


def test_it_agrees_with_the_ofa_packages_own() -> None:
    pytest.importorskip("gdown", reason="the peer package ofa needs gdown")
    tutorial = pytest.importorskip("ofa.tutorial.accuracy_predictor", reason="the peer package ofa")
    path = ofa_data("acc_predictor_mbv3.npz")
    theirs = tutorial.AccuracyPredictor(pretrained=False, device="cpu")
    with np.load(path) as arrays:
        theirs.model.load_state_dict({name.replace("_", "."): torch.from_numpy(arrays[name]) for name in arrays.files})
    genes = SPACE.sample(100, np.random.default_rng(3))
    genes[:, 0] = 4 * (genes[:, 0] // 4)  # resolutions that it has inputs for
    population = [_as_theirs(row) for row in genes]
    expected = theirs.predict_accuracy(population).numpy()[:, 0]
    np.testing.assert_allclose(import_ofa_predictor(path, SPACE).predict(genes).mean, expected, rtol=0, atol=1e-6)


def _as_theirs(row: np.ndarray) -> dict[str, list[int]]:
    candidate = SPACE.candidate(row)
    blocks = [block for stage in candidate.blocks for block in stage]
    return {
        "ks": [block.kernel if block else 3 for block in blocks],
        "e": [block.expand if block else 3 for block in blocks],
        "d": [sum(block is not None for block in stage) for stage in candidate.blocks],
        "r": [candidate.resolution],
    }


def test_the_resnets_predictor_answers_what_the_ofa_packages_encoder_leads_to() -> None:
    encoders = pytest.importorskip("ofa.nas.accuracy_predictor.arch_encoder", reason="the peer package ofa")
    path = ofa_data("acc_predictor_resnet50.npz")
    predictor, encoder = import_ofa_predictor(path), encoders.ResNetArchEncoder(list(BOTTLENECK_INPUTS))
    space, layers = predictor.space, read_layers(path)
    assert space.name == "ofa-resnet50" and space.precisions == ("fp32",)
    genes = space.sample(60, np.random.default_rng(0))
    genes[:, 0] = [space.resolutions.index(pixels) for pixels in BOTTLENECK_INPUTS[:6]] * 10
    x = np.array([encoder.arch2feature(_as_their_resnet(space, row)) for row in genes])
    for weight, bias in layers[:-1]:
        x = np.maximum(x @ weight.T + bias, 0)
    weight, bias = layers[-1]
    np.testing.assert_allclose(predictor.predict(genes).mean, (x @ weight.T + bias)[:, 0], rtol=0, atol=1e-6)


def _as_their_resnet(space: SearchSpace, row: np.ndarray) -> dict[str, object]:
    candidate, preset = space.candidate(row), space.preset
    depths = [sum(block is not None for block in stage) for stage in candidate.blocks]
    return {
        "d": [2 * candidate.stem_depth, *(n - min(s.depths) for n, s in zip(depths, preset.stages, strict=True))],
        "e": [block.keep if block else 0.2 for block in candidate.all_blocks()],
        "w": [preset.widths.index(width) for width in candidate.widths],
        "image_size": candidate.resolution,
    }


def test_a_family_without_a_released_predictor_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(ENCODINGS, "bottleneck")
    with pytest.raises(
        UsageError, match="'ofa-resnet50' of family 'bottleneck' for once-for-all's predictors; allowed"
    ):
        import_ofa_predictor(ofa_data("acc_predictor_mbv3.npz"), get_space("ofa-resnet50"))


def test_measured_accuracies_are_of_inverted_residuals(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="columns ks, e, d for space 'ofa-resnet50'; allowed: spaces of family mbconv"):
        read_measured(tmp_path / "any.csv", get_space("ofa-resnet50"))
