"""MnasNet's reward, ``ACC · (LAT / T) ^ w`` (Tan et al., 2019), for any objectives and constraints.

The paper has two pairs of exponents for below and above T. The soft one, -0.07 on both sides, trades: T is then no more
than a scale, and is left out. The hard one, 0 below and -1 above, binds. Here every objective to be made small is soft
and every constraint hard. What is limited is not traded too: up to its limit it costs nothing.

Departures: several objectives to be made large are multiplied, and violations of several constraints are added.
"""

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from nas.search.problem import Problem

SOFT = -0.07  # doubling the latency is worth 5 % of accuracy: -log(1.05) / log(2)
LEAST = 1e-9  # what is below counts as this: powers and products want positive numbers


def rewards(problem: Problem, scores: Mapping[str, NDArray[np.float64]]) -> NDArray[np.float64]:
    """Return the reward of each candidate, ``(n,)``, above 0."""
    total = 1 / (1 + problem.violations(scores))  # (LAT / T) ^ -1 above a limit, 1 within
    for number, (name, direction) in enumerate(problem.objectives.items()):
        values = np.maximum(scores[name], LEAST)
        if direction == "max":
            total *= values
        elif number == 0 or name not in problem.constraints:
            total *= values**SOFT
    return total
