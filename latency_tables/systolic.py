"""What a convolution costs on an accelerator like BitFusion (Sharma et al., ISCA 2018): modelled, never measured.

An array of fusion units multiplies 8-bit numbers, one a cycle each; a unit splits into parts for fewer bits, but only
at powers of two, so 4-bit weights double the rate, 4-bit weights and activations make it four times, and 6 bits run as
8. Memory moves the true number of bits. A layer is cut into tiles that fit half of each on-chip buffer (the other half
is being filled); loops over tiles in any order; a tile that an inner loop does not change stays where it is. Computing
and moving overlap but for the first and last tiles: a layer takes the longer of the two and that rest, by the tiles and
the order that take least. A depthwise layer uses a corner of the array, a few channels at a time.

Reimplemented from the published simulator's description; how well it gives the tables that APQ and HAQ searched with is
in ``experiments/bitfusion``, which also fits what is in ``tables/bitfusion.json``. Sums leave the array in 32 bits.
"""

from dataclasses import dataclass
from functools import lru_cache
from itertools import permutations
from math import ceil, log2
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.errors import FileFormatError
from nas.files import read_json

PARAMETERS = Path(__file__).parent / "tables" / "bitfusion.json"
SCHEMA, SCHEMA_VERSION = "hwnas accelerator", 1
UNIT_BITS, SUM_BITS = 8, 32

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Accelerator:
    """An accelerator's sizes and energies.

    Attributes:
        rows: Fusion units along the inputs of a sum.
        columns: Fusion units along the outputs.
        depthwise_channels: Channels of a depthwise layer worked on at once, at 8 bits.
        megahertz: Clock.
        memory_bits: Bits moved to or from memory in a cycle.
        weight_bytes: Size of the buffer of weights.
        input_bytes: Of activations.
        output_bytes: Of sums.
        cycle_picojoules: Energy of the array in a cycle that computes.
        memory_picojoules: Of a bit to or from memory.
        buffer_picojoules: Of a bit that the array takes from a buffer.
    """

    rows: int
    columns: int
    depthwise_channels: int
    megahertz: float
    memory_bits: int
    weight_bytes: int
    input_bytes: int
    output_bytes: int
    cycle_picojoules: float
    memory_picojoules: float
    buffer_picojoules: float

    def rate(self, weight_bits: int, activation_bits: int) -> int:
        """Return how many products a fusion unit makes in a cycle."""
        return max(1, UNIT_BITS // weight_bits) * max(1, UNIT_BITS // activation_bits)


@dataclass(frozen=True)
class Layer:
    """A convolution with square kernel, map and stride, or a matrix product: one of kernel and side 1, and ``rows``.

    ``groups`` is 1, or the number of channels of a depthwise layer.
    """

    kernel: int
    stride: int
    side: int
    width_in: int
    width_out: int
    groups: int = 1
    rows: int = 1


@dataclass(frozen=True)
class Work:
    """What a layer amounts to: cycles in all, cycles of computing, bits to and from memory, bits from buffers."""

    cycles: int
    computing: int
    memory_bits: int
    buffer_bits: int

    def milliseconds(self, accelerator: Accelerator) -> float:
        """Return the latency."""
        return self.cycles / accelerator.megahertz / 1e3

    def millijoules(self, accelerator: Accelerator) -> float:
        """Return the energy."""
        amounts = (self.computing, self.memory_bits, self.buffer_bits)
        costs = (accelerator.cycle_picojoules, accelerator.memory_picojoules, accelerator.buffer_picojoules)
        return sum(amount * cost for amount, cost in zip(amounts, costs, strict=True)) * 1e-9


@lru_cache(maxsize=100_000)
def work(layer: Layer, weight_bits: int, activation_bits: int, accelerator: Accelerator) -> Work:
    """Return what a layer amounts to, by the tiles and the order of loops that take the fewest cycles."""
    rate = accelerator.rate(weight_bits, activation_bits)
    if layer.groups == 1:
        rows, columns, times = accelerator.rows * rate, accelerator.columns, 1
        width_in, width_out = layer.width_in, layer.width_out
    else:
        width_in = width_out = rows = columns = accelerator.depthwise_channels * rate
        times = -(-layer.groups // width_in)
    tiles = _Tiles(layer, width_in, width_out, rows, columns, weight_bits, activation_bits, accelerator)
    cycles, computing, memory = tiles.best()
    buffer_bits = layer.rows * layer.side**2 * layer.kernel**2 * width_in * width_out * (weight_bits + activation_bits)
    return Work(times * cycles, times * computing, times * memory, times * buffer_bits)


class _Tiles:
    """All ways to cut one dense convolution, as arrays ``(ways,)``."""

    def __init__(
        self,
        layer: Layer,
        width_in: int,
        width_out: int,
        rows: int,
        columns: int,
        weight_bits: int,
        activation_bits: int,
        accelerator: Accelerator,
    ) -> None:
        across = layer.rows if layer.side == 1 else layer.side  # rows are cut as they are, maps along both sides
        cuts = np.meshgrid(_cuts(across), _cuts(width_in), _cuts(width_out, columns), indexing="ij")
        cut, ins, outs = (cut.ravel() for cut in cuts)
        power = 1 if layer.side == 1 else 2
        taps, places = layer.kernel**2, cut**power
        seen = (layer.kernel + (cut - 1) * layer.stride) ** 2 if layer.side > 1 else cut * taps
        self.bandwidth = accelerator.memory_bits
        # loops: over places of the map, over inputs, over outputs
        self.trips = np.stack([_up(across, cut) ** power, _up(width_in, ins), _up(width_out, outs)])
        steps = places * taps * _up(ins, rows) * _up(outs, columns)
        self.computing = self.trips.prod(axis=0) * steps
        self.sizes = {  # of a tile, which loops change it, and what fits
            "weights": (_up(taps * ins, rows) * rows * outs * weight_bits, (1, 2), accelerator.weight_bytes * 4),
            "inputs": (seen * ins * activation_bits, (0, 1), accelerator.input_bytes * 4),
            "sums": (places * outs * SUM_BITS, (0, 2), accelerator.output_bytes * 4),
        }
        self.fits = np.logical_and.reduce([size <= room for size, _, room in self.sizes.values()])

    def best(self) -> tuple[int, int, int]:
        """Return cycles, cycles of computing, and bits of memory of the best way."""
        found = []
        for order in permutations(range(3)):
            moved, first = zip(*(self._moved(order, *tile) for tile in self.sizes.values()), strict=True)
            ends = [sum(first), first[-1]]  # what is read before computing begins, and written after it ends
            memory = sum(moved) + moved[-1]  # sums are read and written
            rest = _up(memory - sum(ends), self.bandwidth)
            cycles = np.maximum(self.computing, rest) + sum(_up(end, self.bandwidth) for end in ends)
            cycles = np.where(self.fits, cycles, np.iinfo(np.int64).max)
            way = int(np.lexsort((memory, cycles))[0])
            found.append((int(cycles[way]), int(self.computing[way]), int(memory[way])))
        return min(found, key=lambda one: (one[0], one[2]))

    def _moved(
        self, order: tuple[int, ...], size: Integers, changes: tuple[int, ...], room: int
    ) -> tuple[Integers, Integers]:
        """Return the bits of one kind of tile that are moved, and those that a buffer holds at the beginning."""
        moved, first, held = size, size, np.ones(len(size), np.bool_)
        for loop in reversed(order):  # from the innermost: while it fits, a tile is moved once for all of a loop
            if loop in changes:
                moved = moved * self.trips[loop]
                held = held & (moved <= room)
                first = np.where(held, moved, first)
            else:
                moved = np.where(held, moved, moved * self.trips[loop])
        return moved, first


def _cuts(size: int, unit: int = 1) -> Integers:
    """Return the sizes that a dimension is cut to: ``unit``, twice that and so on, and all of it."""
    steps = ceil(log2(max(1, -(-size // unit)))) + 1
    return np.unique(np.minimum(unit << np.arange(steps), size)).astype(np.int64)


def _up(amount: Any, unit: Any) -> Any:
    """Divide and round up."""
    return -(-amount // unit)


def load_accelerator(path: Path = PARAMETERS) -> Accelerator:
    """Read an accelerator's parameters.

    Raises:
        FileFormatError: The file is missing or damaged, or a parameter is missing, no number, or not above 0.
    """
    content = read_json(path, SCHEMA, SCHEMA_VERSION)
    found: dict[str, Any] = {}
    for name, kind in Accelerator.__annotations__.items():
        value = content.get(name)
        whole = isinstance(value, int) and not isinstance(value, bool)
        if not (whole or (kind is float and isinstance(value, float))) or not 0 < value < 1e9:  # type: ignore[operator]
            raise FileFormatError(
                f"{path}: {name} is {value!r:.40}; allowed: a number above 0; install the package again"
            )
        found[name] = value
    return Accelerator(**found)
