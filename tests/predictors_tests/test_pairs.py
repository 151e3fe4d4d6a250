"""Which candidates are measured depends on the seed alone, and the file of pairs survives what may happen to it."""

from pathlib import Path

import numpy as np
import pytest
from small_presets import make_preset

from nas.errors import FileFormatError, OutputError, UsageError
from predictors.collect import images_fingerprint, supernet_fingerprint
from predictors.pairs import append_pair, measured_ids, open_pairs, plan_pairs, read_pairs
from search_spaces import MBConvSpace, get_space
from search_spaces.mbconv_preset import MBConvStage
from supernets import get_supernet, supernet_folder
from supernets.datasets import load_splits

SPACE = get_space("fashion-mbv3")
ONE = {"resolutions": (12,), "kernels": (3,), "expands": (2,), "keeps": (1.0,), "stages": (MBConvStage(8, 1, (1,)),)}
TINY = MBConvSpace(make_preset(**ONE))  # one architecture of three units


def write_pairs(path: Path, count: int = 6, mode: str = "fp32", start: int = 0) -> None:
    open_pairs(path)
    for pair in plan_pairs(SPACE, count, seed=0, mode=mode)[start:]:
        append_pair(
            path, SPACE, pair, supernet="aaaa", mode=mode, accuracy=0.9 + pair.index / 1000, images=50, data="cccc"
        )


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "pairs.csv"
    write_pairs(path)
    return path


@pytest.mark.parametrize("mode", ["fp32", "quantized"])
def test_a_longer_plan_begins_with_the_shorter(mode: str) -> None:
    short, long = (plan_pairs(SPACE, count, seed=3, mode=mode) for count in (20, 50))
    assert [pair.id for pair in long[:20]] == [pair.id for pair in short]
    assert len({pair.id for pair in long}) == 50
    assert plan_pairs(SPACE, 1, seed=4, mode=mode)[0].id != short[0].id


def test_rows_are_canonical_and_named_by_their_candidate() -> None:
    for pair in plan_pairs(SPACE, 30, seed=0, mode="quantized"):
        assert np.array_equal(SPACE.canonical(pair.row[None])[0], pair.row)
        assert SPACE.candidate(pair.row).id == pair.id


def test_both_modes_measure_the_same_architectures() -> None:
    fp32, quantized = (
        {pair.index: pair.row for pair in plan_pairs(SPACE, 40, seed=0, mode=mode)} for mode in ("fp32", "quantized")
    )
    shared = sorted(fp32.keys() & quantized.keys())
    assert len(shared) > 30  # a draw that happens to quantize nothing is no quantized pair
    in_fp32 = SPACE.with_precision(np.array([quantized[index] for index in shared]), "fp32")
    assert np.array_equal(in_fp32, [fp32[index] for index in shared])
    assert all(set(SPACE.candidate(row).precisions) == {"fp32"} for row in fp32.values())
    assert all(set(SPACE.candidate(row).precisions) != {"fp32"} for row in quantized.values())


def test_quantized_pairs_are_all_int8_mixed_and_in_islands() -> None:
    shares, switches = [], []
    for pair in plan_pairs(SPACE, 240, seed=0, mode="quantized"):
        int8 = np.array([precision == "int8" for precision in SPACE.candidate(pair.row).precisions])
        shares.append(int8.mean())
        switches.append(np.abs(np.diff(int8.astype(int))).sum())
    shares, switches = np.array(shares), np.array(switches)
    assert 0.3 < (shares == 1).mean() < 0.5
    assert (shares < 0.3).any() and ((shares > 0.3) & (shares < 0.7)).mean() > 0.15
    mixed = (shares > 0.3) & (shares < 0.7)
    assert (switches[mixed] <= 4).any() and (switches[mixed] >= 7).any()


def test_the_smallest_and_the_largest_networks_are_covered() -> None:
    planned = np.array([pair.row for pair in plan_pairs(SPACE, 600, seed=0, mode="fp32")])
    uniform = SPACE.sample(600, np.random.default_rng(0))

    def size(rows: np.ndarray) -> np.ndarray:
        return SPACE.part_codes(rows)[:, 1:-1].sum(1) / SPACE.part_codes(SPACE.largest()[None])[:, 1:-1].sum()

    assert size(planned).min() < 0.5 * size(uniform).min()
    assert size(planned).max() > 0.9 > size(uniform).max()


def test_more_pairs_than_networks_are_refused() -> None:
    assert TINY.size == 8
    with pytest.raises(UsageError, match=r"\(quantized\): there are only 7; ask for fewer, or give the space more"):
        plan_pairs(TINY, 8, seed=0, mode="quantized")
    assert len(plan_pairs(TINY, 1, seed=0, mode="fp32")) == 1


def test_modes_that_do_not_fit_are_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mode 'int8'; allowed: fp32, quantized"):
        plan_pairs(SPACE, 1, seed=0, mode="int8")
    with pytest.raises(UsageError, match="mode quantized in fashion-mbv3 with fp32; allowed: fp32 and, to"):
        plan_pairs(get_space("fashion-mbv3", ["fp32"]), 1, seed=0, mode="quantized")


def test_what_was_written_is_read_in_the_order_of_the_plan(path: Path) -> None:
    write_pairs(path, 4, "quantized")
    for mode, count in (("fp32", 6), ("quantized", 4)):
        pairs = read_pairs(path, SPACE, mode)
        assert np.array_equal(pairs.genes, [pair.row for pair in plan_pairs(SPACE, count, seed=0, mode=mode)])
        assert np.allclose(pairs.accuracy, 0.9 + np.arange(count) / 1000)
        assert (pairs.images, pairs.data, pairs.supernet, len(pairs)) == (50, "cccc", "aaaa", count)


