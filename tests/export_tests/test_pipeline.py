"""The whole job on a simulated device: what lies in the folder afterwards, and what an error or interrupt leaves."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_job import Tiny, invented_scorer, make_images, make_tiny, tiny_job

from latency_tables.simulated import SimulatedDevice
from nas.cli.main import main
from nas.compression import Engine, correct_images, parity, quantized_convs
from nas.errors import DataError, FileFormatError, InfeasibleError, OutputError, UsageError, VerificationError
from nas.export import Outcome, Progress, load_bundle, run_search
from nas.export.evaluation import evaluate_bundle
from nas.export.finalists import in_one_precision
from nas.export.result import read_result
from nas.search import TRAINING
from search_spaces import Candidate, get_space
from supernets import Subnet
from supernets.datasets import load_splits


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def folder(tiny: Tiny, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("results") / "out"


@pytest.fixture(scope="module")
def outcome(tiny: Tiny, folder: Path) -> Outcome:
    return run_search(tiny_job(tiny, folder), scorer=invented_scorer(tiny.space))


def test_the_result_tells_everything_by_its_stable_names(outcome: Outcome, folder: Path) -> None:
    result = read_result(folder)
    assert result["schema_version"] == 1 and result["space"] == "tiny" and result["strategy"] == "evolution"
    assert set(result["device"]) == {"name", "runtime", "fingerprint", "simulated"}
    assert set(result["seconds"]) == {"calibrate", "search", "verify"}
    assert result["evaluated"] == outcome.evaluated > 0
    for network in result["front"]:
        assert set(network["predicted"]) == {"accuracy", "latency_ms"}
        measured = network["measured"]
        assert 0 <= measured["accuracy"] <= 1 and 0 <= measured["test_accuracy"] <= 1
        assert measured["ci_low_ms"] <= measured["latency_ms"] <= measured["ci_high_ms"]
    assert result["chosen"] in {network["id"] for network in result["front"]}


def test_baselines_are_the_largest_and_smallest_in_each_precision(outcome: Outcome, folder: Path) -> None:
    names = [baseline["name"] for baseline in read_result(folder)["baselines"]]
    assert names == ["largest fp32", "largest int8", "smallest fp32", "smallest int8"]


def test_the_front_is_of_measured_values_and_nothing_measured_dominates_it(outcome: Outcome) -> None:
    everything = [(one.latency.latency_ms, one.accuracy) for one in outcome.verified]
    for one in outcome.front:
        mine = (one.latency.latency_ms, one.accuracy)
        assert not any(ms <= mine[0] and top >= mine[1] and (ms, top) != mine for ms, top in everything)


def test_a_mixed_finalist_is_verified_beside_its_twins(outcome: Outcome) -> None:
    mixing = outcome.mixing[0]
    assert len(set(mixing.mixed.entry.candidate.precisions)) == 2
    assert set(mixing.twins) == {"fp32", "int8"}
    for precision, twin in mixing.twins.items():
        assert twin.entry.candidate == in_one_precision(mixing.mixed.entry.candidate, precision)


def test_int8_units_run_as_integer_kernels_in_what_ships(outcome: Outcome) -> None:
    for one in outcome.verified:
        stem, *blocks, head = (precision == "int8" for precision in one.entry.candidate.precisions)
        assert quantized_convs(one.built.model) == stem + 3 * sum(blocks) + head
        convs = stem + 3 * sum(blocks) + head
        assert one.built.checks["kernels"] == {"Conv": convs, "Gemm": head, "MatMul": 0}


def test_every_network_on_the_front_ships_as_a_bundle_that_does_what_the_report_says(
    outcome: Outcome, folder: Path, tiny: Tiny
) -> None:
    splits = load_splits(tiny.images, size=16, channels=1)
    for network in read_result(folder)["front"]:
        bundle = load_bundle(folder / network["bundle"])
        assert bundle.candidate.id == network["id"] and bundle.report["measured"] == network["measured"]
        session = SimulatedDevice().session(bundle.onnx_model)
        found = correct_images(session, splits.test, bundle.candidate.resolution, bundle.images).mean()
        assert found == network["measured"]["test_accuracy"]


def test_a_bundle_for_a_device_that_is_no_name_here_says_what_to_give(
    outcome: Outcome, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle = folder / read_result(folder)["front"][0]["bundle"]
    assert main(["evaluate", str(bundle)]) == 2
    assert "is for device 'simulated', which is no name here; give its profile, or another" in capsys.readouterr().err


def test_the_picture_is_a_png(outcome: Outcome, folder: Path) -> None:
    assert (folder / "pareto.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_bundle_is_evaluated_again_beside_its_report(outcome: Outcome, folder: Path, tiny: Tiny) -> None:
    bundle = load_bundle(folder / read_result(folder)["front"][0]["bundle"])
    found = evaluate_bundle(bundle, SimulatedDevice(), data=tiny.images)
    assert found["same_device"] and found["now"]["accuracy"] == found["reported"]["accuracy"]
    assert found["now"]["latency_ms"] == pytest.approx(found["reported"]["latency_ms"], rel=0.05)


def test_the_same_seed_finds_the_same_networks(outcome: Outcome, tiny: Tiny, tmp_path: Path) -> None:
    again = run_search(tiny_job(tiny, tmp_path / "out"), scorer=invented_scorer(tiny.space))
    assert [one.entry for one in again.verified] == [one.entry for one in outcome.verified]
    assert [one.accuracy for one in again.verified] == [one.accuracy for one in outcome.verified]


def test_test_images_choose_nothing(outcome: Outcome) -> None:
    rng = np.random.default_rng(0)
    shuffled = tuple(
        replace(one, test_correct=rng.random(one.test_correct.shape) < rng.random()) for one in outcome.verified
    )
    other = replace(outcome, verified=shuffled)
    assert [one.entry for one in other.front] == [one.entry for one in outcome.front]
    assert other.chosen is not None and outcome.chosen is not None and other.chosen.entry == outcome.chosen.entry


def test_under_a_budget_the_chosen_one_measured_within_it(tiny: Tiny, tmp_path: Path, outcome: Outcome) -> None:
    limit = float(np.median([one.latency.latency_ms for one in outcome.verified]))
    scorer = invented_scorer(tiny.space)
    found = run_search(tiny_job(tiny, tmp_path / "out", limit_ms=limit), scorer=scorer)
    assert found.chosen is not None and found.chosen.latency.latency_ms <= limit
    assert all(one.accuracy <= found.chosen.accuracy for one in found.front if one.latency.latency_ms <= limit)


def test_an_infeasible_budget_says_what_is_reachable_and_writes_nothing(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match=r"latency_ms ≤ 1e-05; reachable: latency_ms 0\.\d+ to 0\.\d+"):
        run_search(tiny_job(tiny, tmp_path / "out", limit_ms=1e-5), scorer=invented_scorer(tiny.space))
    assert list(tmp_path.iterdir()) == []


def test_a_folder_with_something_in_it_is_refused_before_any_work(tiny: Tiny, tmp_path: Path) -> None:
    (tmp_path / "mine.txt").touch()
    with pytest.raises(UsageError, match=r"exists and is not an empty folder; name another with --out"):
        run_search(tiny_job(tiny, tmp_path))


def test_an_interrupt_while_verifying_leaves_no_folder(tiny: Tiny, tmp_path: Path) -> None:
    def interrupt(stage: str, done: int, total: int) -> None:
        if stage == "test":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_search(tiny_job(tiny, tmp_path / "out"), Progress(interrupt), invented_scorer(tiny.space))
    assert list(tmp_path.iterdir()) == []


def test_images_of_other_classes_are_one_clear_line(tiny: Tiny, tmp_path: Path) -> None:
    other = make_images(tmp_path / "birds", ("tit", "wren"))
    with pytest.raises(DataError, match=r"2 classes \(tit, wren\); the network was trained on images with 3 classes"):
        run_search(tiny_job(tiny, tmp_path / "out", data=other), scorer=invented_scorer(tiny.space))


def test_the_shipped_images_do_not_fit_a_supernet_of_ones_own(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"shipped data set fashion-mnist has 10 classes .*name its images with --data"):
        run_search(tiny_job(tiny, tmp_path / "out", data=None), scorer=invented_scorer(tiny.space))


def test_a_device_of_one_precision_gets_networks_of_that_one(tiny: Tiny, tmp_path: Path) -> None:
    space = get_space(tiny.preset, ("fp32",))
    job = replace(tiny_job(tiny, tmp_path / "out"), device=SimulatedDevice(precisions=("fp32",)))
    found = run_search(job, scorer=invented_scorer(space))
    assert {name for one in found.verified for name in one.entry.candidate.precisions} == {"fp32"}
    assert found.mixing == ()


def gate_that_stops(monkeypatch: pytest.MonkeyPatch, stops: Callable[[Candidate], bool]) -> None:
    def gate(network: Subnet, *arguments: Any, engine: Engine) -> object:
        if stops(network.candidate):
            raise VerificationError("gate A: made up")
        return parity(network, *arguments, engine=engine)

    monkeypatch.setattr("nas.export.finalists.parity", gate)


def test_a_model_that_fails_its_gates_is_left_out_and_listed(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Outcome
) -> None:
    bad = outcome.verified[0].entry.candidate
    gate_that_stops(monkeypatch, lambda candidate: candidate == bad)
    notes: list[str] = []
    found = run_search(tiny_job(tiny, tmp_path / "out"), Progress(note=notes.append), invented_scorer(tiny.space))
    assert f"network {bad.id} is left out: gate A: made up" in notes
    result = read_result(tmp_path / "out")
    assert {one["id"]: one["reason"] for one in result["failed"]} == {bad.id: "gate A: made up"}
    assert bad.id not in {one["id"] for one in (*result["front"], *result["dominated"], *result["baselines"])}
    assert len(found.verified) + len(found.failed) == len(outcome.verified) and result["chosen"]


def test_where_no_finalist_passes_its_gates_the_job_fails(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate_that_stops(monkeypatch, lambda candidate: True)
    with pytest.raises(VerificationError, match=r"no finalist passes its checks; network [0-9a-f]{12}: gate A"):
        run_search(tiny_job(tiny, tmp_path / "out"), scorer=invented_scorer(tiny.space))
    assert list(tmp_path.iterdir()) == []


def test_the_output_folder_is_tried_before_any_work(tiny: Tiny, tmp_path: Path) -> None:
    def work(stage: str, done: int, total: int) -> None:
        raise AssertionError(stage)

    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="file/out cannot be written"):
        run_search(tiny_job(tiny, tmp_path / "file" / "out"), Progress(work), invented_scorer(tiny.space))


def test_results_go_into_the_folder_where_one_stands(
    tiny: Tiny, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    run_search(tiny_job(tiny, Path(), finalists=1), scorer=invented_scorer(tiny.space))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["bundles", "pareto.png", "result.json"]


@pytest.mark.parametrize("value", [0, -1.0, "slow", True, [1.0]])
def test_a_bundle_whose_baseline_cannot_be_is_refused(outcome: Outcome, folder: Path, value: object) -> None:
    bundle = load_bundle(folder / read_result(folder)["front"][0]["bundle"])
    report = {**bundle.report, "latency": {"baseline_ms": value}}
    with pytest.raises(FileFormatError, match=r"report.json: baseline_ms .*; allowed: null, or milliseconds above 0"):
        evaluate_bundle(replace(bundle, report=report), SimulatedDevice())


def test_a_report_without_its_figures_is_refused(outcome: Outcome, folder: Path) -> None:
    bundle = load_bundle(folder / read_result(folder)["front"][0]["bundle"])
    with pytest.raises(FileFormatError, match=r"report.json: it has no measured 'accuracy'"):
        evaluate_bundle(replace(bundle, report={**bundle.report, "latency": {}, "measured": {}}), SimulatedDevice())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"limit_ms": -1.0}, "latency budget -1.0 ms; allowed: a number above 0"),
        ({"limit_ms": float("inf")}, "latency budget inf ms; allowed: a number above 0"),
        ({"finalists": 0}, "0 finalists; allowed: 1 to 64"),
    ],
)
def test_a_job_that_cannot_be_is_refused(tiny: Tiny, tmp_path: Path, changes: dict[str, object], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        tiny_job(tiny, tmp_path / "out", **changes)


def test_a_state_inside_the_output_folder_is_refused(tiny: Tiny, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"storage .*state\.npz is in the output folder .*out; put it elsewhere"):
        tiny_job(tiny, tmp_path / "out", storage=tmp_path / "out" / "deep" / "state.npz")


def test_the_result_is_plain_json(outcome: Outcome, folder: Path) -> None:
    assert json.loads((folder / "result.json").read_text())["schema"] == "search-result"


@pytest.mark.parametrize(("strategy", "from_scratch"), [*((name, False) for name in TRAINING), ("proxyless", True)])
def test_a_strategy_that_trains_is_given_images_and_weights(
    strategy: str, from_scratch: bool, tiny: Tiny, tmp_path: Path
) -> None:
    job = tiny_job(tiny, tmp_path / "out", strategy=strategy, from_scratch=from_scratch, budget=20, finalists=1)
    assert run_search(job, scorer=invented_scorer(tiny.space)).evaluated == 20


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"from_scratch": True}, "from scratch with strategy 'evolution'; allowed: proxyless, "),
        (
            {"untrained": True, "data": None, "strategy": "proxyless"},
            "'proxyless' trains, without weights and images; ",
        ),
    ],
)
def test_training_without_what_it_takes_is_refused(
    changes: dict[str, Any], message: str, tiny: Tiny, tmp_path: Path
) -> None:
    with pytest.raises(UsageError, match=message):
        tiny_job(tiny, tmp_path / "out", **changes)


def test_a_family_that_a_strategy_cannot_train_is_refused_before_the_device_is_calibrated(tmp_path: Path) -> None:
    tiny = make_tiny(tmp_path, "bottleneck")
    with pytest.raises(UsageError, match="strategy 'proxyless' on 'tiny', whose family is 'bottleneck'; allowed: mb"):
        run_search(tiny_job(tiny, tmp_path / "out", strategy="proxyless"))
