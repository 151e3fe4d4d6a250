"""The table and the picture of ``results.csv``."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.files import read_csv, write_bytes

COLUMNS = ("second", "load", "arm", "network", "latency_ms", "correct")
HEAD = """# A latency objective under background load

Frames of 32 Fashion-MNIST test images, {seconds:.0f} s in all, while up to {most} other processes multiply matrices;
how many changes every 4 to 10 s. Each frame runs in the switcher (`nas.export.Switcher`) and in every fixed network of
the same front. Objective: {objective:.1f} ms a frame. *Kept* is the share of images that are classified rightly and in
time. Made by `python experiments/contention/run.py --bundles DIR`, which also writes `results.csv`.

![The switcher's latencies over time, and every arm's frames in time against its accuracy](contention.png)

| | frames in time | accuracy | kept |
|---|---|---|---|
"""

Seen = dict[str, NDArray[np.float64]]


def write_report(folder: Path, objective_ms: float, switcher: str) -> None:
    """Write ``README.md`` and ``contention.png``."""
    rows = read_csv(folder / "results.csv", COLUMNS)
    arms = np.array([row["arm"] for row in rows])
    seen = {name: np.array([float(row[name]) for row in rows]) for name in ("second", "load", "latency_ms", "correct")}
    in_time = seen["latency_ms"] <= objective_ms
    figures = {
        arm: [
            100 * float(values[arms == arm].mean()) for values in (in_time, seen["correct"], in_time * seen["correct"])
        ]
        for arm in sorted(set(arms.tolist()))
    }
    fixed = sorted(figures.keys() - {switcher}, key=lambda arm: figures[arm][1])
    best = max(fixed, key=lambda arm: figures[arm][2])
    names = {switcher: switcher, **{arm: f"fixed {arm}" for arm in fixed}}
    lines = [
        f"| {name} | " + " | ".join(f"{value:.1f} %" for value in figures[arm]) + " |" for arm, name in names.items()
    ]
    gained = figures[switcher][2] - figures[best][2]
    lines.append(f"\nThe switcher keeps {gained:+.1f} points beside the best fixed network, {best}.")
    head = HEAD.format(seconds=seen["second"].max(), most=int(seen["load"].max()), objective=objective_ms)
    write_bytes(folder / "README.md", (head + "\n".join(lines) + "\n").encode())
    own = {name: values[arms == switcher] for name, values in seen.items()}
    plot(folder / "contention.png", own, {name: figures[arm] for arm, name in names.items()}, objective_ms)


def plot(path: Path, own: Seen, figures: dict[str, list[float]], objective_ms: float) -> None:
    """Draw both pictures: ``own`` is what the switcher saw, ``figures`` come switcher first."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    figure, (over_time, trade) = plt.subplots(1, 2, figsize=(11, 4), layout="constrained")
    over_time.scatter(own["second"], own["latency_ms"], s=4, c=own["load"], cmap="viridis")
    over_time.axhline(objective_ms, color="black", linestyle=":")
    over_time.set(yscale="log", xlabel="seconds", ylabel="switcher's ms a frame", title="colour: busy processes")
    for number, (name, (in_time, accuracy, _)) in enumerate(figures.items()):
        trade.scatter(in_time, accuracy, marker="o" if number else "*", label=name)
    trade.set(xlabel="% of frames in time", ylabel="accuracy, %")
    trade.legend(fontsize=7)
    figure.savefig(path, dpi=110)
    plt.close(figure)
