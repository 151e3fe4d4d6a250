"""What a switcher decides, by a clock that the tests turn: in time where it can be, steady, never needlessly slow."""

from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import FileFormatError, UsageError
from nas.export import Hysteresis, Switcher
from nas.export.switch_policy import SwitchPolicy
from supernets import ImageInfo

REPORTED = [2.0, 4.0, 8.0]
ACCURACY = [0.7, 0.8, 0.9]
INFO = ImageInfo("frames", ("cat", "dog"), (0.5,), (0.25,))

slowdowns = st.floats(0.25, 20)


def follow(policy: SwitchPolicy, ratios: list[float]) -> list[int]:
    """Return the choice after each frame, where everything is so many times slower than reported."""
    choices = []
    for ratio in ratios:
        policy.observe(ratio * REPORTED[policy.choice])
        choices.append(policy.choice)
    return choices


def in_time(ratio: float) -> int:
    """Return the most accurate within 10 ms; the fastest where none is."""
    return max((i for i, latency in enumerate(REPORTED) if latency * ratio <= 10), default=0)


def test_it_begins_with_the_most_accurate_in_time_and_leaves_dominated_ones_out() -> None:
    assert SwitchPolicy(REPORTED, ACCURACY, 5).choice == 1
    assert SwitchPolicy(REPORTED, ACCURACY, 1).choice == 0  # none is in time
    assert SwitchPolicy([8, 2, 3], [0.9, 0.8, 0.7], 4).choice == 1


@given(slowdowns)
def test_under_a_steady_load_it_settles_and_stays(ratio: float) -> None:
    policy = SwitchPolicy(REPORTED, ACCURACY, 10)
    choices = follow(policy, [ratio] * 100)
    assert len(set(choices[30:])) == 1
    assert in_time(ratio * 1.1) <= choices[-1] <= in_time(ratio)


@given(st.lists(slowdowns, min_size=1, max_size=60), slowdowns)
def test_after_a_load_has_gone_the_most_accurate_comes_back(before: list[float], ratio: float) -> None:
    policy = SwitchPolicy(REPORTED, ACCURACY, 10)
    follow(policy, before)
    assert in_time(ratio * 1.1) <= follow(policy, [ratio] * 60)[-1] <= in_time(ratio)


@given(st.lists(slowdowns, min_size=1, max_size=60))
def test_under_more_load_a_faster_one_is_taken_at_once(before: list[float]) -> None:
    policy = SwitchPolicy(REPORTED, ACCURACY, 10)
    follow(policy, before)
    assert follow(policy, [4.9] * 3)[-1] == 0
    eager = SwitchPolicy(REPORTED, ACCURACY, 10, Hysteresis(share=1))
    follow(eager, before)
    assert follow(eager, [4.9]) == [0]


@given(st.lists(slowdowns, max_size=60))
def test_where_all_are_late_the_fastest_runs(before: list[float]) -> None:
    policy = SwitchPolicy(REPORTED, ACCURACY, 10)
    follow(policy, before)
    assert follow(policy, [20.0] * 16)[-1] == 0


@given(st.lists(st.floats(0.25, 1.1), min_size=16, max_size=40), st.lists(st.booleans(), min_size=40, max_size=40))
def test_frames_that_no_network_could_save_change_nothing(calm: list[float], interrupted: list[bool]) -> None:
    policy = SwitchPolicy(REPORTED, ACCURACY, 10)
    ratios = [
        50.0 if cut and frame % 16 else ratio for frame, (ratio, cut) in enumerate(zip(calm, interrupted, strict=False))
    ]
    assert set(follow(policy, ratios)) == {2}


@given(st.lists(slowdowns, max_size=60), slowdowns, st.floats(1, 4))
def test_a_slower_frame_never_leads_to_a_slower_network(before: list[float], ratio: float, more: float) -> None:
    choices = []
    for last in (min(ratio, 5.0), min(ratio * more, 5.0)):  # at 5, the fastest is just in time
        policy = SwitchPolicy(REPORTED, ACCURACY, 10)
        choices.append(follow(policy, [*before, last])[-1])
    assert choices[1] <= choices[0]


@given(st.lists(slowdowns, max_size=200), st.integers(1, 30))
def test_it_goes_up_only_after_so_many_frames_of_patience(ratios: list[float], patience: int) -> None:
    policy = SwitchPolicy(REPORTED, ACCURACY, 10, Hysteresis(patience=patience))
    choices = np.array([policy.choice, *follow(policy, ratios)])
    changes = np.flatnonzero(np.diff(choices))
    ups = np.flatnonzero(np.diff(choices) > 0)
    for up in ups:
        earlier = changes[changes < up]
        assert up + 1 - (earlier[-1] + 1 if len(earlier) else 0) >= patience


@given(st.lists(st.floats(1.0, 1.09), min_size=1, max_size=200))
def test_what_stays_within_the_margin_never_changes_the_choice(noise: list[float]) -> None:
    policy = SwitchPolicy(REPORTED, ACCURACY, 1.09 * 4.0)  # the second is in time by a hair, whatever the noise
    assert set(follow(policy, noise)) == {1}


