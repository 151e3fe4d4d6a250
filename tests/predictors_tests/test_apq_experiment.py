"""The experiment on APQ's claims: what is judged, what each stage may vary, and that all get the same budget."""

from pathlib import Path

import numpy as np
import pytest
from invented_accuracy import invented_accuracy, planned_rows
from tiny_space import tiny_space

from experiments.apq.run import COLUMNS, joint, joint_lines, read_results, transfer_lines
from experiments.apq.stages import SPLITS, kinds_of, search_split
from experiments.apq.transfer import METHODS, Judged, judge_transfer, pairs_needed, pairwise
from nas.files import write_csv
from nas.search.fronts import hypervolume
from predictors.pairs import Pairs
from search_spaces import Genes, get_space

SPACE = get_space("fashion-mbv3")


def pairs(mode: str, count: int) -> Pairs:
    space = tiny_space()
    rows = planned_rows(space, count, seed=0, mode=mode)
    return Pairs(rows, invented_accuracy(space, rows), np.arange(count), 1000, "", "")


def test_pairwise_accuracy_counts_couples_that_are_ordered_right() -> None:
    measured = np.array([0.1, 0.2, 0.2, 0.4])
    assert pairwise(measured, measured) == 1
    assert pairwise(-measured, measured) == 0
    assert pairwise(np.array([1.0, 2.0, 9.0, 3.0]), measured) == pytest.approx(4 / 5)  # the equal couple is left out


def test_every_method_is_judged_at_every_size_on_networks_that_it_has_not_seen() -> None:
    results = list(judge_transfer(tiny_space(), pairs("fp32", 120), pairs("quantized", 100), (60, 80, 999), [0]))
    assert [(one.method, one.pairs) for one in results] == [(m, size) for size in (60, 80) for m in METHODS]
    assert all(0.5 < one.pairwise <= 1 and -1 <= one.kendall <= 1 and one.mean_error < 0.05 for one in results)
    assert max(one.pairs for one in results) <= 80  # of 100, every fifth is held out
    assert len({one.pairwise for one in results if one.method == "fp32"}) == 1  # no quantized pair has a part in it
    done = {one.key for one in results[1:]}
    again = judge_transfer(tiny_space(), pairs("fp32", 120), pairs("quantized", 100), (60, 80, 999), [0], done)
    assert list(again) == results[:1]
    other = judge_transfer(tiny_space(), pairs("fp32", 110), pairs("quantized", 100), (60,), [0], done)
    assert [one.method for one in other] == list(METHODS)  # of other pairs nothing is known


def test_what_transfer_saves_is_read_off_the_means(tmp_path: Path) -> None:
    results = [
        Judged(method, seed, size, value + 0.01 * seed, value, 0.0, "d")
        for method, values in (
            ("transfer", (0.8, 0.9)),
            ("scratch", (0.5, 0.8)),
            ("both", (0.7, 0.7)),
            ("fp32", (0.7, 0.7)),
        )
        for size, value in zip((60, 120), values, strict=True)
        for seed in (0, 1)
    ]
    assert pairs_needed(results, "transfer", "pairwise") == 60
    assert pairs_needed(results, "both", "kendall") is None
    text = "\n".join(transfer_lines(results))
    assert "80.5 ± 0.5" in text and "as good as 120 pairs from scratch with 60 (50 %)" in text
    write_csv(tmp_path / "transfer.csv", COLUMNS, [[getattr(one, name) for name in COLUMNS] for one in results])
    assert read_results(tmp_path / "transfer.csv") == results


def losses(genes: Genes) -> np.ndarray:
    """Return losses of which every gene has a part, some of them together with others."""
    scale = np.random.default_rng(0).random(SPACE.num_genes)
    size = (genes * scale).sum(1)
    return np.stack([1 / (1 + size), np.log(1 + size + genes[:, 7] * genes[:, 10])], axis=1)


@pytest.mark.parametrize("split", SPLITS)
def test_stages_vary_what_they_may_and_spend_what_they_are_given(split: str) -> None:
    asked: list[Genes] = []

    def evaluate(genes: Genes) -> np.ndarray:
        asked.append(genes)
        return losses(genes)

    front = search_split(SPACE, split, evaluate, 900, 0)
    rows = np.concatenate(asked)
    assert len(rows) == front.evaluated == 900 and len(np.unique(rows, axis=0)) == 900
    begun = rows[: 900 // len(SPLITS[split])]
    kinds = kinds_of(SPACE)
    if "precision" not in SPLITS[split][0]:
        assert not begun[:, kinds["precision"]].any()  # fp32 is the first choice
    if "pruning" not in SPLITS[split][0]:
        full = SPACE.canonical(np.where(kinds["pruning"], SPACE.largest(), begun))
        np.testing.assert_array_equal(begun, full)
    widths = np.array([name.endswith(".expand") for name in SPACE.gene_names])  # with keeps, several ways to one width
    fixed = ~np.any([kinds[kind] for kind in SPLITS[split][-1]], axis=0) & ~widths
    earlier = rows[: len(rows) - len(asked[-1])]
    assert (earlier[:, fixed] == rows[-1, fixed]).all(1).any()
    np.testing.assert_array_equal(SPACE.canonical(front.genes), front.genes)
    assert hypervolume(front.losses, np.array([1.0, 9.0])) > 0


def test_the_joint_experiment_writes_its_figures(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    result = joint(tmp_path, SPACE, losses, {"name": "none"}, 300, [0, 1])
    assert (tmp_path / "joint.json").exists()
    text = (tmp_path / "joint.md").read_text()
    assert text.count("\n| ") == len(SPLITS) and "of 2 seeds" in text
    assert joint_lines(result) == text.splitlines()
    again = joint(tmp_path / "again", SPACE, losses, {"name": "none"}, 300, [0, 1])
    assert again == result
