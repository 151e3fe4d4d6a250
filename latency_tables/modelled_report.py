"""What ``nas calibrate`` says of a modelled device, which has nothing to measure: ranges of latency and energy."""

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from latency_tables.bitfusion import NOT_YET, BitFusion
from latency_tables.costs import Images
from latency_tables.measurement import Floats
from search_spaces import SearchSpace

NETWORKS = 1000


@dataclass(frozen=True)
class Range:
    """Least, median and largest of a figure over networks."""

    least: float
    median: float
    largest: float

    @staticmethod
    def of(values: Floats) -> "Range":
        """Return the range of ``(n,)``."""
        return Range(float(values.min()), float(np.median(values)), float(values.max()))

    def __str__(self) -> str:
        return f"{self.least:.4g} to {self.largest:.4g}, median {self.median:.4g}"


@dataclass(frozen=True)
class ModelledReport:
    """Modelled, not measured: figures of random networks, the smallest and the largest, by the precision of all parts.

    Attributes:
        device: Name of the device.
        runtime: Its runtime.
        fingerprint: Of the device.
        space: Name of the space.
        networks: How many networks in each precision.
        latency_ms: By precision.
        energy_mj: By precision.
        simulated: True.
    """

    device: str
    runtime: str
    fingerprint: str
    space: str
    networks: int
    latency_ms: dict[str, Range]
    energy_mj: dict[str, Range]
    simulated: bool = True

    def lines(self) -> list[str]:
        """Return the report as lines of text."""
        head = f"device {self.device}, {self.runtime}, {self.fingerprint}; space {self.space}"
        figures = [
            f"{precision} ({self.networks} networks): modelled latency {latency} ms; "
            f"modelled energy {self.energy_mj[precision]} mJ"
            for precision, latency in self.latency_ms.items()
        ]
        return [head, *figures, f"exact for its model, so nothing is measured or kept; {NOT_YET}"]

    def to_dict(self) -> dict[str, Any]:
        """Return the report as JSON."""
        return asdict(self)


def modelled_report(device: BitFusion, space: SearchSpace, images: Images, *, seed: int = 0) -> ModelledReport:
    """Return what networks of a space cost on a modelled device.

    Raises:
        UsageError: The space is of a family that the device has no model of.
    """
    tables = device.tables(space, images)
    drawn = space.sample(NETWORKS - 2, np.random.default_rng(seed))
    ends = np.stack([space.smallest(space.precisions[0]), space.largest(space.precisions[0])])
    latency, energy = {}, {}
    for precision in space.precisions:
        rows = space.with_precision(np.concatenate([ends, drawn]), precision)
        latency[precision] = Range.of(tables.latency.predict_ms(rows).astype(np.float64))
        energy[precision] = Range.of(tables.energy.predict_ms(rows).astype(np.float64))
    return ModelledReport(device.name, device.runtime, device.fingerprint, space.name, NETWORKS, latency, energy)
