"""The protocol on machines whose behaviour is known: clocks here are scripted, nothing waits."""

import gc
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pytest

from latency_tables import FULL, Measurement
from latency_tables.protocol import measure_interleaved

Speed = Callable[[float], float]  # moment in seconds -> how many times slower than usual


@dataclass
class Machine:
    """A clock that models move forward, at a speed that the test decides."""

    speed: Speed = lambda now: 1.0
    now: float = 0.0
    log: list[str] = field(default_factory=list)


@dataclass
class Model:
    machine: Machine
    name: str
    milliseconds: float
    noise: Callable[[], float] = lambda: 1.0
    inferences: int = 0

    def run(self, count: int) -> float:
        self.inferences += count
        self.machine.log.append(self.name)
        took = count * self.milliseconds / 1e3 * self.machine.speed(self.machine.now) * self.noise()
        self.machine.now += took
        return took


def measure(machine: Machine, models: dict[str, Model], plan=FULL, **options: object) -> dict[str, Measurement]:
    reference = Model(machine, "reference", 0.2)
    rng = np.random.default_rng(0)
    return measure_interleaved(models, reference, plan=plan, rng=rng, clock=lambda: machine.now, **options)


def test_a_steady_machine_gives_the_latency_itself() -> None:
    machine = Machine()
    found = measure(machine, {"a": Model(machine, "a", 0.5), "b": Model(machine, "b", 3.0)})
    assert list(found) == ["a", "b"]
    for name, truth in (("a", 0.5), ("b", 3.0)):
        assert found[name].latency_ms == pytest.approx(truth)
        assert found[name].ci_low_ms == pytest.approx(truth) == found[name].ci_high_ms
        assert (found[name].quality, found[name].rounds) == ("ok", FULL.min_rounds)
    assert found["a"].reference_ms == pytest.approx(0.2)


def test_a_machine_that_slows_down_for_all_is_corrected_and_the_raw_value_kept() -> None:
    machine = Machine(speed=lambda now: 1.0 + 0.01 * now)
    found = measure(machine, {name: Model(machine, name, 1.0) for name in "abcd"})
    spread = [found[name].latency_ms for name in "abcd"]
    assert max(spread) / min(spread) < 1.005
    assert all(found[name].quality == "ok" and found[name].raw_ms > 1.02 for name in "abcd")


def test_values_with_the_reference_far_off_are_dropped() -> None:
    machine = Machine(speed=lambda now: 1.6 if 6 < now < 7 else 1.0)
    found = measure(machine, {name: Model(machine, name, 1.0) for name in "abcdefgh"})
    assert min(found[name].values for name in found) < FULL.min_rounds * FULL.values
    assert all(found[name].latency_ms == pytest.approx(1.0, rel=0.01) for name in found)


def test_a_machine_that_is_never_quiet_gives_a_noisy_measurement_rather_than_none() -> None:
    rng = np.random.default_rng(1)
    machine = Machine()
    jitter = lambda: float(rng.choice([1.0, 2.0]))  # noqa: E731
    reference = Model(machine, "reference", 0.2, jitter)
    models = {"a": Model(machine, "a", 1.0, jitter)}
    plan = replace(FULL, slice_quantile=0.5, max_rounds=10)
    found = measure_interleaved(models, reference, plan=plan, rng=np.random.default_rng(0), clock=lambda: machine.now)
    assert found["a"].quality == "noisy"


def test_a_model_that_does_not_settle_is_measured_to_the_limit_and_marked_noisy() -> None:
    machine, rng = Machine(), np.random.default_rng(3)
    models = {"steady": Model(machine, "steady", 1.0), "wild": Model(machine, "wild", 1.0, lambda: rng.uniform(1, 3))}
    found = measure(machine, models, replace(FULL, slice_quantile=0.5, value_seconds=0.002))
    assert (found["steady"].quality, found["steady"].rounds) == ("ok", FULL.min_rounds)
    assert (found["wild"].quality, found["wild"].rounds) == ("noisy", FULL.max_rounds)
    assert found["wild"].half_width > FULL.half_width


