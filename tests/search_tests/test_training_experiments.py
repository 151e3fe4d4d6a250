"""The experiments on strategies that train: fair opponents, small jobs that end in tables, and nothing made twice."""

import importlib.util
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from search_spaces import get_space
from supernets.datasets import ImageSet, Splits, load_splits


@contextmanager
def script(repository: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    spec = importlib.util.spec_from_file_location(
        f"{name}_experiment", repository / f"experiments/search/{name}/run.py"
    )
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(__import__("sys").modules, spec.name, module)  # where dataclasses look for it
    spec.loader.exec_module(module)
    yield module


def few_images() -> Splits:
    """Return the shipped images, a hundred of each part, and calibration images to train on."""
    splits = load_splits(None, size=28, channels=1)

    def few(part: ImageSet) -> ImageSet:
        return ImageSet(part.images[:100], part.labels[:100], part.classes)

    calibration = few(splits.calibration)
    parts = (calibration, few(splits.validation), calibration, few(splits.test))
    return Splits(*parts, splits.name, splits.mean, splits.std)


def test_uniform_networks_are_all_alike_and_width_alone_changes_nothing_else(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = get_space("fashion-mbv3", precisions=("fp32",))
    with script(repository, "slimming", monkeypatch) as run:
        alike, narrow = (list(run.uniform(space, width_alone=alone)) for alone in (False, True))
    assert len(alike) == 3**5 and len(narrow) == 3**2
    for one in (*alike, *narrow):
        space.check(one)
        assert len(set(one.active_blocks())) == 1
        assert len({sum(block is not None for block in stage) for stage in one.blocks}) == 1
    assert {(len(one.active_blocks()), one.resolution, one.active_blocks()[0].kernel) for one in narrow} == {
        (16, 28, 7)
    }


def test_a_slimmed_network_is_within_its_limit(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with script(repository, "slimming", monkeypatch) as run:
        setting = run.Setting(tmp_path, None, 5, few_images())
        found = run.slimmed(setting, 12.0, 0)
        other = run.scaled(setting, 12.0, width_alone=False)
        rows = setting.score(np.stack([setting.space.genes(one) for one in (found, other)]))
    assert (rows["latency_ms"] <= 12.0).all() and rows["latency_ms"][0] > 8.0
    assert rows["accuracy"][0] > rows["accuracy"][1] - 0.01


def test_a_random_network_costs_as_much_as_the_one_found(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = get_space("fashion-mbv3", precisions=("fp32",))
    with script(repository, "proxyless", monkeypatch) as run:
        setting = run.Setting(tmp_path, space, few_images(), None, 0.2, 1, False, 0.02, 16, "cpu")
        found = space.candidate(space.sample(1, np.random.default_rng(5))[0])
        others = [run.random_like(setting, found, seed) for seed in range(3)]
        costs = setting.costs(np.stack([space.genes(one) for one in (found, *others)]))["latency_ms"]
    np.testing.assert_allclose(costs[1:], costs[0], rtol=0.021)
    assert len({one.id for one in others}) == 3


@pytest.mark.slow
def test_the_experiment_on_proxyless_ends_in_a_table_and_makes_nothing_twice(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with script(repository, "proxyless", monkeypatch) as run:
        monkeypatch.setattr(run, "load_splits", lambda *arguments, **options: few_images())
        options = [str(tmp_path), "--seeds", "1", "--steps", "1", "--epochs-scale", "0.02", "--batch-size", "16"]
        run.main(options)
        first = capsys.readouterr().out
        monkeypatch.setattr(run, "train", None)
        run.main(options)
    table = first[first.index("| found by") :]
    assert table == capsys.readouterr().out and "| reinforce |" in table