def test_lines_in_another_order_are_the_same_pairs(path: Path) -> None:
    header, *lines = path.read_text().splitlines()
    before = read_pairs(path, SPACE, "fp32")
    path.write_text("\n".join([header, *reversed(lines), ""]))
    assert np.array_equal(read_pairs(path, SPACE, "fp32").genes, before.genes)


@pytest.mark.parametrize("kept", [1, 30, 120])
def test_a_line_that_a_kill_cut_short_is_dropped(path: Path, kept: int) -> None:
    lines = path.read_text().splitlines(keepends=True)
    path.write_text("".join(lines[:-1]) + lines[-1][:kept])
    open_pairs(path)
    assert path.read_text() == "".join(lines[:-1])
    write_pairs(path, 6, start=5)
    assert path.read_text() == "".join(lines)


def test_a_header_that_a_kill_cut_short_is_written_anew(path: Path, tmp_path: Path) -> None:
    other = tmp_path / "other.csv"
    other.write_text("schema_ver")
    open_pairs(other)
    assert other.read_text() == path.read_text().splitlines(keepends=True)[0]


def test_a_fifth_is_held_out_the_same_architectures_in_each_mode(path: Path) -> None:
    write_pairs(path, 20, "quantized")
    for mode, count in (("fp32", 1), ("quantized", 4)):
        fitted, held = read_pairs(path, SPACE, mode).split()
        assert (len(held), len(fitted)) == (count, 5 if mode == "fp32" else 16)
        assert (held.index % 5 == 4).all() and (fitted.index % 5 != 4).all()


def test_ids_in_a_file_are_those_of_its_candidates(path: Path) -> None:
    assert measured_ids(path, SPACE, supernet="aaaa", data="cccc") == {
        pair.id for pair in plan_pairs(SPACE, 6, seed=0, mode="fp32")
    }


def test_pairs_of_another_supernet_are_refused(path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"pairs\.csv: pairs of supernet aaaa, not bbbb; name another file"):
        measured_ids(path, SPACE, supernet="bbbb", data="cccc")


def test_pairs_on_other_images_are_refused(path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"pairs\.csv: pairs of images cccc, not dddd; name another file"):
        measured_ids(path, SPACE, supernet="aaaa", data="dddd")


def test_pairs_of_another_space_are_refused(path: Path) -> None:
    with pytest.raises(FileFormatError, match=r"line 2 has space \w+; allowed: \w+"):
        read_pairs(path, TINY, "fp32")
    with pytest.raises(UsageError, match="pairs of fashion-mbv3 with fp32; allowed: the preset's own fp32, int8"):
        read_pairs(path, get_space("fashion-mbv3", ["fp32"]), "fp32")


def test_a_mode_without_pairs_is_refused(path: Path) -> None:
    with pytest.raises(FileFormatError, match="no pairs of mode 'quantized'; collect some first"):
        read_pairs(path, SPACE, "quantized")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("\n1,", "\n2,", "line 2 has schema_version 2; allowed: 1"),
        ("0.901000", "1.901000", r"pair \w+ does not fit \(accuracy 1.901 on 50 images\)"),
        ("0.901000", "nan", r"pair \w+ does not fit \(accuracy nan"),
        ("0.901000", "high", r"pair \w+ does not fit \(could not convert"),
        (",50,cccc\n", ",0,cccc\n", r"pair \w+ does not fit \(accuracy .* on 0 images"),
        (",50,cccc", ",60,cccc", "several kinds: 50 images cccc, supernet aaaa; 60 images cccc, .*; allowed: one"),
        (",50,cccc", ",50,dddd", "several kinds: 50 images cccc, supernet aaaa; 50 images dddd, .*; allowed: one"),
        (",aaaa,", ",bbbb,", "several kinds: 50 images cccc, supernet aaaa; 50 images cccc, supernet bbbb"),
        ("images,data", "images", "columns .*allowed: "),
    ],
)
def test_a_damaged_file_is_refused(path: Path, old: str, new: str, message: str) -> None:
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new, 1))
    with pytest.raises(FileFormatError, match=message):
        read_pairs(path, SPACE, "fp32")


@pytest.mark.parametrize(
    ("genes", "message"),
    [("123", "3 genes; allowed: 71"), ("z" * 71, "gene 0 .*is 35; allowed: 0 to 2"), ("?" * 71, "substring not found")],
)
def test_wrong_genes_are_refused(path: Path, genes: str, message: str) -> None:
    lines = path.read_text().splitlines()
    fields = lines[1].split(",")
    fields[7] = genes
    path.write_text("\n".join([lines[0], ",".join(fields), *lines[2:], ""]))
    with pytest.raises(FileFormatError, match=message):
        read_pairs(path, SPACE, "fp32")


def test_a_place_that_cannot_be_written_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"file/pairs\.csv: cannot be written"):
        open_pairs(tmp_path / "file" / "pairs.csv")


@pytest.mark.parametrize("mode", ["fp32", "quantized"])
def test_the_shipped_pairs_are_of_the_shipped_supernet_and_images(mode: str) -> None:
    pairs = read_pairs(supernet_folder("fashion-mbv3") / "pairs.csv", SPACE, mode)
    assert pairs.supernet == supernet_fingerprint(get_supernet("fashion-mbv3"))
    assert pairs.data == images_fingerprint(load_splits(size=28, channels=1)) and pairs.images == 5000
    assert len(pairs) == {"fp32": 1500, "quantized": 400}[mode]
