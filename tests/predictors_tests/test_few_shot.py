"""Latency on a new device from a few networks: the right candidate is taken, and what is said of it holds."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nas.errors import UsageError
from predictors.few_shot import FEWEST, MOST_EXPONENT, Known, few_shot

Floats = NDArray[np.float64]
FEW, OTHERS = slice(0, 20), slice(20, 400)


def world(seed: int = 0) -> tuple[Known, Floats]:
    """Return what is known of 400 networks, and the amounts ``(n, 3)`` behind it."""
    rng = np.random.default_rng(seed)
    amounts = np.column_stack([np.ones(400), rng.uniform(1, 9, (400, 2))])
    fast, slow = amounts @ [0.5, 1.0, 0.1], amounts @ [1.0, 0.2, 2.0]
    noise = np.exp(0.01 * rng.standard_normal((2, 400)))
    sources = {"fast": fast * noise[0], "slow": slow * noise[1]}
    right = {"network": amounts[:, 0], "one": amounts[:, 1], "two": amounts[:, 2]}
    wrong = {"network": amounts[:, 0], "other": rng.uniform(1, 9, 400)}
    return Known(sources, {"right": right, "wrong": wrong}), amounts


def noisy(ms: Floats, seed: int = 1) -> Floats:
    noised: Floats = ms * np.exp(0.01 * np.random.default_rng(seed).standard_normal(len(ms)))
    return noised


def every(known: Known, part: slice) -> Known:
    return known.rows(np.arange(400)[part])


@pytest.mark.parametrize("sort", ["proxy slow", "sources", "fresh right"])
def test_it_takes_the_candidate_that_is_right(sort: str) -> None:
    known, amounts = world()
    truth = {
        "proxy slow": 0.1 * known.sources["slow"] ** 1.4,
        "sources": 0.7 * known.sources["fast"] + 0.4 * known.sources["slow"] + 1,
        "fresh right": amounts @ [9.0, 0.01, 3.0],
    }[sort]
    ms = noisy(truth)
    if sort == "sources":
        known = Known(known.sources, {"wrong": known.amounts["wrong"]})
    if sort == "fresh right":
        known = Known({"fast": known.sources["fast"]}, known.amounts)
    found = few_shot(every(known, FEW), ms[FEW])
    assert found.chosen.name == sort == next(iter(found.errors)).replace("proxy", "proxy slow")
    assert list(found.errors.values()) == sorted(found.errors.values())
    prediction = found.predict(every(known, OTHERS))
    assert np.abs(prediction.mean / ms[OTHERS] - 1).mean() < 0.02
    covered = (prediction.low <= ms[OTHERS]) & (ms[OTHERS] <= prediction.high)
    assert 0.75 <= covered.mean() <= 1


def test_a_wild_measurement_changes_little() -> None:
    known, _ = world()
    truth = 0.1 * known.sources["slow"] ** 1.4
    ms = noisy(truth)
    ms[3] *= 5
    found = few_shot(every(known, FEW), ms[FEW])
    assert np.abs(found.predict(every(known, OTHERS)).mean / truth[OTHERS] - 1).mean() < 0.05


def test_what_is_said_of_a_network_left_out_does_not_depend_on_it() -> None:
    known, _ = world()
    ms = noisy(0.1 * known.sources["slow"] ** 1.4)
    first = few_shot(every(known, FEW), ms[FEW])
    ms[4] *= 1.05
    second = few_shot(every(known, FEW), ms[FEW])
    assert first.chosen.name == second.chosen.name
    assert first.left_out[4] == second.left_out[4] and first.left_out[14] == second.left_out[14]  # of one fold
    assert first.left_out[5] != second.left_out[5]


def test_the_interval_is_not_of_the_errors_that_chose() -> None:
    """Of many candidates that know nothing, one looks good by chance: the choice is left out with the networks."""
    rng = np.random.default_rng(4)
    ms = np.exp(0.3 * rng.standard_normal(FEWEST))
    nothing = {f"g{number}": {"network": np.ones(FEWEST), "x": rng.uniform(0, 9, FEWEST)} for number in range(60)}
    found = few_shot(Known({}, nothing), ms)
    assert np.abs(np.log(ms / found.left_out)).mean() > 1.1 * next(iter(found.errors.values()))


def test_no_proxy_is_raised_to_more_than_can_be_told() -> None:
    known = Known({"flat": np.exp(1e-3 * np.arange(20.0))}, {})
    ms = np.exp(0.1 * np.arange(20.0))
    assert few_shot(known, ms).chosen.exponent <= MOST_EXPONENT


def test_without_other_devices_a_table_of_its_own_is_left() -> None:
    known, amounts = world()
    found = few_shot(every(Known({}, known.amounts), FEW), noisy(amounts @ [9.0, 1.0, 3.0])[FEW])
    assert found.chosen.name == "fresh right" and set(found.errors) == {"fresh right", "fresh wrong"}


def test_a_device_that_runs_the_other_way_is_no_proxy_but_predicts() -> None:
    known, _ = world()
    ms = 100 / known.sources["slow"]
    found = few_shot(every(Known(known.sources, {}), FEW), ms[FEW])
    assert (found.predict(every(known, OTHERS)).mean > 0).all() and found.chosen.exponent > 0


@pytest.mark.parametrize("wrong", [np.ones(FEWEST - 1), np.full(20, np.nan), np.zeros(20)])
def test_latencies_that_cannot_be_are_refused(wrong: Floats) -> None:
    known, _ = world()
    with pytest.raises(UsageError, match=f"{len(wrong)} latencies; allowed: {FEWEST} or more"):
        few_shot(known.rows(np.arange(len(wrong))), wrong)


def test_knowing_nothing_is_refused() -> None:
    with pytest.raises(UsageError, match="nothing is known of the networks"):
        few_shot(Known({}, {}), np.ones(20))
