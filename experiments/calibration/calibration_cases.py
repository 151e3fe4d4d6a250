"""A device and a space: its calibration, and the networks that later processes measure to judge it."""

import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from latency_tables import Device, get_device
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.design import distinct, spread_networks, without
from latency_tables.measurement import Floats
from latency_tables.rows import MeasuredRow, append_rows, genes_of, measured_row, read_rows
from nas.files import read_json, write_json
from predictors.calibration import Calibration, calibrate, load_calibration
from predictors.calibration_files import NETWORKS
from predictors.calibration_job import JUDGING
from search_spaces import Genes, SearchSpace, get_space, make_space
from search_spaces.space import RESOLUTION

FOLDER = Path(__file__).parent
SECONDS = {"ofa-mbv3": 300.0}  # of a calibration; of other spaces as long as `nas calibrate` takes by itself
PIXELS = {"ofa-mbv3": 224}  # of the networks that judge; of other spaces all there are
RANDOM, FEW = "random", "few"
FEW_NETWORKS = 20
BATCH = 25  # networks whose sessions are open at once
SEED = 1000
SCHEMA, SCHEMA_VERSION = "hwnas calibration experiment", 2


@dataclass(frozen=True, eq=False)
class Case:
    """One device and one space.

    Attributes:
        out: Where measurements are kept.
        device: The device.
        space: The space, with the device's menu.
    """

    out: Path
    device: Device
    space: SearchSpace

    @property
    def device_name(self) -> str:
        """The device's name."""
        return self.device.name

    @property
    def images(self) -> Images:
        """What the networks are for."""
        return Images(self.space.preset.channels, self.space.preset.classes)

    def calibrate(self) -> Calibration:
        """Return the calibration in the cache, or make it as ``nas calibrate`` does."""
        _say(f"calibrate {self.device_name} for {self.space.name}")
        return calibrate(self.device, self.space, **vars(self.images), seconds=SECONDS.get(self.space.name))

    def calibration(self) -> Calibration:
        """Return the calibration that an earlier process has made."""
        found = load_calibration(self.device, self.space, **vars(self.images))
        if found is None:
            raise SystemExit(f"{self.space.name} on {self.device_name} is not calibrated; run without --step")
        return found

    def path(self, session: int) -> Path:
        """Return the file of a session's measurements."""
        return self.out / self.space.name / f"{self.device_name}-session-{session}.csv"

    @property
    def cold_path(self) -> Path:
        """Return the file of what the process that calibrated took, where it began with nothing measured."""
        return self.out / self.space.name / f"{self.device_name}-cold.json"

    def cold_seconds(self) -> float | None:
        """Return the wall time of the process that calibrated; None where it went on with what was measured before."""
        if not self.cold_path.exists():
            return None
        content = read_json(self.cold_path, SCHEMA, SCHEMA_VERSION)
        self.device.must_be(content["fingerprint"], self.cold_path)
        return float(content["seconds"])

    def same_device(self, session: int) -> None:
        """Note which device a session measures, or refuse one of another."""
        path = self.path(session).with_suffix(".json")
        if not path.exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            write_json(path, SCHEMA, SCHEMA_VERSION, {"fingerprint": self.device.fingerprint})
        self.device.must_be(read_json(path, SCHEMA, SCHEMA_VERSION)["fingerprint"], path)

    def rows(self, session: int, role: str) -> list[MeasuredRow]:
        """Return a session's measurements of one role."""
        self.same_device(session)
        return [row for row in read_rows(self.path(session)) if row.role == role]

    def networks(self, count: int) -> dict[str, Genes]:
        """Return the networks to measure, by role: random ones that no fit has seen, and those of ``--few 20``."""
        few = spread_networks(self.space, FEW_NETWORKS, np.random.default_rng(0))
        fitted = genes_of(read_rows(self.calibration().folder / NETWORKS))
        drawn = self.space.sample(2 * count + 100, np.random.default_rng(SEED))
        pixels = PIXELS.get(self.space.name)
        if pixels is not None:
            drawn[:, RESOLUTION] = self.space.resolutions.index(pixels)
        fresh = without(distinct(self.space.canonical(drawn)), np.concatenate([few, fitted]))
        return {RANDOM: fresh[:count], FEW: few}

    def measure(self, session: int, count: int) -> None:
        """Measure the networks, batch by batch, interleaved within a batch; those of ``--few`` in the first session."""
        self.same_device(session)
        known = {(row.role, row.genes) for row in read_rows(self.path(session))}
        wanted = [
            (role, row)
            for role, genes in self.networks(count).items()
            for row in genes
            if (role, tuple(map(int, row))) not in known and (role == RANDOM or session == 1)
        ]
        order = np.random.default_rng([SEED, session]).permutation(len(wanted))
        for start in range(0, len(wanted), BATCH):
            batch = [wanted[place] for place in order[start : start + BATCH]]
            self._measure_together(session, start, batch)
            done = f"{start + len(batch)} of {len(wanted)}"
            _say(f"{self.space.name} on {self.device_name}, session {session}: {done}")

    def _measure_together(self, session: int, number: int, batch: Sequence[tuple[str, Genes]]) -> None:
        baseline = self.calibration().reference_ms
        models = {
            str(place): timing_model(self.space, row, self.images, self.device.quantization)
            for place, (_, row) in enumerate(batch)
        }
        begun = time.perf_counter()
        found = self.device.measure_many(models, plan=JUDGING, seed=SEED * session + number, baseline_ms=baseline)
        took = (time.perf_counter() - begun) / len(batch)
        rows = [
            measured_row(role, row, one, baseline_ms=baseline, seconds=took)
            for (role, row), one in zip(batch, found.values(), strict=True)
        ]
        self.path(session).parent.mkdir(parents=True, exist_ok=True)
        append_rows(self.path(session), rows)


def find_case(out: Path, space_name: str, device_name: str) -> Case:
    """Return the case of these names, of spaces and devices as commands take them."""
    device, preset = get_device(device_name), get_space(space_name).preset
    return Case(out, device, make_space(preset, [name for name in preset.precisions if name in device.precisions]))


def pairs_of(first: Sequence[MeasuredRow], second: Sequence[MeasuredRow]) -> tuple[Floats, Floats]:
    """Return the milliseconds ``(n,)`` of networks that both sessions have measured."""
    again = {row.genes: row.latency_ms for row in second}
    both = [(row.latency_ms, again[row.genes]) for row in first if row.genes in again]
    pairs = np.array(both, np.float64).reshape(-1, 2)
    return pairs[:, 0], pairs[:, 1]


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)
