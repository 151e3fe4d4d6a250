"""Pairs are true accuracies of calibrated subnets on validation images, and a run that is killed goes on."""

import subprocess
import sys
import textwrap
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from small_presets import make_preset

import supernets.evaluation
from nas.errors import FileFormatError, OutputError, UsageError
from predictors.collect import collect, images_fingerprint, supernet_fingerprint
from predictors.measures import GraphAccuracy, TorchAccuracy
from predictors.resized import ResizedImages
from predictors.spread import Spread
from search_spaces import MBConvSpace
from search_spaces.mbconv_preset import MBConvStage
from supernets import ImageInfo, Supernet, calibrated_subnet, evaluate_accuracy, make_supernet, prepare
from supernets.datasets import ImageSet, Splits

SPACE = MBConvSpace(make_preset(stages=(MBConvStage(16, 2, (1, 2)), MBConvStage(16, 1, (1, 2)))))
CLASSES = ("dark", "grey", "bright")


def supernet_of(seed: int = 0) -> Supernet:
    return make_supernet(SPACE, ImageInfo("invented", CLASSES, (0.5,), (0.25,)), seed).eval()


def make_images(count: int, seed: int) -> ImageSet:
    """Return noisy images whose brightness tells the class."""
    generator = torch.Generator().manual_seed(seed)
    labels = torch.arange(count) % 3
    noise = torch.randn(count, 1, 16, 16, generator=generator) * 30
    return ImageSet((60.0 + 60 * labels[:, None, None, None] + noise).clamp(0, 255).to(torch.uint8), labels, CLASSES)


@pytest.fixture(scope="module")
def splits() -> Splits:
    validation, calibration, test = (make_images(count, seed) for seed, count in enumerate((90, 64, 0)))
    return Splits(None, validation, calibration, test, "invented", (0.5,), (0.25,))


@pytest.fixture(scope="module")
def supernet() -> Supernet:
    return supernet_of()


def test_an_fp32_pair_is_the_accuracy_of_the_calibrated_subnet(supernet, splits, tmp_path: Path) -> None:
    pairs = collect(supernet, splits, tmp_path / "pairs.csv", count=6)
    assert (len(pairs), pairs.images, pairs.supernet) == (6, 90, supernet_fingerprint(supernet))
    assert pairs.data == images_fingerprint(splits)
    for row, accuracy in zip(pairs.genes, pairs.accuracy, strict=True):
        candidate = SPACE.candidate(row)
        subnet = calibrated_subnet(supernet, candidate, splits.calibration)
        images = prepare(splits.validation.images, candidate.resolution, supernet.info)
        assert accuracy == pytest.approx(evaluate_accuracy(subnet, images, splits.validation.labels), abs=0.012)


def test_torch_and_the_graph_count_the_same_accuracy(supernet, splits, tmp_path: Path) -> None:
    by_torch = TorchAccuracy(supernet, splits.calibration, splits.validation, torch.device("cpu"))
    parts = {"calibration": splits.calibration, "validation": splits.validation}
    resized = (ResizedImages(part, supernet.info, tmp_path, name, frozenset({12})) for name, part in parts.items())
    by_graph = GraphAccuracy(supernet, *resized)
    for row in SPACE.with_precision(SPACE.sample(4, np.random.default_rng(0)), "fp32"):
        candidate = SPACE.candidate(row)
        assert by_torch(candidate) == pytest.approx(by_graph(candidate), abs=0.012)  # one image of 90 may tip over


def test_an_accelerator_never_holds_more_than_a_batch_of_prepared_images(supernet, splits, monkeypatch) -> None:
    monkeypatch.setattr("predictors.measures.TORCH_PIXELS", 10 * 16**2)
    measure = TorchAccuracy(supernet, splits.calibration, splits.validation, torch.device("cpu"))
    sizes, prepared = [], supernets.evaluation.preprocess
    record = lambda images, *rest: sizes.append(len(images)) or prepared(images, *rest)  # noqa: E731
    monkeypatch.setattr("supernets.evaluation.preprocess", record)
    measure(replace(SPACE.candidate(SPACE.largest()), resolution=16))
    assert sizes == [64] + [10] * 9  # calibration, then validation


