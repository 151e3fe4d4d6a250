"""Candidates scored a second and solution quality: ours against the `ofa` package's EvolutionFinder. See README.md.

    python experiments/benchmarks/search_speed/run.py

Seconds are CPU seconds of this process, which has one thread: what else runs on the machine counts less.
"""

import argparse
import contextlib
import io
import os
import random
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits

from nas.errors import InfeasibleError
from nas.search import Problem, Scored, search
from nas.search.loop import BUDGET
from predictors.accuracy import AccuracyPredictor
from predictors.latency import LatencyPredictor
from search_spaces import Genes, get_space

try:
    from ofa.nas.search_algorithm import EvolutionFinder
    from same_task import Architecture, SameTask
except ImportError as error:
    sys.exit(f"{error}: the peer is not installed; pip install 'hwnas[peers]'")

POPULATION = 100  # and 25 % parents, half mutated, half crossed: the package's defaults
LIMIT_QUANTILE = 0.2  # of random candidates' latencies
SHORT = 8_000  # candidates: a budget that has a population of 100 too
SHORTLY = f"ours, {SHORT:,} candidates"


class Counted:
    """The task as the package's search sees it, keeping count and the distinct networks scored."""

    def __init__(self, task: SameTask, most: int | None = None) -> None:
        self.task, self.most = task, most
        self.arch_encoder = task.encoder
        self.looked_up = self.scored = 0
        self.batches: list[list[Architecture]] = []

    def get_efficiency(self, architecture: Architecture) -> float:
        """Look the latency up; give up after ``most`` candidates."""
        self.looked_up += 1
        if self.most is not None and self.looked_up > self.most:
            raise TimeoutError
        return self.task.get_efficiency(architecture)

    @torch.no_grad()
    def predict_acc(self, architectures: list[Architecture]) -> torch.Tensor:
        """Score by the package's own predictor."""
        self.scored += len(architectures)
        self.batches.append(architectures)
        return self.task.perceptron.predict_acc(architectures)

    def distinct(self) -> int:
        """Return how many different networks were scored."""
        networks = set()
        for architecture in (one for batch in self.batches for one in batch):
            depths = architecture["d"]
            there = [block for block in range(20) if block % 4 < depths[block // 4]]
            kept = tuple((architecture["ks"][block], architecture["e"][block]) for block in there)
            networks.add((architecture["image_size"], tuple(depths), kept))
        return len(networks)


@dataclass
class Line:
    """One row of the table, a value for each seed."""

    seconds: list[float] = field(default_factory=list)
    scored: list[int] = field(default_factory=list)
    distinct: list[int] = field(default_factory=list)
    accuracy: list[float] = field(default_factory=list)
    to_peer: list[float] = field(default_factory=list)

    @property
    def rates(self) -> list[float]:
        """Candidates scored a second."""
        return [scored / seconds for scored, seconds in zip(self.scored, self.seconds, strict=True)]


def run_ofa(task: SameTask, limit: float, generations: int, seed: int, line: Line) -> None:
    """Run the package's search; scored candidates are those that its accuracy predictor saw."""
    random.seed(seed)
    np.random.seed(seed)
    counted = Counted(task)
    finder = EvolutionFinder(counted, counted, population_size=POPULATION, max_time_budget=generations)
    started = time.process_time()
    with contextlib.redirect_stdout(io.StringIO()):
        _, best = finder.run_evolution_search(limit, verbose=False)
    line.seconds.append(time.process_time() - started)
    line.scored.append(counted.scored)
    line.distinct.append(counted.distinct())
    line.accuracy.append(best[0])


def run_ours(problem: Problem, budget: int, seed: int, line: Line, target: float) -> None:
    """Run our search; also note when it first reached ``target``."""
    reached: list[float] = []

    def progress(evaluated: int, front: Scored) -> None:
        if not reached and len(front) and front.scores["accuracy"].max() >= target:
            reached.append(time.process_time() - started)

    started = time.process_time()
    result = search(problem, budget=budget, seed=seed, progress=progress)
    line.seconds.append(time.process_time() - started)
    line.scored.append(result.evaluated)
    line.distinct.append(len(np.unique(result.history.genes, axis=0)))
    line.accuracy.append(result.best().scores["accuracy"])
    line.to_peer.append(reached[0] if reached else float("inf"))


def spread(values: Sequence[float], form: Callable[[float], str]) -> str:
    """Return the median and, in brackets, the least and the greatest."""
    return f"{form(statistics.median(values))} [{form(min(values))} … {form(max(values))}]"


def compare(task: SameTask, seeds: int, generations: int) -> dict[str, Line]:
    """Run all searches of all seeds, one after the other, seed by seed."""
    latencies = task.latency(task.space.sample(10_000, np.random.default_rng(0)))
    limit = float(np.quantile(latencies, LIMIT_QUANTILE))
    budget = POPULATION * (generations + 1)
    problem = Problem(
        task.space, {"accuracy": "max"}, {"latency_ms": (None, limit)}, task.evaluate,
        screen=lambda genes: {"latency_ms": task.latency(genes)},
    )  # fmt: skip
    front = Problem(task.space, {"accuracy": "max", "latency_ms": "min"}, {}, task.evaluate)
    print(
        f"best accuracy within {limit:.3f} ms; {task.space.size:.2e} networks; {seeds} seeds; CPU seconds, one thread"
    )
    names = ("ofa", SHORTLY, "ours, as many candidates", "ours, as many seconds", "ours, whole front")
    lines = {name: Line() for name in names}
    search(problem, budget=5_000)  # warm up
    for seed in range(seeds):
        run_ofa(task, limit, generations, seed, lines["ofa"])
        peer = lines["ofa"].accuracy[-1]
        run_ours(problem, SHORT, seed, lines[SHORTLY], peer)
        equal = lines["ours, as many candidates"]
        run_ours(problem, budget, seed, equal, peer)
        as_long = int(equal.rates[-1] * lines["ofa"].seconds[-1])
        run_ours(problem, as_long, seed, lines["ours, as many seconds"], peer)
        run_ours(front, budget, seed, lines["ours, whole front"], float("inf"))
        print(f"  seed {seed}: ofa {lines['ofa'].seconds[-1]:.1f} s, ours {equal.seconds[-1]:.2f} s", flush=True)
    lines["ours, whole front"].accuracy = []
    return lines


def report(lines: dict[str, Line]) -> None:
    """Print the table and the ratios."""
    for name, line in lines.items():
        print(f"\n{name}")
        print(f"  candidates scored  {spread(line.scored, lambda n: f'{n:,.0f}')}")
        print(f"  of them distinct   {spread(line.distinct, lambda n: f'{n:,.0f}')}")
        print(f"  seconds            {spread(line.seconds, lambda s: f'{s:.2f}')}")
        print(f"  candidates/second  {spread(line.rates, lambda r: f'{r:,.0f}')}")
        if line.accuracy:
            print(f"  best accuracy      {spread(line.accuracy, lambda a: f'{a:.5f}')}")
        if line.accuracy and line.to_peer:
            print(f"  s to ofa's best    {spread(line.to_peer, lambda s: f'{s:.3f}')}  (inf: not reached)")
    ofa, equal = lines["ofa"], lines["ours, as many candidates"]
    faster = [ours / theirs for ours, theirs in zip(equal.rates, ofa.rates, strict=True)]
    fresh = [
        rate * (ours_new / ours_all) / (theirs_new / theirs_all)
        for rate, ours_new, ours_all, theirs_new, theirs_all in zip(
            faster, equal.distinct, equal.scored, ofa.distinct, ofa.scored, strict=True
        )
    ]
    sooner = {
        name: [theirs / ours for ours, theirs in zip(lines[name].to_peer, ofa.seconds, strict=True)]
        for name in (SHORTLY, "ours, as many candidates", "ours, as many seconds")
    }
    print("\nratios, seed by seed")
    print(f"  candidates a second, ours / ofa                    {spread(faster, lambda r: f'{r:.1f}')}")
    print(f"  distinct networks a second, ours / ofa             {spread(fresh, lambda r: f'{r:.1f}')}")
    print("  seconds to the accuracy ofa ends with, ofa / ours (0: not reached)")
    for name, ratios in sooner.items():
        print(f"    {name:<49}{spread(ratios, lambda r: f'{r:.1f}')}")


def own_predictors(seeds: int) -> None:
    """Print the speed of what `nas search` runs: the default space, its predictors, the whole front."""
    space = get_space("fashion-mbv3")
    genes = space.sample(300, np.random.default_rng(0))
    codes = space.part_codes(genes).sum(axis=1)  # the figures that they are fitted to do not matter to their speed
    accuracy = AccuracyPredictor(space).fit(genes, 1 - 1 / (9 + codes))
    latency = LatencyPredictor(space).fit(genes, 0.1 + codes / 1000)

    def evaluate(population: Genes) -> dict[str, NDArray[np.floating]]:
        return {"accuracy": accuracy.predict(population).mean, "latency_ms": latency.predict(population).mean}

    problem = Problem(space, {"accuracy": "max", "latency_ms": "min"}, {}, evaluate)
    line = Line()
    for seed in range(seeds):
        run_ours(problem, BUDGET, seed, line, float("inf"))
    print(f"\nfashion-mbv3, its own predictors, whole front, {BUDGET:,} candidates")
    print(f"  candidates/second  {spread(line.rates, lambda r: f'{r:,.0f}')}")


def infeasible(task: SameTask, most: int = 20_000) -> None:
    """Show what each does with a limit that nothing meets."""
    limit = 0.5
    counted = Counted(task, most)
    finder = EvolutionFinder(counted, counted)
    started = time.process_time()
    try:
        finder.run_evolution_search(limit)
    except TimeoutError:
        seconds = time.process_time() - started
        print(f"\nlimit {limit} ms, ofa: still drawing after {most:,} candidates, {seconds:.1f} s; it has no end")
    started = time.process_time()
    try:
        search(Problem(task.space, {"accuracy": "max"}, {"latency_ms": (None, limit)}, task.evaluate), budget=most)
    except InfeasibleError as error:
        print(f"limit {limit} ms, ours: after {time.process_time() - started:.1f} s: {error}")


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=5, help="searches of each kind (default 5)")
    parser.add_argument("--generations", type=int, default=500, help="of the package's search (default 500, its own)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):  # numpy's matrix products too
        task = SameTask()
        report(compare(task, options.seeds, options.generations))
        own_predictors(options.seeds)
        infeasible(task)
    print(f"load of the machine over the last five minutes: {os.getloadavg()[1]:.1f} of {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
