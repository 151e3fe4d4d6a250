"""The same on a device of this machine: space ``fashion-mbv3``, its accuracy predictor, a calibration, measurements."""

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

import numpy as np
from pairs import find_blind, find_pair

from latency_tables import Device, get_device
from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from nas.search.problem import Genes, Scores
from nas.writing import append_lines
from predictors import AccuracyPredictor, LatencyPredictor, calibrate
from search_spaces import SearchSpace, make_space
from supernets import Supernet, get_supernet, supernet_folder
from supernets.graph import to_onnx

SPACE = "fashion-mbv3"
MACS = (6.0, 8.0, 10.0)  # millions: the limits
BUDGET = 4000
FIGURES = ("accuracy", "macs_m", "latency_ms")
COLUMNS = ("device", "limit", "reward", "seed", "genes", *FIGURES, "measured_ms")


@dataclass(frozen=True)
class Known:
    """What is known of the networks of a space."""

    space: SearchSpace
    accuracy: AccuracyPredictor
    latency: LatencyPredictor
    costs: NetworkCosts

    def evaluate(self, genes: Genes) -> Scores:
        """Return predicted accuracy, multiply-adds and predicted latency."""
        return {
            "accuracy": np.asarray(self.accuracy.predict(genes).mean, np.float64),
            "macs_m": self.costs.predict(genes, "macs_m"),
            "latency_ms": np.asarray(self.latency.predict(genes).mean, np.float64),
        }


def device_table(name: str, path: Path, seeds: int) -> str:
    """Search and measure what the file lacks, and return its table."""
    device, supernet = get_device(name), get_supernet(SPACE)
    known = _known(device, supernet)
    done = {(float(line["limit"]), int(line["seed"])) for line in _lines(path, name)}
    for limit in MACS:
        for seed in range(seeds):
            if (limit, seed) not in done:
                append_lines(path, ",".join(COLUMNS), _measured(device, supernet, known, limit, seed))
    return _table(_lines(path, name))


def _known(device: Device, supernet: Supernet) -> Known:
    """Return what predicts, of networks in fp32: multiply-adds cannot see a precision."""
    space = make_space(supernet.space.preset, ("fp32",))
    accuracy = AccuracyPredictor.load(supernet_folder(SPACE) / "accuracy_predictor.safetensors", space)
    images = Images(supernet.channels, supernet.classes)
    calibration = calibrate(device, space, channels=images.channels, classes=images.classes)
    return Known(space, accuracy, calibration.predictor, NetworkCosts(space, images))


def _measured(device: Device, supernet: Supernet, known: Known, limit: float, seed: int) -> list[str]:
    """Search for a pair, measure both side by side, and return a line of each."""
    blind = find_blind(known.space, known.evaluate, limit, BUDGET, seed)
    pair = find_pair(known.space, known.evaluate, blind, BUDGET, seed)
    models = {}
    for reward, choice in (("macs", pair.blind), ("latency", pair.aware)):
        candidate = known.space.candidate(choice.genes)
        graph = to_onnx(supernet.extract(candidate), supernet.channels, candidate.resolution)
        models[reward] = graph.SerializeToString()
    measured = device.measure_many(models, seed=seed)
    lines = []
    for reward, choice in (("macs", pair.blind), ("latency", pair.aware)):
        figures = [f"{choice.scores[name]:.5f}" for name in FIGURES]
        genes, took = "".join(map(str, choice.genes)), f"{measured[reward].latency_ms:.5f}"
        lines.append(",".join([device.name, f"{limit:g}", reward, str(seed), genes, *figures, took]))
    return lines


def _lines(path: Path, device: str) -> list[dict[str, str]]:
    """Return the file's lines of a device; none where there is no file."""
    if not path.exists():
        return []
    with path.open() as file:
        return [line for line in csv.DictReader(file) if line["device"] == device]


def _table(lines: Sequence[dict[str, str]]) -> str:
    """Return medians over the seeds, a row a limit and reward."""
    rows = ["| limit | reward of | accuracy | multiply-adds | predicted | measured |", "|---" * 6 + "|"]
    for limit in MACS:
        for reward in ("macs", "latency"):
            of = [line for line in lines if float(line["limit"]) == limit and line["reward"] == reward]
            accuracy, macs, predicted, took = (median(float(line[name]) for line in of) for name in COLUMNS[-4:])
            figures = f"{100 * accuracy:.2f} % | {macs:.2f} M | {predicted:.4f} ms | {took:.4f} ms"
            rows.append(f"| {limit:g} M | {reward} | {figures} |")
    return "\n".join(rows)