@pytest.mark.gpu
@pytest.mark.parametrize("jobs", [1, 2])
def test_fp32_pairs_on_a_gpu_are_those_of_the_cpu(supernet, splits, tmp_path: Path, jobs: int) -> None:
    cpu = collect(supernet, splits, tmp_path / "cpu.csv", count=6)
    gpu = collect(supernet, splits, tmp_path / "gpu.csv", count=6, device="cuda", spread=Spread(jobs))
    assert np.allclose(cpu.accuracy, gpu.accuracy, atol=0.025)


def test_quantized_pairs_are_near_their_fp32_twins(supernet, splits, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    quantized = collect(supernet, splits, path, count=8, mode="quantized")
    fp32 = collect(supernet, splits, path, count=8)
    assert len(quantized) == len(fp32) == 8
    assert (SPACE.with_precision(quantized.genes, "fp32") != quantized.genes).any(1).all()
    shared = [(a, b) for a in range(8) for b in range(8) if quantized.index[a] == fp32.index[b]]
    difference = [quantized.accuracy[a] - fp32.accuracy[b] for a, b in shared]
    assert np.abs(difference).mean() < 0.1


def test_test_images_are_never_used(supernet, splits, tmp_path: Path) -> None:
    assert len(splits.test) == 0
    collect(supernet, splits, tmp_path / "pairs.csv", count=1)


def test_more_pairs_continue_the_file(supernet, splits, tmp_path: Path) -> None:
    whole, parts = tmp_path / "whole.csv", tmp_path / "parts.csv"
    collect(supernet, splits, whole, count=5)
    collect(supernet, splits, parts, count=2)
    seen = []
    collect(supernet, splits, parts, count=5, progress=lambda done, total: seen.append((done, total)))
    assert parts.read_text() == whole.read_text()
    assert seen == [(2, 5), (3, 5), (4, 5), (5, 5)]
    collect(supernet, splits, parts, count=3)
    assert parts.read_text() == whole.read_text()


def test_seeds_add_other_networks_to_one_file(supernet, splits, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    collect(supernet, splits, path, count=3, seed=0)
    both = collect(supernet, splits, path, count=3, seed=1)
    assert 3 < len(both) <= 6
    assert len(np.unique(both.genes, axis=0)) == len(both)


@pytest.mark.parametrize("backend", ["loky", "threading"])
@pytest.mark.parametrize("jobs", [2, 3])
def test_workers_write_the_same_file(supernet, splits, tmp_path: Path, backend: str, jobs: int) -> None:
    one, many = tmp_path / "one.csv", tmp_path / "many.csv"
    collect(supernet, splits, one, count=5)
    seen = []
    progress = lambda done, total: seen.append(done)  # noqa: E731
    collect(supernet, splits, many, count=5, spread=Spread(jobs, backend), progress=progress)
    assert one.read_text() == many.read_text() and seen == [0, 1, 2, 3, 4, 5]
    assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == []  # what they shared is gone


def collecting(path: Path, jobs: int, backend: str = "loky") -> "subprocess.Popen[bytes]":
    """Start a process that collects for ever, and return it when it has measured a few pairs."""
    script = f"""
        import sys
        sys.path.insert(0, {str(Path(__file__).parent)!r})
        sys.path.insert(0, {str(Path(__file__).parent.parent)!r})
        from pathlib import Path
        from test_collect import Splits, Spread, collect, make_images, supernet_of
        parts = [make_images(count, seed) for seed, count in enumerate((90, 64, 0))]
        splits = Splits(None, *parts, "invented", (0.5,), (0.25,))
        collect(supernet_of(), splits, Path({str(path)!r}), count=400, spread=Spread({jobs}, {backend!r}))
    """
    process = subprocess.Popen([sys.executable, "-c", textwrap.dedent(script)])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (path.exists() and path.read_text().count("\n") > 3):
        time.sleep(0.05)
    return process


def test_a_killed_run_goes_on(supernet, splits, tmp_path: Path) -> None:
    path, whole = tmp_path / "pairs.csv", tmp_path / "whole.csv"
    process = collecting(path, jobs=1)
    with pytest.raises(OutputError, match=rf"pairs\.csv is being written by process {process.pid}; wait for it to end"):
        collect(supernet, splits, path, count=400)
    process.kill()
    process.wait()
    measured = path.read_text().count("\n") - 1
    assert 3 <= measured < 400
    collect(supernet, splits, path, count=measured + 2)
    collect(supernet, splits, whole, count=measured + 2)
    assert path.read_text() == whole.read_text()


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["loky", "ray", "dask"])
def test_a_killed_run_leaves_no_worker_behind(tmp_path: Path, backend: str) -> None:
    if backend != "loky":
        pytest.importorskip(backend, reason=f"pip install 'hwnas[{backend}]'")
    process = collecting(tmp_path / "pairs.csv", jobs=2, backend=backend)
    workers = [worker for worker in descendants(process.pid) if "Agent" not in command(worker)]  # of Ray, not ours
    assert len(workers) >= 2
    process.kill()
    process.wait()
    deadline = time.monotonic() + 40
    while time.monotonic() < deadline and any(map(alive, workers)):
        time.sleep(0.1)
    assert not any(map(alive, workers))


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["ray", "dask"])
def test_clusters_write_the_same_file(supernet, splits, tmp_path: Path, backend: str) -> None:
    pytest.importorskip(backend, reason=f"pip install 'hwnas[{backend}]'")
    one, many = tmp_path / "one.csv", tmp_path / "many.csv"
    collect(supernet, splits, one, count=5)
    collect(supernet, splits, many, count=5, spread=Spread(2, backend))
    assert one.read_text() == many.read_text()


