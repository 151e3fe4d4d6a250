"""Frames under background load: the switcher against every fixed network of one front; see README.md.

    nas search --device cpu --out nas-search
    python experiments/contention/run.py --bundles nas-search/bundles [--seconds 300]

Each frame is run by the switcher and by every fixed network in turn, in random order, so that all meet the same load.
Writes ``results.csv``, ``contention.png`` and ``README.md``.
"""

import argparse
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from contention_report import write_report
from load import Load

from nas.export import Bundle, Switcher, load_bundle
from nas.export.accuracy import matching_splits
from nas.export.choose import front_of
from nas.files import write_csv
from supernets.datasets import ImageSet

HERE = Path(__file__).parent
BATCH = 32  # images a frame: milliseconds, so that what else runs can get in between
PHASE_SECONDS = (4.0, 10.0)  # of one load
IDLE_FRAMES = 50
MOST = 5  # networks of the front, both ends among them
SWITCHER = "switcher"
COLUMNS = ("second", "load", "arm", "network", "latency_ms", "correct")


@dataclass(frozen=True)
class Phase:
    """So many busy processes until a second of the run."""

    load: int
    until: float


def phases(seconds: float, most: int, rng: np.random.Generator) -> list[Phase]:
    """Draw loads, none twice in a row, until the run ends."""
    drawn, now, load = [], 0.0, 0
    while now < seconds:
        now += float(rng.uniform(*PHASE_SECONDS))
        drawn.append(Phase(load, min(now, seconds)))
        load = int(rng.choice([other for other in range(most + 1) if other != load]))
    return drawn


def read_front(folder: Path) -> list[Bundle]:
    """Return the bundles under a folder that none dominates, by their reports, fastest first; ``MOST`` of many."""
    found = [load_bundle(report.parent) for report in sorted(folder.glob("*/report.json"))]
    measured = [bundle.report["measured"] for bundle in found]
    front = front_of([m["latency_ms"] for m in measured], [m["accuracy"] for m in measured])
    return [found[front[i]] for i in np.unique(np.linspace(0, len(front) - 1, MOST).round().astype(int))]


def frame(images: ImageSet, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Draw the images of a frame and their labels."""
    rows = rng.integers(len(images), size=BATCH)
    return images.images[rows].numpy(), images.labels[rows].numpy()


def idle_ms(bundle: Bundle, images: ImageSet) -> float:
    """Return the latency of a network while nothing else runs, the lowest decile."""
    alone, rng, seen = Switcher([bundle], 1.0), np.random.default_rng(0), []
    for _ in range(IDLE_FRAMES):
        alone.run(frame(images, rng)[0])
        seen.append(alone.latency_ms or 0.0)
    return float(np.quantile(seen, 0.1))


def measure(
    arms: dict[str, Switcher], images: ImageSet, plan: list[Phase], pause: float, seed: int
) -> list[tuple[float, int, str, str, float, float]]:
    """Return a line for each frame and arm."""
    rng, lines = np.random.default_rng(seed), []
    with Load(max(phase.load for phase in plan)) as load:
        started = time.monotonic()
        for phase in plan:
            load.set(phase.load)
            while (now := time.monotonic() - started) < phase.until:
                pictures, labels = frame(images, rng)
                for name in rng.permutation(list(arms)).tolist():
                    network = arms[name].bundle.candidate.id
                    correct = float((arms[name].run(pictures).argmax(1) == labels).mean())
                    lines.append((now, phase.load, name, network, arms[name].latency_ms or 0.0, correct))
                time.sleep(pause)
    return lines


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure and report."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bundles", type=Path, required=True, help="folder of one search's bundles")
    parser.add_argument("--seconds", type=float, default=300)
    parser.add_argument("--most-load", type=int, default=2 * (os.cpu_count() or 1), help="busy processes at most")
    parser.add_argument("--slack", type=float, default=1.5, help="objective: times the slowest network's idle latency")
    parser.add_argument("--pause", type=float, default=0.02, help="seconds between two frames")
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args(arguments)
    front = read_front(chosen.bundles)
    sizes = {bundle.preset.resolutions for bundle in front}
    images = matching_splits(None, front[0].images, max(max(size) for size in sizes)).test
    objective = chosen.slack * idle_ms(front[-1], images)
    arms = {SWITCHER: Switcher(front, objective)}
    arms |= {bundle.candidate.id: Switcher([bundle], objective) for bundle in front}
    plan = phases(chosen.seconds, chosen.most_load, np.random.default_rng(chosen.seed))
    lines = measure(arms, images, plan, chosen.pause, chosen.seed)
    write_csv(
        HERE / "results.csv", COLUMNS, [(f"{s:.2f}", n, *a, f"{ms:.3f}", f"{c:.4f}") for s, n, *a, ms, c in lines]
    )
    write_report(HERE, objective, SWITCHER)


if __name__ == "__main__":
    main()
