"""Several processes on one Optuna study: the result is that of one, whoever is killed."""

import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import optuna
import pytest
from optuna.trial import TrialState
from postgres import postgres

from nas.errors import UsageError
from nas.search import Problem, check_search, search, study
from nas.search.storages import open_storage, storage_url
from nas.search.testing import ToySpace, toy_problem

SPACE = ToySpace(blocks=8, choices=3)
BUDGET = 120
LIMIT = {"latency_ms": (None, 4.0)}

WORKER = """
import os, sys, time
from pathlib import Path
import numpy as np
from nas.search import Problem, search, study
from nas.search.testing import ToySpace, toy_problem

url, log, hanging, result, strategy, budget = sys.argv[1:]
study.PATIENCE = 1.0
space = ToySpace(blocks=8, choices=3)
plain = toy_problem(space, constraints={"latency_ms": (None, 4.0)})
scored = 0

def evaluate(genes):
    global scored
    scored += len(genes)
    with open(log, "a") as file:
        file.writelines(row.tobytes().hex() + "\\n" for row in genes)
    if hanging and scored > 5:
        Path(hanging).write_text(genes[0].tobytes().hex())
        time.sleep(600)
    time.sleep(0.01)
    return plain.evaluate(genes)

problem = Problem(space, plain.objectives, plain.constraints, evaluate, repeatable=False)
found = search(problem, strategy, int(budget), storage=url)
np.save(result, found.history.genes)
"""


def run_workers(url: str, folder: Path, strategy: str) -> str:
    """Run four workers, kill the first one in the middle of a score, and return what it was scoring."""
    hanging, log = folder / "hanging", folder / "scored.log"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORKER, url, str(log), str(hanging) if number == 0 else "",
             str(folder / f"{number}.npy"), strategy, str(BUDGET)],
        )
        for number in range(4)
    ]  # fmt: skip
    deadline = time.monotonic() + 100
    while not hanging.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    processes[0].kill()
    assert [process.wait(timeout=100) for process in processes] == [-9, 0, 0, 0]
    return hanging.read_text()


def check(url: str, folder: Path, strategy: str, killed: str) -> None:
    problem = toy_problem(SPACE, constraints=LIMIT)
    alone = search(problem, strategy, BUDGET)
    for number in (1, 2, 3):
        np.testing.assert_array_equal(np.load(folder / f"{number}.npy"), alone.history.genes)
    counts = Counter((folder / "scored.log").read_text().split())
    assert len(counts) == BUDGET
    assert {row for row, count in counts.items() if count > 1} <= {killed}
    storage = open_storage(url)
    [summary] = optuna.get_all_study_summaries(storage)
    trials = optuna.load_study(study_name=summary.study_name, storage=storage).trials
    complete = [trial for trial in trials if trial.state == TrialState.COMPLETE]
    rows = {bytes(trial.params.values()) for trial in complete}
    assert len(complete) == len(rows) == BUDGET and rows == {row.tobytes() for row in alone.history.genes}
    assert all(trial.state in (TrialState.COMPLETE, TrialState.FAIL) for trial in trials)


@pytest.mark.slow
@pytest.mark.parametrize("strategy", ["evolution", "optuna:nsgaii", "linas"])
def test_four_workers_on_postgresql_of_which_one_is_killed_lose_and_double_nothing(
    strategy: str, tmp_path: Path
) -> None:
    with postgres() as url:
        killed = run_workers(url, tmp_path, strategy)
        check(url, tmp_path, strategy, killed)


@pytest.mark.slow
@pytest.mark.parametrize("url", ["sqlite:///{}/search.db", "journal:///{}/search.log"])
def test_four_workers_share_a_file(url: str, tmp_path: Path) -> None:
    url = url.format(tmp_path)
    killed = run_workers(url, tmp_path, "evolution")
    check(url, tmp_path, "evolution", killed)


@pytest.mark.slow
def test_workers_share_a_grpc_proxy(tmp_path: Path) -> None:
    pytest.importorskip("grpc")
    serve = (
        "import optuna; from nas.search.storages import open_storage; optuna.storages.run_grpc_proxy_server("
        f"open_storage('sqlite:///{tmp_path}/a.db'), host='localhost', port=13579)"
    )
    server = subprocess.Popen([sys.executable, "-c", serve], stderr=subprocess.DEVNULL)
    try:
        alone = search(toy_problem(SPACE), budget=30)
        time.sleep(3)
        shared = search(toy_problem(SPACE), budget=30, storage="grpc://localhost:13579")
    finally:
        server.kill()
        server.wait()
    np.testing.assert_array_equal(shared.history.genes, alone.history.genes)


