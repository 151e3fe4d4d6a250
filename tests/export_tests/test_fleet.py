"""Several devices in one run: a result each, and the one subnet that is best for the worst of them."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tiny_job import Invented, Tiny, make_tiny, tiny_job

from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.design import spread_networks
from latency_tables.simulated import CostModel, SimulatedDevice
from nas.errors import InfeasibleError, UsageError
from nas.export import FleetJob, Scorer, SharedOutcome, load_bundle, run_fleet, run_one_for_all, run_search
from nas.export.finalists import Verified
from nas.export.result import read_result
from nas.export.shared import read_shared
from predictors import LatencyPredictor
from search_spaces import SearchSpace, get_space

DEAR = CostModel(mac_int8_ns=0.5, quantize_element_ns=3.0)  # where int8 costs more than it saves
Scorers = dict[str, Scorer]


def devices(**options: Any) -> tuple[SimulatedDevice, SimulatedDevice]:
    """Return a device that int8 pays on and one that it does not pay on."""
    return SimulatedDevice("pays"), SimulatedDevice("costs", costs=DEAR, **options)


def fitted(space: SearchSpace) -> Scorers:
    """Return predictors of the two devices, fitted to what they simulate."""
    genes = spread_networks(space, 60, np.random.default_rng(0))
    models = [timing_model(space, row, Images(1, 3)) for row in genes]
    accuracy = Invented(space, 0.5, 0.04, -0.01)  # type: ignore[arg-type]
    found = {}
    for device in devices():
        ms = np.array([device.true_ms(model) for model in models])
        latency = LatencyPredictor(space, channels=1, classes=3).fit(genes, ms)
        found[device.name] = Scorer(accuracy, latency, {"source": "fitted"})
    return found


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    return make_tiny(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="module")
def scorers(tiny: Tiny) -> Scorers:
    return fitted(tiny.space)


def fleet_job(tiny: Tiny, out: Path, limits_ms: Mapping[str, float] | None = None, **changes: Any) -> FleetJob:
    return FleetJob(tiny_job(tiny, out, budget=2000, finalists=2), devices(), limits_ms or {}, **changes)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("shared") / "out"


@pytest.fixture(scope="module")
def shared(tiny: Tiny, folder: Path, scorers: Scorers) -> SharedOutcome:
    return run_one_for_all(fleet_job(tiny, folder), scorers=scorers)


def test_no_network_of_equal_accuracy_has_a_smaller_predicted_ratio(
    shared: SharedOutcome, tiny: Tiny, scorers: Scorers
) -> None:
    space, accuracy = tiny.space, scorers["pays"].accuracy
    pool = np.concatenate([space.sample(20_000, np.random.default_rng(0)), space.largest()[None]])
    pool = pool[accuracy.predict(pool).mean >= shared.accuracy]
    found = np.stack([space.genes(one) for one in shared.finalists])
    assert accuracy.predict(found).mean.min() >= shared.accuracy
    ratios = []
    for name, scorer in scorers.items():
        [own] = [one for one in shared.verified[name].distinct if one.entry.candidate.id == shared.own_best[name]]
        assert own.entry.latency_ms <= scorer.latency.predict(pool).mean.min() * (1 + 1e-6)
        ratios.append([scorer.latency.predict(rows).mean / own.entry.latency_ms for rows in (found, pool)])
    ours, others = (np.max([pair[part] for pair in ratios], axis=0).min() for part in (0, 1))
    assert 1 < ours <= others * (1 + 1e-6)


def of_accuracy(shared: SharedOutcome, accuracies: Mapping[str, float], own: float) -> SharedOutcome:
    """Return the outcome with measured accuracies of the finalists, by id, and of each device's own best."""

    def known(name: str, one: Verified) -> Verified:
        key = one.entry.candidate.id
        accuracy = accuracies.get(key, own if key == shared.own_best[name] else one.accuracy)
        return replace(one, correct=np.arange(1000) < round(1000 * accuracy))

    outcomes = {
        name: replace(outcome, verified=tuple(known(name, one) for one in outcome.verified))
        for name, outcome in shared.verified.items()
    }
    return replace(shared, verified=outcomes)


def test_the_chosen_one_has_the_least_measured_ratio_of_those_as_accurate(shared: SharedOutcome) -> None:
    ids = [one.candidate.id for one in shared.networks if one.candidate.id not in shared.own_best.values()]
    assert ids == [one.candidate.id for one in shared.networks] and len(ids) == 2  # else this shows nothing
    for accuracies, index in (((0.7, 0.9), 0), ((0.691, 0.9), 0), ((0.68, 0.9), 1), ((0.5, 0.6), 1), ((0.6, 0.5), 0)):
        found = of_accuracy(shared, dict(zip(ids, accuracies, strict=True)), own=0.7)
        assert found.chosen is not None and found.chosen.candidate.id == ids[index]
        assert found.lacks(found.chosen) == pytest.approx(0.7 - accuracies[index])


def test_ratios_are_of_measured_latency_and_every_device_has_the_chosen_one(shared: SharedOutcome) -> None:
    assert shared.chosen is not None
    for one in shared.networks:
        assert one.ratio == max(on.latency.latency_ms / shared.reference_ms[name] for name, on in one.on.items())
    chosen = {outcome.chosen and outcome.chosen.entry.candidate.id for outcome in shared.outcomes.values()}
    assert chosen == {shared.chosen.candidate.id}