@given(st.lists(slowdowns, max_size=60), st.floats(0.01, 100))
def test_only_the_proportions_of_reported_latencies_matter(ratios: list[float], unit: float) -> None:
    plain, other = (SwitchPolicy([value * by for value in REPORTED], ACCURACY, 10) for by in (1, unit))
    follow(plain, [1.0, *ratios, *[2.0] * 60])
    for ratio in [1.0, *ratios, *[2.0] * 60]:
        other.observe(ratio * REPORTED[other.choice])
    assert plain.choice == other.choice == 1


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"share": 0.0}, r"share 0; allowed: above 0, at most 1"),
        ({"window": 0}, r"window 0 and patience 20; allowed: 1 frame and more"),
        ({"patience": 0}, r"window 16 and patience 0; allowed"),
        ({"margin": -0.1}, r"margin -0\.1; allowed: 0 and above"),
    ],
)
def test_hysteresis_out_of_range_is_refused(values: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Hysteresis(**values)


def test_what_is_no_latency_is_refused() -> None:
    with pytest.raises(UsageError, match=r"latencies \[\]; allowed: one network or more, each above 0 ms"):
        SwitchPolicy([], [], 10)
    with pytest.raises(UsageError, match=r"latencies \[0\.0\]; allowed"):
        SwitchPolicy([0.0], [0.5], 10)
    with pytest.raises(UsageError, match=r"objective 0 ms; allowed: above 0"):
        SwitchPolicy([1.0], [0.5], 0)
    with pytest.raises(UsageError, match=r"a latency of nan ms was seen; allowed: 0 and above"):
        SwitchPolicy([1.0], [0.5], 1).observe(float("nan"))


@dataclass
class Machine:
    """A clock, and how much slower than reported everything is at the moment."""

    seconds: float = 0.0
    slower: float = 1.0

    def __call__(self) -> float:
        return self.seconds


@dataclass(frozen=True)
class Timed:
    """Stands for a bundle: its session takes the reported time on a machine, and says who ran on what."""

    machine: Machine
    report: dict[str, Any]
    resolution: int
    images: ImageInfo = INFO
    path: Path = Path("timed")
    device_name: str = "cpu"
    seen: list[np.ndarray] = field(default_factory=list)

    @property
    def candidate(self) -> "Timed":
        return self

    def session(self, device: str) -> "Timed":
        assert device == "cpu"
        return self

    def run(self, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        self.seen.append(feed["input"])
        self.machine.seconds += self.report["measured"]["latency_ms"] / 1e3 * self.machine.slower
        return [np.full((len(feed["input"]), 2), self.resolution, np.float32)]


def bundles(machine: Machine) -> list[Timed]:
    figures = zip(REPORTED, ACCURACY, (8, 12, 16), strict=True)
    return [Timed(machine, {"measured": {"latency_ms": ms, "accuracy": a}}, side) for ms, a, side in figures]


def test_frames_run_in_the_network_that_is_in_time() -> None:
    machine = Machine()
    front = bundles(machine)
    switcher = Switcher(front, 10, clock=machine)
    frame = np.full((1, 1, 16, 16), 255, np.uint8)
    ran = []
    for machine.slower in [1.0] * 10 + [2.0] * 30 + [4.9] * 30 + [1.0] * 60:
        ran.append(float(switcher.run(frame)[0, 0]))
    assert ran[:10] == [16] * 10 and ran[39] == 12 and ran[69] == 8 and ran[-1] == 16
    assert switcher.bundle is front[2]
    assert sum(side == 16 for side in ran[10:40]) <= 2 and sum(side > 8 for side in ran[40:70]) <= 2  # late ones
    assert front[0].seen[-1].shape == (1, 1, 8, 8) and front[0].seen[-1].max() == pytest.approx(2.0)


def test_bundles_that_cannot_stand_for_each_other_are_refused() -> None:
    machine = Machine()
    with pytest.raises(UsageError, match=r"no bundle to switch between; give those of one front"):
        Switcher([], 10)
    other = replace(bundles(machine)[1], images=replace(INFO, classes=("fox", "owl")), path=Path("other"))
    with pytest.raises(UsageError, match=r"other is for other images than timed; give bundles of one search"):
        Switcher([bundles(machine)[0], other], 10)


def test_a_report_without_figures_is_named_and_untrained_ones_are_taken_as_predicted() -> None:
    machine = Machine()
    empty = replace(bundles(machine)[0], report={"measured": {"accuracy": 0.5}})
    with pytest.raises(FileFormatError, match=r"timed.report\.json: it has no measured latency or accuracy"):
        Switcher([empty], 10)
    untrained = {"measured": {"latency_ms": 3.0, "accuracy": None}, "predicted": {"accuracy": 0.95}}
    front = [*bundles(machine), Timed(machine, untrained, 20)]
    assert Switcher(front, 10, clock=machine).bundle is front[3]
