"""From candidates to verified models: the files that ship are the files that were checked, counted and timed.

One batch holds the search's finalists, the baselines, and the twins of mixed finalists (the same architecture in one
precision throughout), because only latencies of one interleaved run may be compared. Candidates that differ in
precision alone share the extracted network, its recalibrated batch norms and its activation ranges.
"""

import copy
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from onnx import ModelProto

from latency_tables import FULL, Device, Measurement, MeasuringPlan
from nas.compression import RANGE_IMAGES, Ranges, activation_ranges, parity, quantize_graph
from nas.errors import VerificationError
from nas.export.accuracy import file_accuracies, open_session
from nas.export.progress import NO_PROGRESS, Progress
from search_spaces import Candidate
from supernets import Subnet, Supernet, calibrated_subnet, prepare
from supernets.datasets import Splits
from supernets.graph import to_onnx

FINALIST, BASELINE, TWIN = "finalist", "baseline", "twin"
PARITY_IMAGES = 64  # calibration images that the gates compare outputs on


@dataclass(frozen=True)
class Entry:
    """A network to verify: its name, why it is there, what was predicted, and for a twin the id of the mixed one."""

    name: str
    role: str
    candidate: Candidate
    accuracy: float
    latency_ms: float
    twin_of: str | None = None


@dataclass(frozen=True, eq=False)
class Built:
    """An exported network that passed its gates: fp32 torch, the graph that ships, and what the gates found."""

    subnet: Subnet
    model: ModelProto
    checks: dict[str, Any]


@dataclass(frozen=True, eq=False)
class Verified:
    """A network and what is true of its exported file.

    Attributes:
        entry: What was planned.
        built: What ships.
        accuracy: Fraction of the validation images; chooses. The predicted one where there are no images.
        test_accuracy: Fraction of the test images; for the report only. None where there are no images.
        latency: Of the exported file.
    """

    entry: Entry
    built: Built
    accuracy: float
    test_accuracy: float | None
    latency: Measurement

    @property
    def counted(self) -> bool:
        """Whether the accuracy was counted on images."""
        return self.test_accuracy is not None


def verify(
    entries: Sequence[Entry],
    *,
    supernet: Supernet,
    splits: Splits,
    device: Device,
    plan: MeasuringPlan = FULL,
    seed: int = 0,
    baseline_ms: float | None = None,
    progress: Progress = NO_PROGRESS,
) -> list[Verified]:
    """Export, check, time and evaluate networks; equal candidates are one model.

    Args:
        entries: What to verify.
        supernet: Holds the weights.
        splits: Calibration images make the models, validation and test images, if there are any, evaluate them.
        device: What times them.
        plan: The measuring protocol's numbers.
        seed: Of the order of the timings.
        baseline_ms: What the reference net took when the latencies were predicted; see ``Device.measure_many``.
        progress: Called with (stage, done, total).

    Raises:
        VerificationError: A model does not pass its gates.
        DeviceError: The device cannot run or time a model.
    """
    candidates = {entry.candidate.id: entry.candidate for entry in entries}
    built = build_all(list(candidates.values()), supernet=supernet, splits=splits, progress=progress)
    files = {key: one.model.SerializeToString() for key, one in built.items()}
    timings = device.measure_many(
        files, plan=plan, seed=seed, baseline_ms=baseline_ms, progress=progress.part("time"), note=progress.note
    )
    jobs = {key: (open_session(device, files[key]), candidates[key].resolution) for key in built}
    validation: dict[str, float] = {}
    test: dict[str, float] = {}
    if len(splits.test):
        validation = file_accuracies(jobs, splits.validation, supernet.info, progress.part("validate"))
        test = file_accuracies(jobs, splits.test, supernet.info, progress.part("test"))
    return [
        Verified(entry, built[key], validation.get(key, entry.accuracy), test.get(key), timings[key])
        for entry, key in ((entry, entry.candidate.id) for entry in entries)
    ]


def build_all(
    candidates: Sequence[Candidate], *, supernet: Supernet, splits: Splits, progress: Progress = NO_PROGRESS
) -> dict[str, Built]:
    """Extract, recalibrate, export, quantize and check; the result is by candidate id.

    Raises:
        VerificationError: A model does not pass its gates.
    """
    report, built = progress.part("export"), {}
    for group in _by_architecture(candidates):
        subnet = calibrated_subnet(supernet, group[0], splits.calibration)
        resolution = group[0].resolution
        graph = to_onnx(subnet, supernet.channels, resolution, batch="N")
        images = prepare(splits.calibration.images[:RANGE_IMAGES], resolution, supernet.info).numpy()
        ranges = activation_ranges(graph, images) if any(_quantized(candidate) for candidate in group) else None
        for candidate in group:
            built[candidate.id] = _build(candidate, subnet, graph, ranges, images)
            report(len(built), len(candidates))
    return built


def _build(candidate: Candidate, subnet: Subnet, graph: ModelProto, ranges: Ranges | None, images: np.ndarray) -> Built:
    own = subnet if subnet.candidate == candidate else _relabelled(subnet, candidate)
    precisions = dict(own.units())
    model = quantize_graph(graph, precisions, ranges) if _quantized(candidate) else graph
    try:
        checks = parity(own, graph, model, precisions, images[:PARITY_IMAGES])
    except VerificationError as error:
        raise VerificationError(f"network {candidate.id}: {error}") from error
    return Built(own, model, asdict(checks))


def _relabelled(subnet: Subnet, candidate: Candidate) -> Subnet:
    """Return the same network, weights shared, under another choice of precisions."""
    twin = copy.copy(subnet)
    twin.candidate = candidate
    return twin


def in_one_precision(candidate: Candidate, precision: str) -> Candidate:
    """Return the same architecture with every unit in ``precision``."""
    blocks = tuple(
        tuple(None if block is None else replace(block, precision=precision) for block in stage)
        for stage in candidate.blocks
    )
    return replace(candidate, stem=precision, head=precision, blocks=blocks)


def _by_architecture(candidates: Iterable[Candidate]) -> list[list[Candidate]]:
    groups: dict[str, list[Candidate]] = {}
    for candidate in candidates:
        groups.setdefault(in_one_precision(candidate, "fp32").id, []).append(candidate)
    return list(groups.values())


def _quantized(candidate: Candidate) -> bool:
    return any(precision != "fp32" for precision in candidate.precisions)
