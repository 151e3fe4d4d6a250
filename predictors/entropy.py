"""How much a network could express, told from its shape alone: the entropy of MAE-NAS (Sun et al., 2022; DAMO-YOLO).

The entropy of a stage's features is the sum of a term for each layer on the way there, ``log sqrt(Cin k²)``, of a
depthwise one ``log sqrt(k²)``, plus ``log C`` of what the stage ends in. The score is a sum over scales, the stages of
one resolution counted once, at their end: 6 times the last one's and once the two before it.

Departures: the features count with their pixels too, ``log (C side²)``, as in DeepMAD (Shen et al., 2023), because here
the resolution is chosen; at one resolution that is a constant. The head is left out: every network has the same.
Layers of eight bits and more differ in nothing that the score sees, so no precision has a term.
"""

import re
from functools import cached_property
from math import log

import numpy as np
from numpy.typing import NDArray

from latency_tables.costs import Images, Step, part_costs
from latency_tables.table import LatencyTable
from search_spaces import Genes, SearchSpace

WEIGHTS = (1.0, 1.0, 6.0)  # of the last scales; of those before them, none
BLOCK = re.compile(r"block_(\d+)_\d+")

Floats = NDArray[np.float64]


def layer_term(step: Step) -> float:
    """Return what a step adds: the logarithm of by how much a layer of unit weights spreads unit inputs, or 0."""
    if step.beside or not step.weights:
        return 0.0
    return 0.5 * log(step.weights / step.scales)  # weights of one output: those that it sums over


class Entropy:
    """Scores the networks of a space of any family, by lookups.

    Args:
        space: The space.
    """

    def __init__(self, space: SearchSpace):
        self.space = space
        stages = [0 if name == "stem" else int(BLOCK.fullmatch(name)[1]) for name in space.part_names[:-1]]  # type: ignore[index]
        strides = [stage.stride for stage in space.preset.stages]
        ends = [number for number in range(len(strides)) if number + 1 == len(strides) or strides[number + 1] > 1]
        self._weights = np.array(WEIGHTS[-len(ends) :])
        begins = [stages.index(stage, 1) for stage in range(len(strides))] + [len(stages)]
        self._after = np.array([begins[end + 1] for end in ends[-len(self._weights) :]])  # the part after each scale

    def score(self, genes: Genes) -> Floats:
        """Return the entropy of canonical rows ``(n, num_genes)``, ``(n,)``."""
        resolution, codes = self.space.resolution_index(genes), self.space.part_codes(genes)
        terms, features = self._tables
        sums = np.cumsum([table[codes[:, part]] for part, table in enumerate(terms)], axis=0)
        ended = np.stack([features[part][resolution, codes[:, part]] for part in self._after])
        return np.asarray(self._weights @ (sums[self._after - 1] + ended))

    @cached_property
    def _tables(self) -> tuple[list[Floats], list[Floats]]:
        """Each part's sum of terms by code, and by resolution and code the logarithm of the features that enter it."""
        costs = part_costs(self.space, Images(self.space.preset.channels, self.space.preset.classes))
        zeros = LatencyTable.zeros(self.space)
        shapes = [(len(array), array.shape[2]) for array in zeros.part_ms]
        terms, features = ([np.zeros(shape) for shape in shapes] for _ in range(2))
        for part, _, (resolution, before, code) in zeros.entries():
            if before == 0:
                terms[part.number][resolution, code] = sum(map(layer_term, costs.steps(part)))
            if before == 0 and part.number in self._after:
                channels, side = costs.entering(part)
                features[part.number][resolution, code] = log(channels * side**2)
        return [table[0] for table in terms], features
