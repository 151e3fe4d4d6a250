"""Published networks with what somebody measured of them, so that methods can be judged on devices we do not own.

Nothing of them ships. A reader takes the folder that its files lie in, and says where they come from if it lacks them.
Adding one is one file here, one line of registration, and one line in its contract test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.errors import FileFormatError
from nas.registry import Registry

BENCHMARKS = Registry("benchmark")
BENCHMARKS.register("nasbench201", "nasbench.nasbench201:read_accuracies", "15,625 cells: accuracy on three data sets")
BENCHMARKS.register("help-nasbench201", "nasbench.help_latency:read_nasbench201", "those cells: latency on 21 settings")
BENCHMARKS.register("help-fbnet", "nasbench.help_latency:read_fbnet", "5,000 FBNet networks: latency on 19 settings")
BENCHMARKS.register("help-ofa", "nasbench.help_latency:read_ofa", "5,000 once-for-all subnets: latency on 9 settings")
BENCHMARKS.register("hw-nas-bench", "nasbench.hw_nas_bench:read_hw_nas_bench", "the cells: latency on edge devices")
BENCHMARKS.register("ofa-note10", "nasbench.ofa_table:read_note10", "once-for-all's blocks: latency on a phone")

Floats = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Benchmark:
    """``n`` networks, or blocks of networks, and what is known of them.

    Attributes:
        name: What ``get_benchmark`` calls it.
        source: The file of its networks.
        networks: How each is spelled, ``(n,)`` distinct texts; the reader says in which digits.
        accuracy: Fractions ``(n,)`` by what was trained and tested.
        latency_ms: Milliseconds ``(n,)`` by device, as measured or, where the reader says so, as estimated.
        amounts: What each network computes, ``(n, amounts)``, none negative: what latency may be regressed on.
        amount_names: What each amount counts.

    Raises:
        FileFormatError: A figure is missing or no number, an accuracy is outside 0 to 1, a latency is not positive, or
            a network is there twice.
    """

    name: str
    source: Path
    networks: tuple[str, ...]
    accuracy: Mapping[str, Floats]
    latency_ms: Mapping[str, Floats]
    amounts: Floats
    amount_names: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.networks or len(set(self.networks)) < len(self.networks):
            raise FileFormatError(f"{self.source}: it has no networks, or one twice; fetch its files again")
        shape = (len(self.networks), len(self.amount_names))
        if self.amounts.shape != shape or not (np.isfinite(self.amounts) & (self.amounts >= 0)).all():
            raise FileFormatError(f"{self.source}: amounts {self.amounts.shape}; allowed: {shape}, 0 or more")
        for what, values in self.accuracy.items():
            self._check(f"accuracy {what}", values, (values >= 0) & (values <= 1), "0 to 1")
        for device, values in self.latency_ms.items():
            self._check(f"latency of {device}", values, values > 0, "above 0 ms")

    def _check(self, what: str, values: Floats, fits: NDArray[np.bool_], allowed: str) -> None:
        if values.shape != (len(self.networks),):
            count = f"{values.shape} values for {len(self.networks)} networks"
            raise FileFormatError(f"{self.source}: {what}: {count}; allowed: one each; fetch its files again")
        wrong = ~(fits & np.isfinite(values))
        if wrong.any():
            row = int(np.argmax(wrong))
            found = f"{what} of network {self.networks[row]} is {values[row]:g}"
            raise FileFormatError(f"{self.source}: {found}; allowed: {allowed}; fetch its files again")

    def __len__(self) -> int:
        return len(self.networks)


def get_benchmark(name: str, data_dir: str | Path) -> Benchmark:
    """Read a published benchmark.

    Args:
        name: One of ``list_benchmarks``.
        data_dir: The folder with its files, as its reader names them.

    Raises:
        UsageError: No such benchmark; the message lists them.
        FileFormatError: A file is absent, which says where it comes from, or damaged, which says where and how.
    """
    benchmark: Benchmark = BENCHMARKS.get(name)(Path(data_dir))
    return benchmark


def list_benchmarks() -> dict[str, str]:
    """Return each benchmark's name and what it is, in one line."""
    return {name: entry.summary for name, entry in BENCHMARKS.entries.items()}
