"""What each strategy adds to the contract: who dies, where a climb goes, what the predictor is worth."""

import numpy as np
import optuna
import pytest

from nas.errors import UsageError
from nas.search import Problem, get_strategy, search
from nas.search.aging import Aging
from nas.search.local import Local
from nas.search.offspring import neighbours, no_rows, unseen_mutants
from nas.search.surrogate import Surrogate
from nas.search.testing import ToySpace, toy_problem, true_front
from nas.search.unique import Seen
from search_spaces import get_space

SPACE = ToySpace(blocks=8, choices=3)  # 9,840 networks
ONE = {"accuracy": "max"}


def test_the_oldest_die_however_good() -> None:
    problem = toy_problem(SPACE, objectives=ONE)
    strategy = Aging(problem, 64, np.random.default_rng(0))
    first = strategy.ask(64)
    strategy.tell(first, {"accuracy": np.ones(len(first))})
    for _ in range(len(first)):
        strategy.tell(genes := strategy.ask(1), {"accuracy": np.zeros(len(genes))})
    assert not {row.tobytes() for row in first} & {row.tobytes() for row in strategy._genes}


def test_a_child_is_a_mutant_of_a_good_one() -> None:
    problem = toy_problem(SPACE, objectives=ONE)
    strategy = Aging(problem, 4_000, np.random.default_rng(0))
    first = strategy.ask(4_000)
    strategy.tell(first, {"accuracy": np.eye(len(first))[0]})
    parents = strategy._parents(400)
    assert 0.15 < np.mean((parents == first[0]).all(axis=1)) < 0.35  # a quarter of the samples hold the best


def test_neighbours_are_all_that_one_gene_makes() -> None:
    row = SPACE.canonical(np.array([[2, 1, 0, 2, 1, 0, 1, 0, 0]]))[0]
    found = neighbours(SPACE, row)
    assert len(found) == 7 + 6 * 2 and len(np.unique(found, axis=0)) == len(found)
    np.testing.assert_array_equal(found, SPACE.canonical(found))
    same_depth = found[found[:, 0] == row[0]]
    assert ((same_depth != row).sum(axis=1) == 1).all() and len(same_depth) == 12


def test_neighbours_in_the_default_space_are_canonical_and_near() -> None:
    space = get_space("fashion-mbv3")
    row = space.sample(1, np.random.default_rng(0))[0]
    found = neighbours(space, row)
    np.testing.assert_array_equal(found, space.canonical(found))
    assert len(found) > 40 and not (found == row).all(axis=1).any()


def test_mutants_of_nobody_are_samples_and_none_comes_twice() -> None:
    seen, rng = Seen(), np.random.default_rng(0)
    first = unseen_mutants(SPACE, seen, no_rows(SPACE), 500, rng)
    second = unseen_mutants(SPACE, seen, first[:3], 500, rng)
    assert len(first) == len(second) == 500
    assert len(np.unique(np.concatenate([first, second]), axis=0)) == 1_000


@pytest.mark.parametrize("seed", range(5))
def test_a_climb_ends_where_no_neighbour_is_better_and_the_next_begins(seed: int) -> None:
    problem = toy_problem(SPACE, seed, ONE)
    strategy = Local(problem, 400, np.random.default_rng(seed))
    best, scored = -np.inf, no_rows(SPACE)
    for _ in range(400):
        strategy.tell(genes := strategy.ask(400), scores := problem.score(genes))
        if len(genes) == strategy._starts and len(scored):  # a new climb
            break
        scored = np.concatenate([scored, genes])
        best = max(best, scores["accuracy"].max())
    top = scored[problem.score(scored)["accuracy"].argmax()]
    assert problem.score(neighbours(SPACE, top))["accuracy"].max() <= best


@pytest.mark.parametrize("name", ["aging", "local", "linas"])
def test_it_beats_random_search(name: str) -> None:
    gains = []
    for seed in range(3):
        problem = toy_problem(SPACE, seed)
        volumes = [
            search(problem, one, 200, seed).hypervolume(accuracy=0.5, latency_ms=8.0) for one in (name, "random")
        ]
        gains.append(volumes[0] - volumes[1])
    assert np.median(gains) > 0


def test_linas_finds_the_optimum_in_a_hundredth_of_the_space() -> None:
    found = []
    for seed in range(4):
        problem = toy_problem(SPACE, seed, ONE, {"latency_ms": (None, 3.0)})
        best = true_front(problem, SPACE).scores["accuracy"][0]
        found.append(search(problem, "linas", 100, seed).best().scores["accuracy"] > best - 0.003)
    assert np.mean(found) >= 0.75


def test_linas_scores_nothing_but_what_it_asks_for() -> None:
    asked = 0
    plain = toy_problem(SPACE)

    def counted(genes: np.ndarray) -> dict[str, np.ndarray]:
        nonlocal asked
        asked += len(genes)
        return dict(plain.evaluate(genes))

    search(Problem(SPACE, {"accuracy": "max"}, {}, counted), "linas", budget=80)
    assert asked == 80


