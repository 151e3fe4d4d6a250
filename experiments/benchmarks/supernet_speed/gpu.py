"""Training steps on one GPU: ours against the `ofa` package, on the same weights, in bfloat16. See README.md.

    python experiments/benchmarks/supernet_speed/gpu.py

Seconds are wall time of whole steps, ended by the loss on the host; each subnet takes one step first, whose time is
given apart, as a library may prepare for its shapes then. The share in which the GPU computes is the time of its
kernels, from the profiler, over the wall time of the same step without it.
"""

import argparse
import functools
import statistics
import sys
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F

from search_spaces import Candidate
from supernets import Supernet
from supernets.gated import GatedForward
from supernets.training.graphed import Recording

try:
    from sides import CLASSES, SIDE, OurSteps, TheirSteps, sgd, spread, two_supernets
except ImportError as error:
    sys.exit(f"{error}: the peer is not installed; pip install 'hwnas[peers]'")

WARM_UP = 4
Step = Callable[[torch.Tensor, torch.Tensor, Candidate], float]


class RecordedSteps:
    """Training steps here as ``nas train --cuda-graphs`` takes them."""

    def __init__(self, net: Supernet):
        self.net, self.optimizer, self.gated = net.train(), sgd(net), GatedForward(net)
        self.recording: Recording | None = None

    def step(self, images: torch.Tensor, labels: torch.Tensor, candidate: Candidate) -> float:
        """Take one step; return the loss before it."""
        inputs = images.contiguous(memory_format=torch.channels_last), labels
        inputs = (*inputs, self.gated.stack([candidate], images.device)[0])
        if self.recording is None:
            self.recording = Recording(self._learn, inputs, self.net)
        loss = self.recording.replay(inputs)
        self.optimizer.step()
        return float(loss)

    def _learn(self, images: torch.Tensor, labels: torch.Tensor, gates: torch.Tensor) -> torch.Tensor:
        with torch.autocast("cuda", torch.bfloat16, cache_enabled=False):
            loss = F.cross_entropy(self.gated(images, gates).float(), labels)
        loss.backward()
        return loss.detach()


def make_sides() -> dict[str, Step]:
    """Return what takes a step on each side; every side has its own copy of the same weights."""
    nets = [two_supernets() for _ in range(2)]
    return {
        "ofa": TheirSteps(nets[0][0].cuda(), torch.contiguous_format).step,
        "ofa in channels_last": TheirSteps(nets[1][0].cuda(), torch.channels_last).step,
        "ours": OurSteps(nets[0][1].cuda().to(memory_format=torch.channels_last)).step,
        "ours, CUDA graphs": RecordedSteps(nets[1][1].cuda().to(memory_format=torch.channels_last)).step,
    }


def batch(turn: int, size: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return random images ``(size, 3, SIDE, SIDE)`` and labels on the GPU."""
    images = torch.randn(size, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(turn)).cuda()
    return images, torch.from_numpy(np.random.default_rng(turn).integers(CLASSES, size=size)).cuda()


def seconds_of(step: Callable[[], float]) -> float:
    """Return the wall time of a step."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    with torch.autocast("cuda", torch.bfloat16):
        step()
    torch.cuda.synchronize()
    return time.perf_counter() - started


def kernel_seconds(step: Callable[[], float]) -> float:
    """Return how long the GPU computes in a step."""
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CUDA]) as profile:
        seconds_of(step)
    return sum(event.self_device_time_total for event in profile.key_averages()) / 1e6


def compare(candidates: list[Candidate], size: int) -> None:
    """Time each candidate's step on every side in turn and print medians, rates, shares and ratios."""
    sides = make_sides()
    seconds: dict[str, list[float]] = {name: [] for name in sides}
    firsts, shares = ({name: list[float]() for name in sides} for _ in range(2))
    for turn, candidate in enumerate(candidates):
        images, labels = batch(turn, size)
        names = list(sides)
        for name in names[turn % len(names) :] + names[: turn % len(names)]:
            step = functools.partial(sides[name], images, labels, candidate)
            firsts[name].append(seconds_of(step))
            seconds[name].append(seconds_of(step))
            if turn % 5 == 0:
                shares[name].append(kernel_seconds(step) / seconds[name][-1])
    print(f"\na training step of ofa-mbv3, batch {size}, {SIDE} px, bfloat16")
    for name, values in seconds.items():
        kept = values[WARM_UP:]
        rate = size / statistics.median(kept)
        print(f"  {name:<21} {spread(kept, '.4f')} s, {rate:,.0f} images/s, GPU busy {spread(shares[name], '.0%')}")
        print(f"  {'':<21} {spread(firsts[name][WARM_UP:], '.4f')} s where the subnet is met for the first time")
    for name in [name for name in sides if name != "ours"]:
        ratios = [theirs / ours for theirs, ours in zip(seconds[name], seconds["ours"], strict=True)][WARM_UP:]
        print(f"  {name + ' / ours':<28} {spread(ratios, '.2f')}")


def main() -> None:
    """Run everything and print it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=16, help="subnets timed at each batch size (default 16)")
    options = parser.parse_args()
    print(f"{torch.cuda.get_device_name()}; torch {torch.__version__}")
    space, rng = two_supernets()[1].space, np.random.default_rng(0)
    rows = space.sample(options.rounds + WARM_UP, rng)
    rows[:, 0] = space.resolutions.index(SIDE)
    candidates = [space.candidate(row) for row in rows]
    for size in (64, 256):
        compare(candidates, size)


if __name__ == "__main__":
    main()