def test_a_model_that_drifts_alone_is_noisy() -> None:
    machine = Machine()
    models = {"warming": Model(machine, "warming", 1.0, lambda: 1.0 + 0.05 * (machine.now > 2.3))}
    assert measure(machine, models, replace(FULL, max_rounds=9, half_width=0.5))["warming"].quality == "noisy"


def test_bursts_of_others_are_passed_over_but_show_in_the_plain_mean() -> None:
    machine, rng = Machine(), np.random.default_rng(0)
    models = {"a": Model(machine, "a", 1.0, lambda: 4.0 if rng.random() < 0.3 else 1.0)}
    found = measure(machine, models)["a"]
    assert found.latency_ms == pytest.approx(1.0, rel=0.001) and found.quality == "ok"
    assert found.mean_ms > 1.5


def test_a_stall_while_warming_up_does_not_shorten_the_values() -> None:
    machine, rng = Machine(), np.random.default_rng(0)
    models = {
        "a": Model(machine, "a", 1.0, lambda: 40.0 if machine.log.count("a") == 1 else rng.choice([1.0, 1.0, 4.0]))
    }
    found = measure(machine, models, replace(FULL, warm_seconds=0.03))["a"]
    assert found.latency_ms == pytest.approx(1.0, rel=0.001)
    assert models["a"].inferences > FULL.min_rounds * FULL.values * FULL.value_seconds / 0.001


def test_every_round_times_every_model_once_in_an_order_of_its_own() -> None:
    machine = Machine()
    names = list("abcdef")
    plan = replace(
        FULL, values=1, value_seconds=0.001, slices=1, min_rounds=6, max_rounds=6, warm_seconds=0.0, warm_runs=1
    )
    measure(machine, {name: Model(machine, name, 1.0) for name in names}, plan)
    timed = [name for name in machine.log if name != "reference"][4 * len(names) :]  # after the warm-up
    rounds = [timed[at : at + 2 * len(names) : 2] for at in range(0, len(timed), 2 * len(names))]
    assert len(rounds) == 6 and all(sorted(one) == names for one in rounds)
    assert len({tuple(one) for one in rounds}) > 1


def test_the_reference_is_timed_before_between_and_after() -> None:
    machine = Machine()
    plan = replace(FULL, min_rounds=1, max_rounds=1, segment=2)
    measure(machine, {name: Model(machine, name, 1.0) for name in "abcd"}, plan)
    runs = [name for at, name in enumerate(machine.log) if at == 0 or machine.log[at - 1] != name]
    after_warming = runs[runs.index("reference", 1) :]
    assert after_warming[0] == after_warming[3] == after_warming[-1] == "reference"


def test_latencies_can_be_brought_to_an_earlier_speed_of_the_machine() -> None:
    machine = Machine(speed=lambda now: 1.5)
    found = measure(machine, {"a": Model(machine, "a", 1.0)}, baseline_ms=0.2)["a"]
    assert found.latency_ms == pytest.approx(1.0)
    assert found.raw_ms == pytest.approx(1.5) and found.reference_ms == pytest.approx(0.3)
    assert found.drift == pytest.approx(1.5)


@pytest.mark.parametrize(("slower", "quality"), [(1.1, "ok"), (0.9, "ok"), (1.2, "noisy"), (0.8, "noisy")])
def test_a_machine_far_from_its_earlier_speed_is_noisy_and_not_measured_longer(slower: float, quality: str) -> None:
    machine = Machine(speed=lambda now: slower)
    found = measure(machine, {"a": Model(machine, "a", 1.0)}, baseline_ms=0.2)["a"]
    assert (found.quality, found.rounds, found.drift) == (quality, FULL.min_rounds, pytest.approx(slower))


def test_without_an_earlier_speed_there_is_no_drift_from_it() -> None:
    machine = Machine(speed=lambda now: 1.5)
    assert measure(machine, {"a": Model(machine, "a", 1.0)})["a"].drift == 1.0