def command(process: int) -> str:
    """Return what a process was started as."""
    return Path(f"/proc/{process}/cmdline").read_text()


def descendants(process: int) -> list[int]:
    """Return the processes that one has started, and theirs."""
    threads = Path(f"/proc/{process}/task").glob("*/children")
    children = [int(child) for thread in threads for child in thread.read_text().split()]
    return [found for child in children for found in (child, *descendants(child))]


def alive(process: int) -> bool:
    """Return whether a process runs; one that ended and waits to be reaped does not."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_the_supernet_stays_as_it_was(supernet, splits, tmp_path: Path) -> None:
    before = supernet_fingerprint(supernet)
    collect(supernet, splits, tmp_path / "pairs.csv", count=2)
    assert supernet_fingerprint(supernet) == before != supernet_fingerprint(supernet_of(seed=1))


def test_pairs_of_another_supernet_are_refused(supernet, splits, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    collect(supernet, splits, path, count=1)
    with pytest.raises(FileFormatError, match=r"pairs of supernet \w+, not \w+; name another file"):
        collect(supernet_of(seed=1), splits, path, count=2)


def test_pairs_on_other_images_are_refused(supernet, splits, tmp_path: Path) -> None:
    path = tmp_path / "pairs.csv"
    collect(supernet, splits, path, count=1)
    for part in ("validation", "calibration"):
        other = replace(splits, **{part: make_images(len(getattr(splits, part)), 7)})
        with pytest.raises(FileFormatError, match=r"pairs of images \w+, not \w+; name another file"):
            collect(supernet, other, path, count=2)


def test_only_processes_share_an_accelerator(supernet, splits, tmp_path: Path) -> None:
    allowed = r"loky \(processes\), or 1 job in this process"
    for spread in (Spread(2, "threading"), Spread(2, "dask"), Spread(1, "ray", "ray://host:1")):
        with pytest.raises(UsageError, match=f"backend {spread.backend} on cuda; allowed: {allowed}"):
            collect(supernet, splits, tmp_path / "pairs.csv", count=1, spread=spread, device="cuda")


def test_an_unknown_mode_is_refused(supernet, splits, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="mode 'int8'; allowed: fp32, quantized"):
        collect(supernet, splits, tmp_path / "pairs.csv", count=1, mode="int8")
