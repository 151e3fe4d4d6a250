"""Problem, loop and result: what comes out, and what is said about wrong input."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from nas.errors import FileFormatError, InfeasibleError, UsageError
from nas.search import Choice, Problem, SearchResult, check_search, journal, search
from nas.search.testing import ToySpace, toy_problem, true_front

SPACE = ToySpace(blocks=6, choices=3)
BOTH = {"accuracy": "max", "latency_ms": "min"}


@pytest.fixture(scope="module")
def result() -> SearchResult:
    return search(toy_problem(SPACE), budget=SPACE.size)


def test_the_front_ascends_in_both_objectives_and_the_history_holds_it(result: SearchResult) -> None:
    assert (np.diff(result.front.scores["latency_ms"]) > 0).all()
    assert (np.diff(result.front.scores["accuracy"]) > 0).all()
    assert {row.tobytes() for row in result.front.genes} <= {row.tobytes() for row in result.history.genes}
    assert result.evaluated == len(result.history) == SPACE.size


def test_the_best_is_the_most_accurate_within_the_limit(result: SearchResult) -> None:
    scores = result.history.scores
    for limit in (1.5, 2.5, 99.0):
        best = result.best(latency_ms=limit)
        assert best.scores["accuracy"] == scores["accuracy"][scores["latency_ms"] <= limit].max()
        assert best.scores["latency_ms"] <= limit
    assert isinstance(best, Choice) and best.genes.shape == (SPACE.num_genes,)


def test_limits_hold_at_equality_and_bind_a_maximised_score_from_below(result: SearchResult) -> None:
    knee = result.knee().scores
    assert result.best(latency_ms=knee["latency_ms"]).scores == knee
    assert result.best(accuracy=knee["accuracy"]).scores == knee


def test_ties_go_to_the_next_objective() -> None:
    def evaluate(genes: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"accuracy": np.full(len(genes), 0.5), "latency_ms": genes.sum(axis=1).astype(float)}

    best = search(Problem(SPACE, BOTH, {}, evaluate), budget=500).best()
    assert best.scores["latency_ms"] == 0


def test_a_limit_on_any_score_that_evaluate_gives_works() -> None:
    plain = toy_problem(SPACE)
    problem = Problem(SPACE, BOTH, {}, lambda g: {**plain.evaluate(g), "size_mb": (g > 0).sum(axis=1)})
    result = search(problem, budget=SPACE.size)
    scores = result.history.scores
    assert result.best(size_mb=2).scores["accuracy"] == scores["accuracy"][scores["size_mb"] <= 2].max()


def test_an_unmet_limit_says_what_was_reached(result: SearchResult) -> None:
    with pytest.raises(InfeasibleError, match=r"no candidate has latency_ms ≤ 0\.1; reached: 0\.\d+ to \d"):
        result.best(latency_ms=0.1)
    with pytest.raises(InfeasibleError, match=r"no candidate has accuracy ≥ 2; reached within the limits before it: "):
        result.best(latency_ms=1.5, accuracy=2.0)


def test_an_unknown_limit_lists_the_scores(result: SearchResult) -> None:
    with pytest.raises(UsageError, match="no score 'latency' to limit; there is: accuracy, latency_ms"):
        result.best(latency=3.0)


def test_a_knee_needs_two_objectives() -> None:
    result = search(toy_problem(SPACE, objectives={"accuracy": "max"}), budget=50)
    with pytest.raises(UsageError, match="a knee needs two objectives; this search has: accuracy"):
        result.knee()


def test_the_hypervolume_needs_a_reference_for_each_objective(result: SearchResult) -> None:
    assert result.hypervolume(accuracy=0.0, latency_ms=10.0) > result.hypervolume(accuracy=0.5, latency_ms=10.0) > 0
    with pytest.raises(UsageError, match=r"names \['accuracy'\]; allowed: exactly \['accuracy', 'latency_ms'\]"):
        result.hypervolume(accuracy=0.0)


def test_progress_sees_the_front_grow() -> None:
    seen: list[tuple[int, int]] = []
    result = search(toy_problem(SPACE), budget=300, progress=lambda n, front: seen.append((n, len(front))))
    assert [n for n, _ in seen] == sorted({n for n, _ in seen})
    assert seen[-1] == (300, len(result.front))


@pytest.mark.parametrize(
    ("constraints", "message"),
    [
        ({"latency_ms": (None, 0.1)}, r"of toy meets latency_ms ≤ 0\.1; reachable: latency_ms 0\.\d+ to \d"),
        ({"accuracy": (1.5, None)}, r"meets 1\.5 ≤ accuracy; reachable: accuracy .* to 0\.9"),
        ({"accuracy": (0.9, None), "latency_ms": (0.0, 0.7)},
         r"0\.9 ≤ accuracy and 0 ≤ latency_ms ≤ 0\.7; reachable, each for itself: accuracy .* to .*, latency_ms "),
    ],
)  # fmt: skip
def test_infeasible_constraints_say_what_is_reachable(constraints: dict, message: str) -> None:
    with pytest.raises(InfeasibleError, match=message):
        search(toy_problem(SPACE, constraints=constraints), budget=400)


def test_the_reachable_range_is_sought_and_not_sampled() -> None:
    space = ToySpace(blocks=30, choices=5)  # its cheapest and dearest chains are one in 10^20

    def evaluate(genes: np.ndarray) -> Mapping[str, np.ndarray]:
        return {"accuracy": np.zeros(len(genes)), "latency_ms": 100.0 + genes.sum(axis=1)}

    with pytest.raises(InfeasibleError, match=r"reachable: latency_ms 100 to 2[12]"):
        search(Problem(space, BOTH, {"latency_ms": (None, 50.0)}, evaluate), "random", budget=40_000)


def test_a_space_searched_whole_is_not_probed_again() -> None:
    plain = toy_problem(SPACE)
    scored = 0

    def evaluate(genes: np.ndarray) -> Mapping[str, np.ndarray]:
        nonlocal scored
        scored += len(genes)
        return plain.evaluate(genes)

    with pytest.raises(InfeasibleError, match=f"none of {SPACE.size} candidates"):
        search(Problem(SPACE, BOTH, {"latency_ms": (None, 0.1)}, evaluate), budget=5_000)
    assert scored == SPACE.size


@pytest.mark.parametrize(
    ("objectives", "constraints", "message"),
    [
        ({}, {}, "no objective; give at least one"),
        ({"accuracy": "up"}, {}, "objective 'accuracy' has direction 'up'; allowed: 'max', 'min'"),
        (BOTH, {"latency_ms": (3, 2)}, r"constraint 'latency_ms' is \(3, 2\); allowed: low ≤ high"),
        (BOTH, {"latency_ms": (None, float("nan"))}, "constraint 'latency_ms' is .*nan"),
    ],
)
def test_a_problem_that_makes_no_sense_is_refused(objectives: dict, constraints: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        Problem(SPACE, objectives, constraints, lambda genes: {})


@pytest.mark.parametrize(
    ("scores", "message"),
    [
        ({"accuracy": 0.5}, "evaluate gave no 'latency_ms'; it gave: accuracy"),
        ({"accuracy": 0.5, "latency_ms": float("nan")}, "'latency_ms' that is not finite for 4 of 4 candidates"),
    ],
)
def test_scores_that_do_not_fit_are_refused(scores: dict, message: str) -> None:
    problem = Problem(SPACE, BOTH, {}, lambda genes: {k: np.full(len(genes), v) for k, v in scores.items()})
    with pytest.raises(UsageError, match=message):
        search(problem, budget=4)


def test_scores_of_the_wrong_shape_are_refused() -> None:
    problem = Problem(SPACE, {"accuracy": "max"}, {}, lambda genes: {"accuracy": np.zeros((len(genes), 1))})
    with pytest.raises(UsageError, match=r"'accuracy' of shape \(4, 1\); allowed: \(4,\)"):
        search(problem, budget=4)


def test_an_unknown_strategy_lists_the_strategies_and_the_nearest() -> None:
    with pytest.raises(UsageError, match=r"unknown strategy 'evolutoin'; .* Did you mean 'evolution'\?"):
        search(toy_problem(SPACE), "evolutoin")


def test_a_budget_below_one_is_refused() -> None:
    with pytest.raises(UsageError, match="budget 0; allowed: at least 1 candidate"):
        search(toy_problem(SPACE), budget=0)


def test_a_finished_search_is_read_back_and_hardly_anything_is_scored(tmp_path: Path, result: SearchResult) -> None:
    state = tmp_path / "state.npz"
    search(toy_problem(SPACE), budget=SPACE.size, storage=state)
    written = state.read_bytes()

    scored: list[int] = []

    def evaluate(genes: np.ndarray) -> Mapping[str, np.ndarray]:
        scored.append(len(genes))
        return toy_problem(SPACE).evaluate(genes)

    again = search(Problem(SPACE, BOTH, {}, evaluate), budget=SPACE.size, storage=state)
    assert sum(scored) <= journal.CHECKED
    np.testing.assert_array_equal(again.front.genes, result.front.genes)
    assert state.read_bytes() == written


def test_the_state_is_written_while_the_search_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(journal, "SAVE_SECONDS", 0.0)
    state = tmp_path / "state.npz"
    sizes: list[int] = []
    stored = lambda evaluated, front: sizes.append(len(np.load(state)["genes"]))  # noqa: E731
    search(toy_problem(SPACE), budget=200, storage=state, progress=stored)
    assert sizes[0] > 0 and sizes == sorted(set(sizes))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 1}, "holds a search with seed 0, not 1"),
        ({"budget": 300}, "holds a search with budget 200, not 300"),
        ({"strategy": "random"}, "holds a search with strategy 'evolution', not 'random'"),
    ],
)
def test_the_state_of_another_search_is_refused(tmp_path: Path, change: dict, message: str) -> None:
    state = tmp_path / "state.npz"
    search(toy_problem(SPACE), budget=200, storage=state)
    with pytest.raises(UsageError, match=message):
        search(toy_problem(SPACE), **{"budget": 200, **change}, storage=state)


def test_the_state_of_a_space_with_other_choices_is_refused(tmp_path: Path) -> None:
    state, other = tmp_path / "state.npz", ToySpace(blocks=6, choices=4)
    search(toy_problem(SPACE), budget=200, storage=state)
    with pytest.raises(UsageError, match="holds a search with choices '6x3', not '6x4'; name another file"):
        search(toy_problem(other), budget=200, storage=state)


def test_what_a_search_is_given_is_checked_without_scoring(tmp_path: Path) -> None:
    def evaluate(genes: np.ndarray) -> Mapping[str, np.ndarray]:
        raise AssertionError("scored")

    problem, state = Problem(SPACE, BOTH, {}, evaluate), tmp_path / "state.npz"
    check_search(problem, "evolution", 200, 0, state)
    search(toy_problem(SPACE), budget=200, storage=state)
    check_search(problem, "evolution", 200, 0, state)
    with pytest.raises(UsageError, match="holds a search with seed 0, not 1"):
        check_search(problem, "evolution", 200, 1, state)
    with pytest.raises(UsageError, match="unknown strategy 'evolutoin'"):
        check_search(problem, "evolutoin", 200, 0, None)
    state.write_bytes(b"")
    with pytest.raises(FileFormatError, match="not a readable search state"):
        check_search(problem, "evolution", 200, 0, state)


@pytest.mark.parametrize("strategy", ["evolution", "random"])
def test_a_state_of_other_scores_is_refused_and_kept(tmp_path: Path, strategy: str) -> None:
    state = tmp_path / "state.npz"
    search(toy_problem(SPACE), strategy, budget=200, storage=state)
    written = state.read_bytes()

    def slower(genes: np.ndarray) -> Mapping[str, np.ndarray]:
        scores = toy_problem(SPACE).evaluate(genes)
        return {**scores, "latency_ms": scores["latency_ms"] * 1.02 + 0.01}

    with pytest.raises(
        UsageError, match=r"holds a search with latency_ms \S+ where this one gives .* name another file"
    ):
        search(Problem(SPACE, BOTH, {}, slower), strategy, budget=200, storage=state)
    assert state.read_bytes() == written


def test_a_state_with_other_candidates_is_refused_and_kept(tmp_path: Path) -> None:
    state = tmp_path / "state.npz"
    search(toy_problem(SPACE, seed=1), budget=200, storage=state)
    stored = dict(np.load(state))
    np.savez(state, **{**stored, "genes": stored["genes"][::-1]})
    written = state.read_bytes()
    with pytest.raises(FileFormatError, match="its candidates are not those that this search asks for"):
        search(toy_problem(SPACE, seed=1), budget=200, storage=state)
    assert state.read_bytes() == written


@pytest.mark.parametrize("damage", ["truncated", "flipped", "text", "empty", "folder", "schema", "rows", "pickle"])
def test_a_damaged_state_is_refused_by_name(tmp_path: Path, damage: str) -> None:
    state = tmp_path / "state.npz"
    search(toy_problem(SPACE), budget=200, storage=state)
    content, stored = state.read_bytes(), dict(np.load(state))
    if damage == "truncated":
        state.write_bytes(content[: len(content) // 2])
    elif damage == "flipped":
        at = content.index(stored["genes"].tobytes()) + 5
        state.write_bytes(content[:at] + bytes([content[at] ^ 1]) + content[at + 1 :])
    elif damage == "text":
        state.write_text("not a state")
    elif damage == "empty":
        state.write_bytes(b"")
    elif damage == "folder":
        state.unlink()
        state.mkdir()
    elif damage == "schema":
        np.savez(state, **{**stored, "header": np.array('{"schema": "other", "schema_version": 1}')})
    elif damage == "rows":
        np.savez(state, **{**stored, "genes": stored["genes"][:-1]})
    elif damage == "pickle":
        np.savez(state, **{**stored, "genes": np.array([object()])}, allow_pickle=True)
    with pytest.raises(FileFormatError, match=r"state\.npz"):
        search(toy_problem(SPACE), budget=200, storage=state)


def test_the_toy_space_counts_and_lists_every_network_once() -> None:
    everything = SPACE.everything()
    assert len(everything) == SPACE.size
    sampled = SPACE.sample(50_000, np.random.default_rng(0))
    assert len(np.unique(sampled, axis=0)) == SPACE.size
    np.testing.assert_array_equal(sampled, SPACE.canonical(sampled))
    assert 3 <= len(true_front(toy_problem(SPACE), SPACE)) < 60