def test_threads_share_the_scoring_of_one_search(tmp_path: Path) -> None:
    plain, scored = toy_problem(SPACE, constraints=LIMIT), Counter[bytes]()

    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        scored.update(row.tobytes() for row in genes)
        time.sleep(0.002)
        return dict(plain.evaluate(genes))

    def run(_: int) -> np.ndarray:
        problem = Problem(SPACE, plain.objectives, plain.constraints, evaluate)
        return search(problem, budget=60, storage=f"journal://{tmp_path}/search.log").history.genes

    with ThreadPoolExecutor(3) as pool:
        histories = list(pool.map(run, range(3)))
    alone = search(plain, budget=60).history.genes
    for history in histories:
        np.testing.assert_array_equal(history, alone)
    assert sum(scored.values()) <= 60 + 3 * study.CHECKED and len(scored) == 60


def test_an_interrupted_study_goes_on_with_every_score(tmp_path: Path) -> None:
    place = tmp_path / "search.db"
    plain, calls = toy_problem(SPACE), 0

    def evaluate(genes: np.ndarray) -> dict[str, np.ndarray]:
        nonlocal calls
        calls += 1
        if calls == 21:
            raise KeyboardInterrupt
        return {**plain.evaluate(genes), "size_mb": genes.sum(axis=1).astype(float)}

    problem = Problem(SPACE, plain.objectives, {}, evaluate)
    with pytest.raises(KeyboardInterrupt):
        search(problem, budget=40, storage=place)
    resumed = search(problem, budget=40, storage=place)
    assert calls <= 21 + 20 + study.CHECKED
    np.testing.assert_array_equal(resumed.history.genes, search(plain, budget=40).history.genes)
    np.testing.assert_array_equal(resumed.history.scores["size_mb"], resumed.history.genes.sum(axis=1))


def test_a_trial_that_nobody_finishes_is_scored_by_who_waits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(study, "PATIENCE", 0.2)
    monkeypatch.setattr(study.Study, "_end", lambda self, trial, state, values=None: None)  # as if killed
    url = f"journal://{tmp_path}/search.log"
    plain = toy_problem(SPACE)
    killed = study.Study(plain, "evolution", 20, 0, url)
    killed._claim(search(plain, budget=20).history.genes[0])
    monkeypatch.undo()
    monkeypatch.setattr(study, "PATIENCE", 0.2)
    result = search(plain, budget=20, storage=url)
    np.testing.assert_array_equal(result.history.genes, search(plain, budget=20).history.genes)
    trials = optuna.load_study(study_name=killed.name, storage=open_storage(url)).trials
    assert len(trials) == 20 and all(trial.state == TrialState.COMPLETE for trial in trials)


def test_scores_of_another_problem_are_refused_unless_they_are_measured(tmp_path: Path) -> None:
    url = f"journal://{tmp_path}/search.log"
    search(toy_problem(SPACE), budget=20, storage=url)

    def slower(genes: np.ndarray) -> dict[str, np.ndarray]:
        scores = toy_problem(SPACE).evaluate(genes)
        return {**scores, "latency_ms": scores["latency_ms"] * 1.02}

    objectives = toy_problem(SPACE).objectives
    with pytest.raises(UsageError, match=r"study 'toy evolution \w{8}' holds a search with latency_ms \S+ where this"):
        search(Problem(SPACE, objectives, {}, slower), budget=20, storage=url)
    measured = Problem(SPACE, objectives, {}, slower, repeatable=False)
    assert search(measured, budget=20, storage=url).evaluated == 20


def test_searches_of_one_storage_do_not_meet(tmp_path: Path) -> None:
    url = f"journal://{tmp_path}/search.log"
    for seed in (0, 1):
        shared = search(toy_problem(SPACE), budget=15, seed=seed, storage=url)
        np.testing.assert_array_equal(
            shared.history.genes, search(toy_problem(SPACE), budget=15, seed=seed).history.genes
        )
    assert len(optuna.get_all_study_summaries(open_storage(url))) == 2


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("foo://x", r"storage foo://x: cannot be opened \(.*foo\); allowed: sqlite:///FILE, postgresql://USER@HOST"),
        ("grpc://localhost", r"storage grpc://localhost: cannot be opened \(no host and port\); allowed: "),
        ("sqlite:////nowhere/a.db", r"cannot be opened \(.*\); allowed: "),
        ("mysql+nothing://me:secret@h/x", r"storage mysql\+nothing://me@h/x: cannot be opened"),
    ],
)
def test_a_storage_that_cannot_be_opened_is_one_line_without_the_password(url: str, message: str) -> None:
    with pytest.raises(UsageError, match=message) as found:
        check_search(toy_problem(SPACE), "evolution", 20, 0, url)
    assert "secret" not in str(found.value)


def test_what_is_a_url_and_what_is_a_state_file() -> None:
    assert storage_url("journal:///a.log") == "journal:///a.log"
    assert storage_url(Path("a/b.db")) == "sqlite:///a/b.db"
    assert storage_url("state.npz") is None and storage_url(None) is None
