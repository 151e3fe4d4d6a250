"""The experiment on orders: each job is run once, however often it is started, and ends in the tables."""

import importlib.util
from functools import partial
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest
from small_classifier import small_classifier, steep_device

from nas.compression import activation_ranges
from nas.compression.exported import correct_prepared
from nas.compression.trials import Trials


@pytest.fixture
def run(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """Return the script as a module, with one small network and a simulated device."""
    folder = repository / "experiments" / "hessian_ptq"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("hessian_ptq_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    small = small_classifier()
    images, labels = small.images.numpy(), small.labels.numpy()
    count = partial(correct_prepared, chunks=[small.images], labels=small.labels)
    on = steep_device()
    trials = Trials(small.graph, activation_ranges(small.graph.model, images), on, images, labels, count, (True,) * 6)
    network = SimpleNamespace(trials=trials, count=count, test=count)
    monkeypatch.setattr(module, "open_network", lambda name, device, out: network)
    monkeypatch.setattr(module, "get_device", lambda name: on)
    monkeypatch.setattr(module, "HERE", tmp_path)
    (tmp_path / "README.md").write_text(
        "# Title\n<!-- figures: begin. Made by run.py. -->\nold\n<!-- figures: end -->\nend\n"
    )
    return module


def test_jobs_are_run_once_and_are_all_in_the_tables(run: ModuleType, tmp_path: Path) -> None:
    methods = ["fp32", "uniform int8", "augmented fisher", "random", "clado", "greedy fisher"]
    arguments = ["--out", str(tmp_path / "out"), "--networks", "small", "--drops", "0.1", "--seeds", "2", "--write"]
    run.main([*arguments, "--methods", ",".join(methods[:3])])
    first = (tmp_path / "out" / "results.csv").read_text().splitlines()
    run.main([*arguments, "--methods", ",".join(methods)])
    lines = (tmp_path / "out" / "results.csv").read_text().splitlines()
    assert lines[: len(first)] == first and len(lines) == 1 + 7  # only orders by chance have a second seed
    files = {path.stem for path in (tmp_path / "out" / "models").iterdir()}
    timed = (tmp_path / "out" / "latencies.csv").read_text().splitlines()[1:]
    assert {line.split(",")[2] for line in timed} == files
    text = (tmp_path / "README.md").read_text()
    assert text.startswith("# Title") and text.endswith("end\n") and "old" not in text
    rows = [line for line in text.splitlines() if line.startswith("| ")][1:]
    assert [row.split(" | ")[0].removeprefix("| ") for row in rows] == [
        name if name != "random" else "random, 2 seeds" for name in methods
    ]
    assert all(" 1 of 1 " in row or " 2 of 2 " in row for row in rows if "uniform" not in row)
