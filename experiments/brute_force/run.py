"""How often evolution finds the best network there is, where brute force can say which that is; see README.md.

    python experiments/brute_force/run.py [--device cpu] [--seeds 20]

Writes ``results.csv`` and ``README.md``. Scores are predicted: by the accuracy predictor that ships with
``fashion-mbv3`` and by the device's calibration, which is made where there is none.
"""

import argparse
import time
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from part import Part
from threadpoolctl import threadpool_limits

from latency_tables import get_device
from nas.export.scoring import beside, calibrated, load_accuracy_predictor, open_supernet, scorer_of
from nas.files import read_csv, write_bytes, write_csv
from nas.search import Problem, search
from nas.search.problem import Genes, Scores
from search_spaces import get_space
from supernets.weights import supernet_folder

HERE = Path(__file__).parent
SPACE = "fashion-mbv3"
FREE = ("resolution", "stem.precision", "head.precision", "depth_", "_0.kernel", "_0.expand")
LIMITS = (0.05, 0.2, 0.5)  # quantiles of all latencies
BUDGET = 200_000
COLUMNS = ("problem", "limit_ms", "seed", "best", "found", "rank", "seconds")
HEAD = """# The best network, found or not

Of `fashion-mbv3`, {size:,} networks: resolution, depths, precision of stem and head, kernel and expansion of each
stage's first block free, all else as in the largest. All are predicted ({seconds:.0f} s), so that the most accurate
within a latency is known; then `evolution` looks for it with {budget:,} candidates, {share:.0%} of them. Latencies are
the calibration's of `{device}`. *One objective* searches the most accurate within the limit; *whole front* searches
accuracy against latency, once for all limits, as `nas search` does. Made by `python experiments/brute_force/run.py
--device {device} --seeds {seeds}`.

| problem | limit | found the best | worst rank | seconds a search |
|---|---|---|---|---|
"""


def part_of(name: str, precisions: Sequence[str]) -> Part:
    """Return the part of a space that is enumerated."""
    space = get_space(name, precisions)
    free = [number for number, gene in enumerate(space.gene_names) if any(piece in gene for piece in FREE)]
    return Part(space, np.asarray(space.largest(), np.int8).reshape(-1), tuple(free))


def enumerate_all(part: Part, problem: Problem) -> tuple[Scores, int]:
    """Return the scores of every network, and how many there are."""
    parts = [problem.score(rows) for rows in part.everything()]
    scores = {name: np.concatenate([one[name] for one in parts]) for name in parts[0]}
    return scores, len(scores["accuracy"])


def lines_of(problem: Problem, limits: Sequence[float], truth: Scores, seed: int) -> list[tuple[object, ...]]:
    """Return a line for each limit, by the search for that limit alone and by the search for the whole front."""
    lines: list[tuple[object, ...]] = []
    started = time.process_time()
    front = search(problem, budget=BUDGET, seed=seed)
    seconds = time.process_time() - started
    for limit in limits:
        within = truth["accuracy"][truth["latency_ms"] <= limit]
        started = time.process_time()
        alone = search(
            Problem(problem.space, {"accuracy": "max"}, {"latency_ms": (None, limit)}, problem.evaluate),
            budget=BUDGET, seed=seed,
        )  # fmt: skip
        took = time.process_time() - started
        for name, found, spent in (
            ("whole front", front.best(latency_ms=limit), seconds),
            ("one objective", alone.best(), took),
        ):
            accuracy = found.scores["accuracy"]
            rank = 1 + int((within > accuracy + 1e-9).sum())
            lines.append((name, f"{limit:.5g}", seed, f"{within.max():.8g}", f"{accuracy:.8g}", rank, f"{spent:.2f}"))
    return lines


def write_report(folder: Path, **about: object) -> None:
    """Write ``README.md``."""
    rows = read_csv(folder / "results.csv", COLUMNS)
    lines = []
    for name in ("one objective", "whole front"):
        for limit in sorted({row["limit_ms"] for row in rows}, key=float):
            its = [row for row in rows if (row["problem"], row["limit_ms"]) == (name, limit)]
            ranks = np.array([int(row["rank"]) for row in its])
            seconds = np.median([float(row["seconds"]) for row in its])
            found = f"{(ranks == 1).sum()} of {len(ranks)}"
            lines.append(f"| {name} | {float(limit):.3g} ms | {found} | {ranks.max()} | {seconds:.2f} |")
    write_bytes(folder / "README.md", (HEAD.format(**about) + "\n".join(lines) + "\n").encode())


def main(arguments: Sequence[str] | None = None) -> None:
    """Enumerate, search and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--seeds", type=int, default=20)
    chosen = parser.parse_args(arguments)
    device, supernet = get_device(chosen.device), open_supernet(SPACE)
    part = part_of(SPACE, device.precisions)
    accuracy = load_accuracy_predictor(beside(supernet_folder(SPACE)), part.whole, supernet)
    scorer = scorer_of(accuracy, calibrated(device, part.whole, supernet, fresh=False))

    def evaluate(genes: Genes) -> Scores:
        return scorer.score(genes)

    problem = Problem(part, {"accuracy": "max", "latency_ms": "min"}, {}, evaluate)
    with threadpool_limits(1):
        started = time.process_time()
        truth, size = enumerate_all(part, problem)
        seconds = time.process_time() - started
        limits = np.quantile(truth["latency_ms"], LIMITS).tolist()
        lines = [line for seed in range(chosen.seeds) for line in lines_of(problem, limits, truth, seed)]
    write_csv(HERE / "results.csv", COLUMNS, lines)
    about = {"size": size, "seconds": seconds, "budget": BUDGET, "share": BUDGET / size}
    write_report(HERE, device=chosen.device, seeds=chosen.seeds, **about)


if __name__ == "__main__":
    main()
