"""Training steps and measured subnets a minute: ours against the `ofa` package, on the same weights. See README.md.

    python experiments/benchmarks/supernet_speed/run.py

Seconds are CPU seconds of this process, which has one thread: what else runs on the machine counts less.
"""

import argparse
import functools
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch

from latency_tables.fingerprint import describe_cpu
from search_spaces import Candidate
from supernets import Supernet
from supernets.datasets import ImageSet

try:
    from sides import (
        CLASSES,
        SIDE,
        OurSteps,
        TheirAccuracy,
        TheirSteps,
        our_accuracy,
        photographs,
        spread,
        two_supernets,
    )
except ImportError as error:
    sys.exit(f"{error}: the peer is not installed; pip install 'hwnas[peers]'")

BATCH = 32
LOSS_TOLERANCE = 1e-3  # relative; both sides round differently, and go on from what they rounded
ACCURACY_TOLERANCE = 0.01
Runs = dict[str, list[float]]
"""CPU seconds of each side, one value a network."""


def interleaved(work: dict[str, Callable[[], float]], turn: int, seconds: Runs) -> list[float]:
    """Do the same work on every side, another first at each turn; note the seconds and return the results."""
    names, results = list(work), {}
    for name in names[turn % len(names) :] + names[: turn % len(names)]:
        started = time.process_time()
        results[name] = work[name]()
        seconds[name].append(time.process_time() - started)
    return [results[name] for name in names]


def agree(what: str, results: list[float], tolerance: float) -> None:
    """End the program if a side computes something else than the first."""
    if max(results) - min(results) > tolerance:
        sys.exit(f"the sides disagree about the {what}: {', '.join(f'{result:.6g}' for result in results)}")


def train(candidates: list[Candidate], warm_up: int) -> Runs:
    """Time training steps on random images; the first ones are not counted."""
    sides = {"ofa": TheirSteps(two_supernets()[0], torch.contiguous_format)}
    sides["ofa in channels_last"] = TheirSteps(two_supernets()[0], torch.channels_last)
    steps = {**sides, "ours": OurSteps(two_supernets()[1])}
    seconds: Runs = {name: [] for name in steps}
    for turn, candidate in enumerate(candidates):
        images = torch.randn(BATCH, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(turn))
        labels = torch.from_numpy(np.random.default_rng(turn).integers(CLASSES, size=BATCH))
        work = {name: functools.partial(side.step, images, labels, candidate) for name, side in steps.items()}
        losses = interleaved(work, turn, seconds)
        agree("loss", losses, LOSS_TOLERANCE * losses[0])
    return {name: values[warm_up:] for name, values in seconds.items()}


def evaluate(candidates: list[Candidate], images: int) -> tuple[Runs, list[float]]:
    """Time accuracies of subnets, batch norms recalibrated, on crops that the largest subnet has labelled."""
    theirs, ours = two_supernets()
    calibration, validation = (labelled(photographs(images, seed), ours) for seed in (1, 2))
    labels = TheirAccuracy(theirs, ours, calibration, validation).logits(largest(ours)).argmax(1)
    validation = ImageSet(validation.images, labels, ours.info.classes)
    accuracies: list[float] = []
    with tempfile.TemporaryDirectory() as folder:
        measures = {
            "ofa": TheirAccuracy(theirs, ours, calibration, validation),
            "ours": our_accuracy(ours, calibration, validation, Path(folder)),
        }
        seconds: Runs = {name: [] for name in measures}
        for turn, candidate in enumerate(candidates):
            work = {name: functools.partial(measure, candidate) for name, measure in measures.items()}
            found = interleaved(work, turn, seconds)
            agree("accuracy", found, ACCURACY_TOLERANCE)
            accuracies.append(found[0])
    return seconds, accuracies


def labelled(images: torch.Tensor, net: Supernet) -> ImageSet:
    """Return images that are all of the first class."""
    return ImageSet(images, torch.zeros(len(images), dtype=torch.int64), net.info.classes)


def largest(net: Supernet) -> Candidate:
    """Return the largest subnet."""
    return net.space.candidate(net.space.largest("fp32"))


def report(what: str, seconds: Runs) -> None:
    """Print seconds, networks a minute and ratios, the median and in brackets the least and the greatest."""
    print(f"\n{what}")
    for name, values in seconds.items():
        rate = 60 / statistics.median(values)
        print(f"  {name:<21} {spread(values, '.3f')} s, {rate:.1f} a minute")
    for name, values in list(seconds.items())[:-1]:
        ratios = [theirs / ours for theirs, ours in zip(values, seconds["ours"], strict=True)]
        print(f"  {name + ' / ours':<28} {spread(ratios, '.2f')}")


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=10, help="subnets evaluated; twice as many train (default 10)")
    parser.add_argument("--images", type=int, default=400, help="to recalibrate on, and to validate (default 400)")
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(f"{describe_cpu()['cpu']}, one thread; torch {torch.__version__}")
    space, rng = two_supernets()[1].space, np.random.default_rng(0)
    rows = space.sample(2 * options.rounds + 2, rng)
    rows[:, 0] = space.resolutions.index(SIDE)
    candidates = [space.candidate(row) for row in rows]
    report(f"a training step, batch {BATCH}, 128 px", train(candidates, warm_up=2))
    seconds, accuracies = evaluate(candidates[: options.rounds], options.images)
    report(f"a subnet's accuracy, {options.images} images to recalibrate on and as many to validate", seconds)
    print(f"\nagreed: losses to {LOSS_TOLERANCE:g}, accuracies, {spread(accuracies, '.3f')}, to {ACCURACY_TOLERANCE:g}")
    print(f"load of the machine over the last five minutes: {os.getloadavg()[1]:.1f} of {os.cpu_count()} cores")


if __name__ == "__main__":
    main()
