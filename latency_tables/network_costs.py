"""What whole networks cost besides time: multiply-adds, bytes of weights, and peak bytes of activations.

Sums, and for memory the largest, over the same parts that latencies are tables of, by lookups: exact, for any family
whose ``PartCosts`` says its parts' steps.

*Size* is what the exported file holds of weights: four bytes in floats; in int8 one, and four for the scale of each
output channel. Biases and layer norms take four bytes in both.

*Memory* is the most that is alive at once while one image runs: what a step reads and writes, and what waits for a sum;
activations and sums are in place. An element takes four bytes, in a bf16 or fp16 part two, in an int8 part one. A
runtime may need more (it pads channels and keeps buffers), never less with the same order of steps.
"""

import re
from collections.abc import Callable
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from latency_tables.costs import Images, Step, part_costs
from latency_tables.table import LatencyTable, Part
from search_spaces import Genes, SearchSpace

Floats = NDArray[np.float64]

BYTES = {"fp32": (4.0, 4.0), "fp16": (4.0, 2.0), "bf16": (4.0, 2.0), "int8": (1.0, 1.0)}
"""Of a weight in the file, which is written in fp32 or int8, and of an activation; w4a8 says its bits itself."""
FIGURES = ("macs_m", "size_mb", "memory_mb")


class NetworkCosts:
    """Costs of a space's networks, for some images.

    Args:
        space: The space, with the device's menu of precisions.
        images: Channels and classes.
    """

    def __init__(self, space: SearchSpace, images: Images):
        self.space = space
        self._costs = part_costs(space, images)

    def predict(self, genes: Genes, figure: str) -> Floats:
        """Return one figure of canonical rows ``(n, num_genes)``, ``(n,)``.

        Args:
            genes: The networks.
            figure: ``macs_m``, millions of multiply-adds; ``size_mb`` or ``memory_mb``, millions of bytes.
        """
        resolution, codes = self.space.resolution_index(genes), self.space.part_codes(genes)
        total = np.zeros(len(genes))
        for part, table in enumerate(self._tables[figure]):
            amounts = table[resolution, codes[:, part]]
            total = np.maximum(total, amounts) if figure == "memory_mb" else total + amounts
        return total / 1e6

    @cached_property
    def _tables(self) -> dict[str, list[Floats]]:
        """Each part's figure by resolution and code, from the same entries as a latency table's."""
        zeros = LatencyTable.zeros(self.space)
        shapes = [(len(array), array.shape[2]) for array in zeros.part_ms]
        tables = {figure: [np.zeros(shape) for shape in shapes] for figure in FIGURES}
        for part, _, (resolution, before, code) in zeros.entries():
            if before == 0:  # what precedes a part changes its time alone
                steps = self._costs.steps(part)
                for figure, amount in AMOUNTS.items():
                    tables[figure][part.number][resolution, code] = amount(part, steps)
        return tables


def _macs(part: Part, steps: list[Step]) -> float:
    return sum(step.macs for step in steps)


def _size(part: Part, steps: list[Step]) -> float:
    each, _ = _bytes(part)
    scale = 4 if each < 4 else 0
    return sum(
        each * (step.weights + step.constants) + scale * step.scales + 4 * (step.biases + step.floats) for step in steps
    )


def _memory(part: Part, steps: list[Step]) -> float:
    _, each = _bytes(part)
    return each * max(step.alive for step in steps)


def _bytes(part: Part) -> tuple[float, float]:
    precision = part.choice.precision
    if match := re.fullmatch(r"w(\d+)a(\d+)", precision):
        return int(match[1]) / 8, int(match[2]) / 8
    return BYTES[precision]


AMOUNTS: dict[str, Callable[[Part, list[Step]], float]] = {"macs_m": _macs, "size_mb": _size, "memory_mb": _memory}