def test_linas_fits_few_rows_of_many(monkeypatch: pytest.MonkeyPatch) -> None:
    fitted = []

    class Counted(Surrogate):
        def __init__(self, features: np.ndarray, targets: np.ndarray):
            fitted.append((len(features), targets[:, 0].min()))
            super().__init__(features, targets)

    monkeypatch.setattr("nas.search.linas.MOST_FITTED", 30)
    monkeypatch.setattr("nas.search.linas.Surrogate", Counted)
    problem = toy_problem(SPACE, objectives=ONE)
    result = search(problem, "linas", 100)
    assert max(count for count, _ in fitted) == 30 and result.evaluated == 100
    assert fitted[-1][1] == min(least for _, least in fitted)  # the best are among them


def test_the_surrogate_learns_sums_and_interactions() -> None:
    rng = np.random.default_rng(0)
    features = np.eye(3, dtype=np.float32)[rng.integers(3, size=(300, 6))].reshape(300, -1)
    additive = features @ rng.normal(size=18)
    paired = features[:, 0] * features[:, 3] - features[:, 7] * features[:, 10]
    targets = np.stack([5 + 100 * additive, 2 * additive + paired, np.full(300, 7.0)], axis=1)
    surrogate = Surrogate(features[:200], targets[:200])
    mean, deviation = surrogate.predict(features[200:])
    errors = mean - targets[200:]
    assert (1 - errors[:, :2].var(axis=0) / targets[200:, :2].var(axis=0) > [0.99, 0.95]).all()
    assert np.abs(errors[:, 2]).max() < 1e-9
    within = np.abs(errors[:, 1]) < 2 * np.sqrt(deviation[:, 1] ** 2 + surrogate.noise[1])
    assert within.mean() > 0.8
    _, known = surrogate.predict(features[:200])
    assert known[:, 1].mean() < 0.8 * deviation[:, 1].mean()


def test_the_surrogates_covariances_are_its_variances_and_what_one_score_tells_of_another() -> None:
    rng = np.random.default_rng(0)
    features = np.eye(3, dtype=np.float32)[rng.integers(3, size=(60, 6))].reshape(60, -1)
    targets = (features @ rng.normal(size=18))[:, None] ** 2
    surrogate, rows = Surrogate(features[:40], targets[:40]), features[40:]
    [covariances] = surrogate.covariances(rows)
    np.testing.assert_allclose(np.sqrt(np.diag(covariances)), surrogate.predict(rows)[1][:, 0], rtol=1e-6)
    values = np.linalg.eigvalsh(covariances)
    assert values.min() > -1e-9 * values.max()


def test_an_unknown_sampler_lists_those_there_are() -> None:
    with pytest.raises(
        UsageError, match=r"unknown sampler of Optuna 'tqe'; there is: bruteforce, .*Did you mean 'tpe'"
    ):
        get_strategy("optuna:tqe")
    with pytest.raises(UsageError, match="unknown sampler of Optuna 'grid'"):  # needs more than a seed
        get_strategy("optuna:grid")


@pytest.mark.parametrize("name", ["nowhere.Sampler", "optuna.samplers.Nothing"])
def test_a_sampler_that_is_not_there_is_refused(name: str) -> None:
    with pytest.raises(UsageError, match=rf"sampler '{name}' cannot be imported \(.*\); allowed: package.module.Class"):
        get_strategy(f"optuna:{name}")


def test_what_is_no_sampler_is_refused() -> None:
    with pytest.raises(
        UsageError, match=r"sampler 'pathlib\.Path'; allowed: a class of Optuna's samplers that is built"
    ):
        get_strategy("optuna:pathlib.Path")


@pytest.mark.parametrize("name", ["optuna:Random", "optuna:qmc", "optuna:optuna.samplers.RandomSampler"])
def test_any_sampler_that_is_installed_is_a_strategy(name: str) -> None:
    assert search(toy_problem(SPACE), name, budget=30).evaluated == 30


def test_optunas_constraints_are_told() -> None:
    problem = toy_problem(SPACE, constraints={"latency_ms": (None, 2.0)})
    strategy = get_strategy("optuna:nsgaii")(problem, 100, np.random.default_rng(0))
    strategy.tell(genes := strategy.ask(20), problem.score(genes))
    told = [sum(trial.constraints.values()) for trial in strategy._study.trials if trial.values]
    np.testing.assert_allclose(told, problem.violations(problem.score(genes)))


def test_optuna_is_as_quiet_after_as_before(capsys: pytest.CaptureFixture[str]) -> None:
    level = optuna.logging.get_verbosity()
    search(toy_problem(SPACE), "optuna:nsgaii", budget=30)
    assert optuna.logging.get_verbosity() == level and capsys.readouterr().err == ""
