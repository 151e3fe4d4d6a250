"""Other people's searches on the same problems, as they come: every trial counts, also one that repeats a network."""

import warnings

import numpy as np
import optuna

from nas.search import Problem
from nas.search.problem import Genes

SAMPLERS = {"nsgaii": "NSGAIISampler", "nsgaiii": "NSGAIIISampler", "tpe": "TPESampler", "gp": "GPSampler"}


def optuna_rows(problem: Problem, sampler: str, budget: int, seed: int) -> Genes:
    """Return the networks that a sampler of Optuna's scores with its defaults, in order."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
    study = optuna.create_study(
        sampler=getattr(optuna.samplers, SAMPLERS[sampler])(seed=seed),
        directions=["minimize"] * len(problem.objectives),
    )
    rows = []

    def objective(trial: optuna.Trial) -> tuple[float, ...]:
        space = problem.space
        row = [trial.suggest_categorical(f"edge_{gene}", range(n)) for gene, n in enumerate(space.cardinalities)]
        rows.append(row)
        scores = problem.score(np.array([row], np.int8))
        if problem.constraints:
            trial.set_constraint("violation", float(problem.violations(scores)[0]))
        return tuple(problem.losses(scores)[0].tolist())

    study.optimize(objective, n_trials=budget)
    return np.array(rows, np.int8)


def pymoo_rows(problem: Problem, budget: int, seed: int) -> Genes:
    """Return the networks that pymoo's NSGA-II scores on integers, with its defaults but a population of 20."""
    from pymoo.algorithms.moo.nsga2 import NSGA2
    from pymoo.core.problem import Problem as PymooProblem
    from pymoo.operators.crossover.sbx import SBX
    from pymoo.operators.mutation.pm import PM
    from pymoo.operators.repair.rounding import RoundingRepair
    from pymoo.operators.sampling.rnd import IntegerRandomSampling
    from pymoo.optimize import minimize

    rows: list[Genes] = []

    class Tabular(PymooProblem):  # type: ignore[misc]
        def _evaluate(self, x: np.ndarray, out: dict[str, np.ndarray]) -> None:
            genes = np.asarray(x, np.int8)
            rows.append(genes)
            scores = problem.score(genes)
            out["F"] = problem.losses(scores)
            if problem.constraints:
                out["G"] = problem.violations(scores)[:, None]

    space = problem.space
    tabular = Tabular(
        n_var=space.num_genes, n_obj=len(problem.objectives), n_ieq_constr=1 if problem.constraints else 0,
        xl=0, xu=space.cardinalities - 1, vtype=int,
    )  # fmt: skip
    algorithm = NSGA2(
        pop_size=20, sampling=IntegerRandomSampling(), crossover=SBX(repair=RoundingRepair(), vtype=float),
        mutation=PM(repair=RoundingRepair(), vtype=float),
    )  # fmt: skip
    minimize(tabular, algorithm, ("n_eval", budget), seed=seed, verbose=False)
    return np.concatenate(rows)[:budget]
