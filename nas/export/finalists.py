"""From candidates to verified models: the files that ship are the files that were checked, counted and timed.

One batch holds the search's finalists, the baselines, and the twins of mixed finalists (the same architecture in one
precision throughout), because only latencies of one interleaved run may be compared. Candidates that differ in
precision alone share the extracted network, its recalibrated batch norms and its activation ranges. A network that does
not pass its gates is left out and listed; the job goes on with the others.
"""

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from onnx import ModelProto

from latency_tables import FULL, Device, Measurement, MeasuringPlan
from nas.compression import Exported, export_candidate, parity
from nas.errors import VerificationError
from nas.export.accuracy import Correct, count_correct
from nas.export.progress import NO_PROGRESS, Progress
from search_spaces import Candidate
from supernets import Subnet, Supernet
from supernets.datasets import Splits

FINALIST, BASELINE, TWIN = "finalist", "baseline", "twin"
PARITY_IMAGES = 64  # calibration images that the gates compare outputs on


@dataclass(frozen=True)
class Entry:
    """A network to verify: its name, why it is there, what was predicted, for a twin the id of the mixed one.

    ``counted`` has its exact figures: size, multiply-adds, memory.
    """

    name: str
    role: str
    candidate: Candidate
    accuracy: float
    latency_ms: float
    twin_of: str | None = None
    counted: Mapping[str, float] = field(default_factory=dict)


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
        correct: Which of the validation images it gets right, ``(n,)``; chooses. Empty where there are no images.
        test_correct: Which of the test images, likewise; for the report only.
        latency: Of the exported file.
    """

    entry: Entry
    built: Built
    correct: Correct
    test_correct: Correct
    latency: Measurement

    @property
    def counted(self) -> bool:
        """Whether there were images to count the accuracy on."""
        return len(self.correct) > 0

    @property
    def accuracy(self) -> float:
        """Fraction of the validation images; the predicted one where there are none."""
        return float(self.correct.mean()) if self.counted else self.entry.accuracy

    @property
    def test_accuracy(self) -> float | None:
        """Fraction of the test images; None where there are none."""
        return float(self.test_correct.mean()) if len(self.test_correct) else None


@dataclass(frozen=True)
class Failed:
    """A network that was left out, and the gate that it did not pass."""

    entry: Entry
    reason: str


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
) -> tuple[list[Verified], list[Failed]]:
    """Export, check, time and evaluate networks; equal candidates are one model.

    Args:
        entries: What to verify.
        supernet: Holds the weights.
        splits: Calibration images make the models, validation and test images, if there are any, evaluate them.
        device: What times them.
        plan: The measuring protocol's numbers.
        seed: Of the order of the timings.
        baseline_ms: What the reference net took when the latencies were predicted; see ``Device.measure_many``.
        progress: Called with (stage, done, total), and told of every network that is left out.

    Returns:
        The networks that passed their gates, and those that did not, both in the order of ``entries``.

    Raises:
        VerificationError: No finalist passes its gates.
        DeviceError: The device cannot run or time a model.
    """
    candidates = {entry.candidate.id: entry.candidate for entry in entries}
    built, reasons = build_all(
        list(candidates.values()), supernet=supernet, splits=splits, device=device, progress=progress
    )
    if not any(entry.role == FINALIST and entry.candidate.id in built for entry in entries):
        key, reason = next(iter(reasons.items()))
        raise VerificationError(f"no finalist passes its checks; network {key}: {reason}")
    files = {key: one.model.SerializeToString() for key, one in built.items()}
    timings = device.measure_many(
        files, plan=plan, seed=seed, baseline_ms=baseline_ms, progress=progress.part("time"), note=progress.note
    )
    jobs = {key: (device.session(files[key]), candidates[key].resolution) for key in built}
    validation = count_correct(jobs, splits.validation, supernet.info, progress.part("validate"))
    test = count_correct(jobs, splits.test, supernet.info, progress.part("test"))
    keyed = [(entry, entry.candidate.id) for entry in entries]
    verified = [
        Verified(entry, built[key], validation[key], test[key], timings[key]) for entry, key in keyed if key in built
    ]
    return verified, [Failed(entry, reasons[key]) for entry, key in keyed if key in reasons]


def build_all(
    candidates: Sequence[Candidate],
    *,
    supernet: Supernet,
    splits: Splits,
    device: Device,
    progress: Progress = NO_PROGRESS,
) -> tuple[dict[str, Built], dict[str, str]]:
    """Extract, recalibrate, export, quantize and check, as the device wants and executes it.

    Returns:
        Candidate id to what was built, and, for those that do not pass their gates, to the reason.
    """
    report = progress.part("export")
    built: dict[str, Built] = {}
    failed: dict[str, str] = {}
    for group in _by_architecture(candidates):
        exported = export_candidate(supernet, group[0], splits.calibration)
        for candidate in group:
            try:
                built[candidate.id] = _build(candidate, exported, device)
            except VerificationError as error:
                failed[candidate.id] = str(error)
                progress.note(f"network {candidate.id} is left out: {error}")
            report(len(built) + len(failed), len(candidates))
    return built, failed


def _build(candidate: Candidate, exported: Exported, device: Device) -> Built:
    own = _relabelled(exported.subnet, candidate)
    precisions = dict(own.units())
    model = exported.in_precisions(precisions, device.quantization)
    checks = parity(own, exported.graph, model, precisions, exported.images[:PARITY_IMAGES], engine=device)
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
