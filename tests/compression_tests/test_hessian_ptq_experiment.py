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
from nas.errors import UsageError


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


def test_the_latency_model_is_kept_and_each_job_begins_without_losses(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ["--out", str(tmp_path / "out"), "--networks", "small", "--drops", "0.1", "--seeds", "1"]
    known: list[int] = []
    solve = run.solve

    def watched(network: SimpleNamespace, *rest: object) -> object:
        known.append(len(network.trials._losses))
        return solve(network, *rest)

    monkeypatch.setattr(run, "solve", watched)
    run.main([*arguments, "--methods", "plain loss,augmented loss"])
    assert known == [0, 0]
    monkeypatch.setattr(run, "fit_latency", None)
    run.main([*arguments, "--methods", "plain loss,clado"])
    path = next((tmp_path / "out").glob("latency-small-*.json"))
    path.write_text(path.read_text().replace("stem.0", "other"))
    with pytest.raises(UsageError, match=r"json is of another network; move it away or give another --out"):
        run.main([*arguments, "--methods", "fp32"])


def test_an_error_of_a_peer_is_kept_word_for_word_and_ends_nothing(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[object] = []

    def fails(*given: object) -> None:
        asked.append(given)
        raise RuntimeError('no kernel, "none"\nat all')

    monkeypatch.setattr(run, "by_nncf", fails)
    arguments = ["--out", str(tmp_path / "out"), "--networks", "small", "--drops", "0.1", "--seeds", "1", "--write"]
    for _ in range(2):
        run.main([*arguments, "--methods", "nncf,fp32"])
    assert len(asked) == 1
    text = (tmp_path / "README.md").read_text()
    assert "| nncf | failed: RuntimeError: no kernel, 'none' at all |" in text and "| fp32 |" in text
    with pytest.raises(TypeError):  # of our own methods none is swallowed
        monkeypatch.setattr(run, "find_order", None)
        run.main([*arguments, "--methods", "plain loss"])


def test_int8_throughout_is_modelopts_first_question(run: ModuleType) -> None:
    asked: list[float] = []

    def choose(bits: float) -> tuple[bool, ...]:
        asked.append(bits)
        return tuple(place < 16 - bits for place in range(8))

    fewest_bits = run.by_modelopt.__globals__["fewest_bits"]
    assert fewest_bits(choose, lambda mask: True) == (True,) * 8 and asked == [8.0]
    found = fewest_bits(choose, lambda mask: sum(mask) <= 3)
    assert found is not None and sum(found) == 3 and fewest_bits(choose, lambda mask: False) is None


def test_the_interval_of_several_seeds_is_the_widest(run: ModuleType) -> None:
    tables = run.write_report.__globals__["tables"]
    row = dict.fromkeys(run.COLUMNS, "1") | {"drop": "0.1", "change": "0.01", "low": "-0.02", "high": "0.03"}
    other = row | {"change": "0.02", "low": "-0.01", "high": "0.05"}
    lines = list(tables([row, other], [], []))
    assert any("+1.50 (-2.00 to +5.00)" in line for line in lines)