def test_models_that_end_in_different_rounds_are_corrected_to_one_yardstick() -> None:
    """Equal models, one unsteady for nine rounds; then the machine becomes 10 % faster."""
    timings = 0
    machine = Machine(speed=lambda now: 1.0 if timings < 18 else 0.9)
    wild = lambda: 1.0 + (0.04 * (-1) ** (timings // 2) if timings < 18 else 0.0)  # noqa: E731
    models = {"early": Model(machine, "early", 1.0), "late": Model(machine, "late", 1.0, wild)}

    def count(done: int, expected: int) -> None:
        nonlocal timings
        timings = done

    found = measure(machine, models, replace(FULL, drift_limit=0.1), progress=count)
    assert found["early"].rounds == FULL.min_rounds < found["late"].rounds
    assert [found[name].quality for name in models] == ["ok", "ok"]
    assert found["early"].latency_ms == pytest.approx(found["late"].latency_ms, rel=0.001)
    assert found["early"].reference_ms == found["late"].reference_ms


def test_no_round_begins_that_would_end_after_the_time_given() -> None:
    machine = Machine()
    found = measure(machine, {"a": Model(machine, "a", 1.0)}, replace(FULL, seconds=2.4))["a"]
    assert 1 <= found.rounds < FULL.min_rounds and found.quality == "noisy"
    assert machine.now < 2.4


@pytest.mark.parametrize(("rounds", "quality"), [(1, "noisy"), (2, "noisy"), (3, "ok")])
def test_so_few_rounds_that_they_have_no_interval_are_noisy(rounds: int, quality: str) -> None:
    machine = Machine()
    found = measure(machine, {"a": Model(machine, "a", 1.0)}, replace(FULL, min_rounds=1, max_rounds=rounds))["a"]
    assert (found.rounds, found.quality) == (rounds if rounds < 3 else 3, quality)


def test_rounds_that_were_dropped_are_made_up_for() -> None:
    machine = Machine(speed=lambda now: 1.6 if 6 < now < 7 else 1.0)
    models = {name: Model(machine, name, 1.0) for name in "abcdefgh"}
    assert all(one.rounds >= FULL.min_rounds and one.quality == "ok" for one in measure(machine, models).values())
    found = measure(Machine(speed=machine.speed), models, replace(FULL, max_rounds=FULL.min_rounds))
    assert all((one.quality == "ok") == (one.rounds == FULL.min_rounds) for one in found.values())


@pytest.mark.parametrize(("milliseconds", "count"), [(0.05, 40), (1.0, 2), (2.5, 1), (30.0, 1)])
def test_a_value_has_equally_many_slices_however_long_an_inference_is(milliseconds: float, count: int) -> None:
    machine, asked = Machine(), []

    class Sliced(Model):
        def run_slices(self, count: int, slices: int) -> list[float]:
            asked.append((count, slices))
            return [self.run(count) for _ in range(slices)]

    measure(machine, {"a": Sliced(machine, "a", milliseconds)})
    assert set(asked) == {(count, FULL.slices)}
    assert count * FULL.slices * milliseconds >= 1e3 * FULL.value_seconds


def test_garbage_collection_is_off_while_timing_and_back_on_after() -> None:
    machine, seen = Machine(), []

    class Watching(Model):
        def run(self, count: int) -> float:
            seen.append(gc.isenabled())
            return super().run(count)

    assert gc.isenabled()
    measure(machine, {"a": Watching(machine, "a", 1.0)})
    assert not any(seen) and gc.isenabled()


def test_progress_counts_to_what_it_expects() -> None:
    machine, calls = Machine(), []
    measure(machine, {name: Model(machine, name, 1.0) for name in "ab"}, progress=lambda *call: calls.append(call))
    assert [done for done, _ in calls] == list(range(1, 19)) and calls[-1] == (18, 18)


def test_no_models_is_no_work() -> None:
    machine = Machine()
    assert measure(machine, {}) == {} and machine.now == 0.0
