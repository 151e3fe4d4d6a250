"""In which order layers become int8: by their sensitivities, augmented with how neighbours act together.

Inter-layer-augmented, after Schaefer et al. (2023), whose exact pairwise formula is not published: with the increase
D of the loss on calibration images, I_ij = D_ij - D_i - D_j for layers that are near each other, and

    s_aug_i = s_i + strength x sum over j of I_ij

where I is brought to the scale of s by the ratio of their totals. The strength is the one of ``STRENGTHS`` whose order
loses least on calibration images along its way, at a quarter, a half and three quarters of the layers.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nas.compression.layers import Mask
from nas.compression.trials import Trials, only

Floats = NDArray[np.float64]

STRENGTHS = (0.0, 0.25, 0.5, 1.0, 2.0, 4.0)
STATIONS = (0.25, 0.5, 0.75)
"""The parts of an order at which its loss is looked at."""
REACH = 2
"""How many steps of the flow may lie between two layers that count as neighbours."""


@dataclass(frozen=True, eq=False)
class Order:
    """Layers in the order in which they become int8, and what it is based on.

    Attributes:
        places: The layers that run in integers, the least sensitive first.
        scores: What they are sorted by, ``(layers,)``.
        sensitivities: Without neighbours, ``(layers,)``.
        strength: Of the interactions.
        trail: Each strength that was tried, and the mean loss along its order.
    """

    places: tuple[int, ...]
    scores: Floats
    sensitivities: Floats
    strength: float
    trail: tuple[tuple[float, float], ...] = ()

    def prefix(self, length: int) -> Mask:
        """Return the configuration with the first ``length`` of them in int8."""
        return only(self.places[:length], len(self.scores))


def interactions(
    trials: Trials, singles: Floats, reach: int = REACH, progress: Callable[[int, int], None] = lambda done, total: None
) -> Floats:
    """Measure how neighbouring layers act together: I_ij, symmetric, zero where they are far, ``(layers, layers)``.

    Args:
        trials: Gives the losses.
        singles: The increase of the loss by each layer alone, ``(layers,)``.
        reach: Steps of the flow between neighbours, at most.
        progress: Called with (pairs measured, pairs).
    """
    count = len(singles)
    near = np.triu(trials.graph.distances() <= reach, 1)
    possible = np.array(trials.possible)
    pairs = np.argwhere(near & possible[:, None] & possible[None]).tolist()
    plain = trials.loss(only([], count))
    found = np.zeros((count, count))
    for done, (one, other) in enumerate(pairs, start=1):
        together = trials.loss(only([one, other], count)) - plain
        found[one, other] = found[other, one] = together - singles[one] - singles[other]
        progress(done, len(pairs))
    return found


def plain_order(scores: Floats, possible: Mask) -> Order:
    """Return the order by sensitivities alone."""
    return Order(_sorted(scores, possible), scores, scores, 0.0)


def augmented_order(
    sensitivities: Floats, singles: Floats, pairs: Floats, trials: Trials, strengths: Sequence[float] = STRENGTHS
) -> Order:
    """Return the order with neighbours taken into account, its strength chosen on calibration images.

    Args:
        sensitivities: ``(layers,)``.
        singles: The measured increase of the loss by each layer alone, ``(layers,)``: the scale of ``pairs``.
        pairs: What ``interactions`` found.
        trials: Gives the losses.
        strengths: To choose from; the first of those that do equally well is taken.
    """
    able = np.array(trials.possible)  # what stays in fp32 has a sensitivity, but loses nothing
    scale = np.abs(sensitivities[able]).sum() / max(np.abs(singles[able]).sum(), np.finfo(np.float64).tiny)
    orders, trail = [], []
    for strength in strengths:
        scores = sensitivities + strength * scale * pairs.sum(axis=1)
        order = Order(_sorted(scores, trials.possible), scores, sensitivities, strength)
        lengths = [round(part * len(order.places)) for part in STATIONS]
        orders.append(order)
        trail.append((strength, float(np.mean([trials.loss(order.prefix(length)) for length in lengths]))))
    best = orders[int(np.argmin([loss for _, loss in trail]))]
    return Order(best.places, best.scores, sensitivities, best.strength, tuple(trail))


def _sorted(scores: Floats, possible: Mask) -> tuple[int, ...]:
    return tuple(int(place) for place in np.argsort(scores, kind="stable") if possible[place])
