"""Regret and hypervolume against the number of queries, on published tables; see README.md.

    python experiments/search/run.py --data DIR [--seeds 20] [--jobs 1] [--methods evolution,linas,...] [--again]

DIR has the folders ``nasbench201`` and ``help_latency``. Writes ``results.csv``, ``queries.png`` and ``README.md``.
A strategy of ours is told its budget and is run anew for each; the others are run once, to the largest. What is in
``results.csv`` already is not run again, so that a run that was stopped goes on; ``--again`` runs the methods anew.
"""

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
from joblib import Parallel, delayed
from peers import SAMPLERS, optuna_rows, pymoo_rows
from report import COLUMNS, write_report
from tabular import Tables, read_tables

from nas.files import read_csv, write_csv
from nas.search import Problem, search
from nas.search.fronts import hypervolume
from nas.search.problem import Genes

HERE = Path(__file__).parent
BUDGETS = (25, 50, 100, 200, 400, 1000)
OURS = ("linas", "evolution", "aging", "local", "rl", "random")  # all but ``entropy``, which looks at no score
PEERS = (*(f"Optuna {name}" for name in SAMPLERS), "pymoo NSGA-II")
MOST = {"Optuna gp": 100}  # queries of what takes long; see the report

Line = tuple[str, str, int, int, float]


def rows_of(problem: Problem, method: str, budget: int, seed: int) -> Genes:
    """Return the networks that a method scores, in order, ``(budget, genes)``."""
    if method == "pymoo NSGA-II":
        return pymoo_rows(problem, budget, seed)
    if method.startswith("Optuna "):
        return optuna_rows(problem, method.removeprefix("Optuna "), budget, seed)
    return search(problem, method, budget, seed).history.genes


def job(tables: Tables, method: str, seed: int) -> list[Line]:
    """Return the lines of one method and seed."""
    budgets = [budget for budget in BUDGETS if budget <= MOST.get(method, BUDGETS[-1])]
    lines = []
    for measure, problem in (("regret", tables.limited_problem()), ("hypervolume", tables.front_problem())):
        longest = rows_of(problem, method, budgets[-1], seed)
        for budget in budgets:
            rows = longest if budget == budgets[-1] or method in PEERS else rows_of(problem, method, budget, seed)
            value = (regret if measure == "regret" else missing_volume)(tables, rows[:budget])
            lines.append((measure, method, seed, budget, value))
    return lines


def regret(tables: Tables, rows: Genes) -> float:
    """Return how many points of accuracy the best found within the limit is below the best there is."""
    within = tables.latency_ms <= tables.limit_ms
    scores = tables.evaluate(rows)
    found = scores["accuracy"][scores["latency_ms"] <= tables.limit_ms].max(initial=0.0)
    return float(100 * (tables.accuracy[within].max() - found))


def missing_volume(tables: Tables, rows: Genes) -> float:
    """Return the per cent of the true front's hypervolume that is missing; both axes scaled to all cells."""
    everything = np.stack([-tables.accuracy, np.log(tables.latency_ms)], axis=1)
    scores = tables.evaluate(rows)
    found = np.stack([-scores["accuracy"], np.log(scores["latency_ms"])], axis=1)
    low, high = everything.min(axis=0), everything.max(axis=0)
    whole, part = (hypervolume((losses - low) / (high - low), np.ones(2)) for losses in (everything, found))
    return 100 * (1 - part / whole)


def main(arguments: Sequence[str] | None = None) -> None:
    """Run and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--methods", default=",".join((*OURS, *PEERS)))
    parser.add_argument("--again", action="store_true", help="run the methods anew, whatever there is of them")
    chosen = parser.parse_args(arguments)
    tables, methods = read_tables(chosen.data), chosen.methods.split(",")
    lines = [line for line in stored_lines() if not (chosen.again and line[1] in methods)]
    done = {(line[1], line[2]) for line in lines}
    missing = [pair for pair in product(methods, range(chosen.seeds)) if pair not in done]
    missing.sort(key=lambda pair: pair[1])  # seed by seed
    jobs = [delayed(job)(tables, method, seed) for method, seed in missing]
    for found in Parallel(chosen.jobs, return_as="generator_unordered")(jobs):
        lines = sorted([*lines, *found], key=place)
        write_csv(HERE / "results.csv", COLUMNS, [(*line[:4], f"{line[4]:.6g}") for line in lines])
    write_report(HERE, OURS)


def stored_lines() -> list[Line]:
    """Return what earlier runs found."""
    path = HERE / "results.csv"
    rows = read_csv(path, COLUMNS) if path.exists() else []
    return [(row["measure"], row["method"], int(row["seed"]), int(row["queries"]), float(row["value"])) for row in rows]


def place(line: Line) -> tuple[str, int, int, int]:
    """Return what lines are ordered by: by measure, the methods as they are listed."""
    methods = (*OURS, *PEERS)
    return line[0], methods.index(line[1]) if line[1] in methods else len(methods), line[2], line[3]


if __name__ == "__main__":
    main()