def test_the_folder_has_a_result_of_each_device_and_one_of_all(shared: SharedOutcome, folder: Path) -> None:
    content = read_shared(folder)
    assert content["precisions"] == ["fp32", "int8"] and content["equal_accuracy"] == shared.accuracy
    [best] = [one for one in content["networks"] if one["id"] == content["chosen"]]
    assert set(content["devices"]) == set(best["devices"]) == {"pays", "costs"}
    for name, device in content["devices"].items():
        result, on = read_result(folder / name), best["devices"][name]
        assert result["chosen"] == content["chosen"] and result["device"]["name"] == name
        assert device["own_best"] in {one["id"] for one in result["front"] + result["dominated"]}
        bundle = load_bundle(folder / on["bundle"])
        assert bundle.candidate.id == best["id"] and bundle.report["device"]["name"] == name
        assert on["ratio"] == on["latency_ms"] / device["reference_ms"] <= best["ratio"]


def test_with_budgets_the_most_accurate_within_all_of_them_is_chosen(
    shared: SharedOutcome, tiny: Tiny, scorers: Scorers, tmp_path: Path
) -> None:
    middle = {
        name: float(np.median([one.latency.latency_ms for one in outcome.distinct]))
        for name, outcome in shared.verified.items()
    }
    found = run_one_for_all(fleet_job(tiny, tmp_path / "out", middle, confident=True), scorers=scorers)
    assert found.chosen is not None and found.accuracy is None and found.reference_ms == middle
    within = [one for one in found.networks if all(one.on[k].latency.latency_ms <= ms for k, ms in middle.items())]
    assert found.chosen in within and found.chosen.accuracy == max(one.accuracy for one in within)
    genes = np.stack([tiny.space.genes(one) for one in found.finalists])
    for name, ms in middle.items():
        assert scorers[name].latency.predict(genes).high.max() <= ms
        assert read_result(tmp_path / "out" / name)["limits"] == {"latency": ms}


def test_where_nothing_measures_within_all_budgets_nothing_is_chosen(shared: SharedOutcome) -> None:
    impossible = FleetJob(shared.fleet.job, shared.fleet.devices, {"pays": 1e-9, "costs": 1e-9})
    other = replace(shared, fleet=impossible)
    assert other.chosen is None and all(outcome.chosen is None for outcome in other.outcomes.values())


def test_it_is_of_the_precisions_that_all_devices_execute(tiny: Tiny, tmp_path: Path) -> None:
    space = get_space(tiny.preset, ("fp32",))
    fleet = FleetJob(tiny_job(tiny, tmp_path / "out", finalists=1), devices(precisions=("fp32",)))
    found = run_one_for_all(fleet, scorers=fitted(space))
    assert found.precisions == ("fp32",)
    assert {name for one in found.finalists for name in one.precisions} == {"fp32"}


def test_a_latency_of_one_of_them_may_be_an_objective(tiny: Tiny, tmp_path: Path, scorers: Scorers) -> None:
    objectives = ("accuracy", "latency@costs", "size")
    fleet = fleet_job(tiny, tmp_path / "out", objectives=objectives)
    problem = fleet.goal.problem(tiny.space)
    assert problem.objectives == {"accuracy": "max", "latency_ms@costs": "min", "size_mb": "min"}
    assert run_one_for_all(fleet, scorers=scorers).chosen is not None


def test_a_budget_that_a_device_cannot_meet_names_it_and_nothing_is_written(
    tiny: Tiny, tmp_path: Path, scorers: Scorers
) -> None:
    fleet = fleet_job(tiny, tmp_path / "out", {"pays": 1.0, "costs": 1e-6})
    with pytest.raises(InfeasibleError, match=r"device 'costs': none of \d+ candidates .* latency_ms ≤ 1e-06"):
        run_one_for_all(fleet, scorers=scorers)
    assert list(tmp_path.iterdir()) == []


def test_each_device_gets_the_result_that_it_would_get_alone(tiny: Tiny, tmp_path: Path, scorers: Scorers) -> None:
    fleet = fleet_job(tiny, tmp_path / "fleet", {"pays": 0.05, "costs": 0.2})
    found = run_fleet(fleet, scorers=scorers)
    assert sorted(path.name for path in (tmp_path / "fleet").iterdir()) == ["costs", "pays"]
    for name, device in zip(("pays", "costs"), devices(), strict=True):
        job = replace(fleet.job, device=device, out=tmp_path / name, limit_ms=fleet.limits_ms[name])
        alone = run_search(job, scorer=scorers[name])
        assert [one.entry for one in alone.verified] == [one.entry for one in found[name].verified]
        assert read_result(tmp_path / "fleet" / name)["latency_limit_ms"] == fleet.limits_ms[name]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"devices": ()}, r"devices none; allowed: two or more, each of a name of its own"),
        ({"devices": devices()[:1]}, r"devices pays; allowed: two or more"),
        ({"devices": (devices()[0],) * 2}, r"devices pays, pays; allowed: two or more, each of a name of its own"),
        ({"limits_ms": {"pays": 1.0}}, r"latency budgets of pays; allowed: one of each of pays, costs, or none"),
        ({"limits_ms": {"pays": 1.0, "costs": 0.0}}, r"latency@costs budget 0\.0 ms; allowed: a number above 0"),
        ({"storage": "state"}, r"a storage for 2 devices; allowed: none; search each device by itself"),
        ({"limit_ms": 1.0}, r"one latency budget for 2 devices; allowed: none"),
        ({"objectives": ("latency@cpu",)}, r"unknown objective 'latency@cpu'; there is: .*latency@costs"),
        ({"confident": True}, r"confident without a latency budget"),
    ],
)
def test_what_is_no_fleet_is_refused(tiny: Tiny, tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    own = {name: value for name, value in changes.items() if name in ("storage", "limit_ms")}
    rest = {name: value for name, value in changes.items() if name not in own}
    with pytest.raises(UsageError, match=message):
        FleetJob(**{"job": tiny_job(tiny, tmp_path / "out", **own), "devices": devices(), **rest})
