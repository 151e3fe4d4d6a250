"""Which configurations are tried, in search of the fastest that is accurate enough.

    bisection  the longest prefix of an order that meets the target, probes beyond it (accuracy need not be monotone),
               then local search by predicted latency; after Schaefer et al. (2023). Of each prefix those layers are
               left in fp32 that do not pay for their boundaries, so that only what is worth deploying is tried
    greedy     the layers of the order one by one, each kept if the target is still met; for comparison
    clado      the quadratic program of CLADO (Deng et al., 2023) at latency budgets that are bisected; pairs of layers
               beyond the plan's reach, which the paper measures too, count as 0

Each asks for the accuracy of one configuration at a time, of a bounded number.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import product

import numpy as np
from numpy.typing import NDArray

from nas.compression.clado import solve_program
from nas.compression.islands import IslandLatency, fastest_within
from nas.compression.layers import Mask
from nas.compression.order import Order
from nas.compression.trials import Attempts
from nas.registry import unknown_name

Floats = NDArray[np.float64]

PROBES = 3
"""Prefixes beyond the longest that met the target."""
PATIENCE = 4
"""Changes that local search tries before it gives up."""
BUDGET_STEPS = 8
"""Latency budgets that CLADO's program is solved for."""


@dataclass(frozen=True, eq=False)
class Question:
    """What is searched.

    Attributes:
        order: The layers, the least sensitive first.
        latency: Predicts configurations.
        attempts: Counts accuracies.
        losses: The increase of the loss by each layer alone and, off the diagonal, by pairs on top of that,
            ``(layers, layers)``; for CLADO.
    """

    order: Order
    latency: IslandLatency
    attempts: Attempts
    losses: Floats


def bisection(question: Question) -> None:
    """Bisect the order, probe beyond, and improve the best by single changes and swaps."""
    attempts, longest = question.attempts, len(question.order.places)

    def prefix(length: int) -> Mask:
        return fastest_within(question.latency, question.order.prefix(length))

    low, high = 0, longest + 1  # the empty prefix is fp32, and so is one that does not pay: both meet the target
    middle = longest
    while high - low > 1:
        low, high = (middle, high) if attempts.meets(prefix(middle), "bisection") else (low, middle)
        middle = (low + high) // 2
    best = low
    for length in range(low + 2, min(low + 1 + PROBES, longest) + 1):
        if attempts.meets(prefix(length), "probe"):
            best = length
    local_search(question, prefix(best))


def local_search(question: Question, mask: Mask) -> None:
    """Follow changes of one or two layers that are predicted to be faster and meet the target.

    They are tried in the order of how much sensitivity each adds for a millisecond that it saves; ``PATIENCE`` that
    fail in a row end it.
    """
    better: Mask | None = mask
    while better is not None:
        mask = better
        promising = _moves(question, mask)[:PATIENCE]
        better = next((move for move in promising if question.attempts.meets(move, "swap")), None)


def _moves(question: Question, mask: Mask) -> list[Mask]:
    """Return the configurations near ``mask`` that are predicted to be faster, the most promising first."""
    places = question.order.places
    inside = [None, *(place for place in places if mask[place])]
    outside = [None, *(place for place in places if not mask[place])]
    now, found = question.latency.predict(mask), []
    for leaving, entering in product(inside, outside):
        changed = {place for place in (leaving, entering) if place is not None}
        move = tuple(one != (place in changed) for place, one in enumerate(mask))
        saved = now - question.latency.predict(move)
        if changed and saved > 0:
            added = sum((1 if place == entering else -1) * question.order.scores[place] for place in changed)
            found.append((added / saved if added > 0 else added * saved, move))  # what is safer comes first
    return [move for _, move in sorted(found, key=lambda pair: pair[0])]


def greedy(question: Question) -> None:
    """Add the layers of the order one by one."""
    mask: Mask = (False,) * len(question.order.scores)
    for place in question.order.places:
        more = tuple(one or number == place for number, one in enumerate(mask))
        mask = more if question.attempts.meets(more, "greedy") else mask


def clado(question: Question) -> None:
    """Bisect the latency that CLADO's program must save."""
    places = np.array(question.order.places)
    losses = question.losses[np.ix_(places, places)]
    gains = question.latency.gains[places]
    low, high = 0.0, float(gains.clip(min=0).sum())
    share = high
    for _ in range(BUDGET_STEPS):
        chosen = solve_program(losses, gains, share)
        mask = np.zeros(len(question.order.scores), bool)
        mask[places] = chosen
        low, high = (share, high) if question.attempts.meets(tuple(mask.tolist()), "clado") else (low, share)
        if low == high:
            break
        share = (low + high) / 2


STRATEGIES: dict[str, Callable[[Question], None]] = {"bisection": bisection, "greedy": greedy, "clado": clado}


def mixed_strategy(name: str) -> Callable[[Question], None]:
    """Return the strategy of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in STRATEGIES:
        raise unknown_name("strategy", name, STRATEGIES)
    return STRATEGIES[name]
