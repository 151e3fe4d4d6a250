"""The experiment on entropy: cells that are chains score as chains do, and each network is trained alone once."""

import importlib.util
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from shared_data import shared_data

from predictors.entropy import WEIGHTS
from search_spaces import get_space


@pytest.fixture
def folder(repository: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    found = repository / "experiments" / "search" / "entropy"
    monkeypatch.syspath_prepend(found)
    return found


@pytest.fixture
def run(folder: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location("entropy_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    monkeypatch.setattr(module, "HERE", tmp_path)
    monkeypatch.setattr(module, "RESAMPLES", 20)
    monkeypatch.setattr(module, "FEWEST", 4)
    return module


def test_a_cell_that_is_one_convolution_scores_as_that_layer_in_every_cell(folder: Path) -> None:
    from cells import cell_entropy

    layers = np.cumsum([5 * 0.5 * np.log(9 * channels) for channels in (16, 32, 64)])
    assert cell_entropy(["000300"])[0] == pytest.approx(np.dot(WEIGHTS, layers))
    chain, beside, cut = cell_entropy(["303003", "303303", "300000"])
    assert beside > chain > cut


def test_ranks_are_compared_with_ties_at_their_mean(run: ModuleType) -> None:
    assert run.spearman(np.array([1.0, 2.0, 3.0]), np.array([5.0, 6.0, 7.0])) == pytest.approx(1)
    assert run.spearman(np.array([1.0, 1.0, 2.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(0.75**0.5)


@pytest.mark.slow
def test_it_ends_in_both_tables_and_trains_no_network_twice(
    run: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    from alone import read_trained

    data = shared_data("cifar10").parent
    for name in ("nasbench201", "naslib_zc", "ofa"):
        shared_data(name)
    small = ["--epochs", "1", "--images", "128"]
    (tmp_path / "README.md").write_text(f"begin\n{run.BEGIN}\n{run.END}\nend\n")
    for count in (2, 3):
        run.main([str(data), "--train", str(count), *small, "--write"])
        printed = capsys.readouterr().out
        assert ("network 0: " in printed) == (count == 2) and f"network {count - 1}: " in printed
    genes, accuracy = read_trained(tmp_path / "trained.csv", get_space("cifar10-tinynas", ("fp32",)))
    assert len(genes) == len(accuracy) == 3
    readme = (tmp_path / "README.md").read_text()
    assert "| entropy | 0.8" in readme and "| once-for-all, ImageNet | 1,202 | 0.96" in readme
    assert "trained alone" not in readme  # three are too few
    assert readme.startswith("begin\n") and readme.endswith("\nend\n")
