"""Which networks were met before: a set of gene rows as sorted 64-bit hashes."""

import numpy as np
from numpy.typing import NDArray

MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # odd, bits well spread: 2^64 over the golden ratio
SHIFT = np.uint64(32)


def row_hashes(genes: NDArray[np.integer]) -> NDArray[np.uint64]:
    """Return one 64-bit hash a row, ``(n,)``. Among a million different rows, two collide with probability 3e-8."""
    width = genes.shape[1] * genes.itemsize
    padded = np.zeros((len(genes), -(-width // 8) * 8), np.int8)
    padded[:, :width] = np.ascontiguousarray(genes).view(np.int8).reshape(len(genes), width)
    hashes = np.zeros(len(genes), np.uint64)
    for word in padded.view(np.uint64).T:
        hashes ^= word
        hashes *= MULTIPLIER
        hashes ^= hashes >> SHIFT
    return hashes * MULTIPLIER


class Seen:
    """The rows met so far. Sorted runs that double in length: n rows cost O(n log n) in all, and no loop over rows."""

    def __init__(self) -> None:
        self._runs: list[NDArray[np.uint64]] = []

    def __len__(self) -> int:
        return sum(len(run) for run in self._runs)

    def claim(self, genes: NDArray[np.int8], limit: int) -> NDArray[np.int8]:
        """Return the first ``limit`` distinct rows that were not met before, in their order, and remember them.

        Args:
            genes: Canonical rows ``(n, num_genes)``.
            limit: The most rows to take; those beyond it count as not met.
        """
        hashes, first = np.unique(row_hashes(genes), return_index=True)
        chosen = np.flatnonzero(self._lacks(hashes))
        chosen = chosen[np.argsort(first[chosen])][:limit]
        self._add(np.sort(hashes[chosen]))
        return genes[first[chosen]]

    def unmet(self, genes: NDArray[np.int8]) -> NDArray[np.int8]:
        """Return the rows ``(n, num_genes)`` that were not met before, in their order."""
        return genes[self._lacks(row_hashes(genes))]

    def _lacks(self, hashes: NDArray[np.uint64]) -> NDArray[np.bool_]:
        new = np.ones(len(hashes), bool)
        for run in self._runs:
            at = np.searchsorted(run, hashes)
            at[at == len(run)] = 0
            new &= run[at] != hashes
        return new

    def _add(self, run: NDArray[np.uint64]) -> None:
        while self._runs and len(self._runs[-1]) < 2 * len(run):
            run = np.sort(np.concatenate([self._runs.pop(), run]), kind="stable")
        if len(run):
            self._runs.append(run)
