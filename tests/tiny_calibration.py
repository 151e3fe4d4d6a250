"""Calibrations of a simulated device that take a second, for the tests of calibrating."""

from dataclasses import replace

from tiny_space import tiny_space

from latency_tables import FULL, Measurement, SimulatedDevice
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from predictors import Calibration, CalibrationPlan, calibrate
from search_spaces import Genes, MBConvSpace

SPACE = tiny_space()
IMAGES = {"channels": 1, "classes": 3}
MEASURING = replace(FULL, values=1, min_rounds=3, max_rounds=3, warm_seconds=0.01, seconds=1e6)
PLAN = CalibrationPlan(
    seconds=0.0, batch=15, min_batches=2, max_batches=2, held_out=6, measuring=MEASURING, judging=MEASURING
)


_BUILT: dict[tuple[bytes, tuple[str, ...], str], bytes] = {}


def build_once(space: MBConvSpace, row: Genes, images: Images, form: str) -> bytes:
    """Return the graph to time, built once: calibrations of one seed measure equal networks."""
    key = (row.tobytes(), space.precisions, form)
    if key not in _BUILT:
        _BUILT[key] = timing_model(space, row, images, form)
    return _BUILT[key]


class CountingDevice(SimulatedDevice):
    """Counts the networks it is asked for, and can be cut off."""

    def __init__(self, *, stop_after: int = 99, **options) -> None:
        super().__init__(**options)
        self.batches: list[int] = []
        self.stop_after = stop_after

    def measure_many(self, models, **options) -> dict[str, Measurement]:
        if len(self.batches) == self.stop_after:
            raise KeyboardInterrupt
        self.batches.append(len(models))
        return super().measure_many(models, **options)


def run(device: SimulatedDevice, **options) -> Calibration:
    return calibrate(device, SPACE, plan=PLAN, **IMAGES, **options)
