"""What follows from measurements: the front, the chosen network, whether mixing wins, how far predictions were off."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tiny_job import Tiny, make_tiny

from latency_tables import Measurement
from nas.cli.search_report import summary
from nas.export import Outcome
from nas.export.accuracy import Correct
from nas.export.finalists import BASELINE, FINALIST, TWIN, Built, Entry, Failed, Verified, in_one_precision
from nas.export.goal import Goal
from nas.export.plot import draw_front
from nas.export.result import has_bundle, result_content
from search_spaces import Candidate

IMAGES = 5000


@pytest.fixture(scope="module")
def candidates(tmp_path_factory: pytest.TempPathFactory) -> list[Candidate]:
    tiny: Tiny = make_tiny(tmp_path_factory.mktemp("tiny"))
    return [tiny.space.candidate(row) for row in tiny.space.sample(6, np.random.default_rng(0))]


def measured(candidate: Candidate, role: str, ms: float, accuracy: float, **entry: object) -> Verified:
    fields = dict.fromkeys(Measurement.__dataclass_fields__, ms)
    timing = Measurement(**{**fields, "ci_low_ms": ms * 0.99, "ci_high_ms": ms * 1.01, "quality": "ok"})  # type: ignore[arg-type]
    predicted = Entry(candidate.id, role, candidate, accuracy + 0.01, ms * 1.1, **entry)  # type: ignore[arg-type]
    right = first_right(accuracy)
    return Verified(predicted, Built(None, None, {}), right, right, timing)  # type: ignore[arg-type]


def first_right(accuracy: float) -> Correct:
    """Return the images that a network of that accuracy gets right: the easiest ones, the same for every network."""
    return np.arange(IMAGES) < round(accuracy * IMAGES)


def outcome_of(*verified: Verified, limit_ms: float | None = None, failed: tuple[Failed, ...] = ()) -> Outcome:
    return Outcome(
        space="tiny", supernet="s", dataset="images", images={"validation": IMAGES, "test": IMAGES},
        device={"name": "d", "runtime": "r", "fingerprint": "f", "simulated": False}, strategy="random", seed=0,
        goal=Goal(limits={} if limit_ms is None else {"latency": limit_ms}), evaluated=5, seconds={}, calibration={},
        verified=verified, failed=failed,
        predicted_ms=np.array([1.0, 2.0]), predicted_accuracy=np.array([0.5, 0.6]),
    )  # fmt: skip


def test_a_baseline_that_nothing_dominates_is_on_the_front_and_ships(candidates: list[Candidate]) -> None:
    finalist = measured(candidates[0], FINALIST, 1.0, 0.9)
    dominated = measured(candidates[1], FINALIST, 1.2, 0.89)
    baseline = measured(candidates[2], BASELINE, 2.0, 0.95)
    slow = measured(candidates[3], BASELINE, 3.0, 0.94)
    outcome = outcome_of(finalist, dominated, baseline, slow)
    assert outcome.front == (finalist, baseline) and outcome.dominated == (dominated,)
    assert [has_bundle(outcome, one) for one in outcome.verified] == [True, True, True, False]


def test_a_network_that_is_finalist_and_baseline_counts_once(candidates: list[Candidate]) -> None:
    finalist, same = (measured(candidates[0], role, 1.0, 0.9) for role in (FINALIST, BASELINE))
    outcome = outcome_of(finalist, same)
    assert outcome.distinct == (finalist,) and outcome.baselines == (same,)


def test_a_budget_that_nothing_measured_meets_chooses_nothing(candidates: list[Candidate]) -> None:
    outcome = outcome_of(measured(candidates[0], FINALIST, 1.0, 0.9), limit_ms=0.9)
    assert outcome.chosen is None and result_content(outcome)["chosen"] is None


def test_predictions_are_judged_on_finalists_by_validation_and_by_test_accuracy(candidates: list[Candidate]) -> None:
    outcome = outcome_of(
        replace(measured(candidates[0], FINALIST, 1.0, 0.9), test_correct=first_right(0.88)),
        replace(measured(candidates[1], BASELINE, 1.0, 0.9), correct=first_right(0.1)),
    )
    assert outcome.errors.latency_median == pytest.approx(0.1) and outcome.errors.latency_worst == pytest.approx(0.1)
    assert outcome.errors.accuracy_mean == pytest.approx(0.01)
    assert outcome.errors.test_accuracy_mean == pytest.approx(0.03)


def twins_of(mixed: Candidate, fp32: tuple[float, float], int8: tuple[float, float]) -> list[Verified]:
    return [
        measured(in_one_precision(mixed, name), TWIN, *figures, twin_of=mixed.id)
        for name, figures in (("fp32", fp32), ("int8", int8))
    ]


@pytest.fixture(scope="module")
def mixed(candidates: list[Candidate]) -> Candidate:
    return next(candidate for candidate in candidates if len(set(candidate.precisions)) == 2)


@pytest.mark.parametrize(
    ("fp32", "int8", "wins"),
    [
        ((1.2, 0.901), (1.1, 0.88), True),
        ((1.2, 0.904), (1.1, 0.88), False),  # less than the margin, but more cannot be ruled out
        ((1.2, 0.95), (1.1, 0.88), False),  # fp32 is more accurate
        ((1.2, 0.90), (0.9, 0.88), False),  # int8 is faster
        ((1.01, 0.90), (1.1, 0.88), False),  # the intervals overlap
    ],
)
def test_mixing_wins_where_it_is_shown_to_be_faster_and_no_less_accurate(
    mixed: Candidate, fp32: tuple[float, float], int8: tuple[float, float], wins: bool
) -> None:
    [mixing] = outcome_of(measured(mixed, FINALIST, 1.0, 0.9), *twins_of(mixed, fp32, int8)).mixing
    assert mixing.wins is wins and mixing.twins["fp32"].latency.latency_ms == fp32[0]
    assert mixing.gains["int8"].low < 0.02 < mixing.gains["int8"].high


def test_accuracies_that_agree_on_few_images_show_nothing(mixed: Candidate) -> None:
    fp32, int8 = twins_of(mixed, (1.2, 0.9), (1.1, 0.88))
    shuffled = replace(fp32, correct=np.random.default_rng(0).permutation(fp32.correct))  # as accurate, on other images
    assert outcome_of(measured(mixed, FINALIST, 1.0, 0.9), fp32, int8).mixing[0].wins
    [mixing] = outcome_of(measured(mixed, FINALIST, 1.0, 0.9), shuffled, int8).mixing
    assert not mixing.wins and mixing.gains["fp32"].value == 0


def test_without_all_its_twins_a_mixed_network_gets_no_verdict(mixed: Candidate) -> None:
    fp32, int8 = twins_of(mixed, (1.2, 0.9), (1.1, 0.88))
    outcome = outcome_of(measured(mixed, FINALIST, 1.0, 0.9), fp32, failed=(Failed(int8.entry, "gate Q"),))
    assert outcome.mixing == ()
    assert result_content(outcome)["failed"] == [
        {"name": int8.entry.name, "id": int8.entry.candidate.id, "role": "twin", "reason": "gate Q"}
    ]


def test_the_clocks_own_latency_and_the_drift_are_told(candidates: list[Candidate]) -> None:
    one = measured(candidates[0], FINALIST, 1.0, 0.9)
    drifted = replace(one, latency=replace(one.latency, raw_ms=1.08, drift=1.08))
    outcome = outcome_of(drifted)
    told = result_content(outcome)["front"][0]["measured"]
    assert (told["latency_ms"], told["raw_ms"], told["drift"]) == (1.0, 1.08, 1.08) and outcome.drift == 1.08
    assert any("The machine is now 8 % slower than when it was calibrated" in line for line in summary(outcome, Path()))
    steady = outcome_of(replace(one, latency=replace(one.latency, drift=0.96)))
    assert not any("The machine is now" in line for line in summary(steady, Path()))


def test_the_picture_shows_the_budget_and_says_when_it_is_simulated(
    candidates: list[Candidate], tmp_path: Path
) -> None:
    outcome = outcome_of(measured(candidates[0], FINALIST, 1.0, 0.9), limit_ms=1.5)
    device = {**outcome.device, "simulated": True}
    [axes] = draw_front(replace(outcome, device=device)).axes
    legend = axes.get_legend()
    assert legend is not None and "budget" in [text.get_text() for text in legend.get_texts()]
    assert "(simulated)" in axes.get_xlabel() and axes.get_xscale() == "log"
