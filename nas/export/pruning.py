"""A network pruned to a latency on a device, from its name to the folder that is left.

run/                 while it goes on: the request, what was measured, and the state that a killed run goes on from
model.onnx           the pruned network, as it was timed and judged
weights.safetensors  its weights; ``load_model`` builds it again from them and the name of the whole network
report.json          all figures; report.md the same to read, pruning.png to look at
"""

import contextlib
import hashlib
import json
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from latency_tables import FULL, Device, MeasuringPlan
from nas.compression.models import LoadedModel
from nas.compression.network_graph import network_graph
from nas.compression.pruning import (
    IMPORTANCES,
    Adaptation,
    LayerTable,
    PruningPlan,
    Task,
    check_outputs,
    find_groups,
    floors,
    layer_shapes,
    load_state,
    netadapt,
    table_models,
)
from nas.compression.widths import Widths, narrowed, widths_of
from nas.errors import NasError, UsageError
from nas.export.bundle import load_bundle
from nas.export.pruning_report import REPORT, write_outcome
from nas.export.pruning_verification import verify
from nas.files import check_new_folder, exists, read_json, write_json
from nas.registry import unknown_name
from supernets import ImageInfo
from supernets.weights import weights_digest

LATENCIES = ("table", "measured")
"""Where predictions come from: the look-up of layers, or the whole network at every width that is thought of."""
RUN, REQUEST, TIMINGS, STATE = "run", "request.json", "timings.json", "state.safetensors"
REQUEST_SCHEMA, TIMINGS_SCHEMA = ("pruning-request", 1), ("pruning-timings", 1)
QUICK = MeasuringPlan(
    value_seconds=0.010, values=1, min_rounds=5, max_rounds=5, warm_runs=3, warm_seconds=0.05, settle_seconds=0.2
)
LAYERS = replace(QUICK, value_seconds=0.005, min_rounds=3, max_rounds=3, warm_seconds=0.02)
CHUNK = 48  # layers that are measured between two savings
Progress = Callable[[str, int, int, str], None]  # (stage, done, total, detail)


def _silent(stage: str, done: int, total: int, detail: str) -> None:
    pass


@dataclass(frozen=True)
class PruningRequest:
    """What was asked for, besides the network, its data and the device.

    Attributes:
        latency_ms: The target.
        importance: Of ``nas.compression.pruning.IMPORTANCES``.
        latency_from: Of ``LATENCIES``.
        round_to: What the channels left are a multiple of; None for the device's own.
        seed: All draws follow from it.
        plan: NetAdapt's numbers.
    """

    latency_ms: float
    importance: str = "l2"
    latency_from: str = "table"
    round_to: int | None = None
    seed: int = 0
    plan: PruningPlan = field(default_factory=PruningPlan)

    def __post_init__(self) -> None:
        if self.latency_from not in LATENCIES:
            raise unknown_name("source of latencies", self.latency_from, LATENCIES)
        if self.importance not in IMPORTANCES:
            raise unknown_name("importance", self.importance, IMPORTANCES)


def prune(
    model: LoadedModel,
    task: Task,
    device: Device,
    request: PruningRequest,
    out: Path,
    *,
    resume: bool = False,
    progress: Progress = _silent,
) -> dict[str, Any]:
    """Prune a network to a latency, verify it on the device, and write all of it into ``out``.

    Args:
        model: The network.
        task: Its data.
        device: What it is for.
        request: The target and how to get there.
        out: A new folder; with ``resume``, that of a run that was stopped.
        resume: Whether to go on; what is asked for must be the same.
        progress: Told how far it is.

    Returns:
        What ``report.json`` says.

    Raises:
        InfeasibleError: Pruning does not reach the latency; the message says what it reaches.
        UsageError: The model cannot be traced or is as fast already, or ``out`` does not fit.
        DataError: The model's outputs do not fit the data.
        VerificationError: The graph does not compute what the network does.
    """
    round_to = request.round_to or device.channel_multiple
    check_outputs(model.network, task)
    image = torch.zeros(1, task.channels, task.resolution, task.resolution)
    groups = find_groups(model.network, image)
    run, begun = out / RUN, {"model": model.name, "data": task.name, "images": task.digest}
    asked = {**begun, **asdict(request), "device": device.fingerprint, "weights": weights_digest(model.network)}
    threads = _begin(out, asked, resume)
    clock = _Stopwatch(device, run / TIMINGS, image)
    try:
        widths = widths_of(model.network)
        estimate = clock.widths_of(model.network)
        if request.latency_from == "table":
            least = floors(groups, widths, round_to)
            estimate = clock.table(model.network, widths, least, round_to, progress).ms
        job = Adaptation(
            model.network, task, groups, estimate, clock.network, clock.confirmed, round_to, request.plan,
            request.importance, request.seed,
        )  # fmt: skip
        state = load_state(run / STATE) if exists(run / STATE) else None
        with _torch_threads(threads):
            pruned = netadapt(
                job, request.latency_ms, state=state, save=lambda now: now.save(run / STATE), progress=progress
            )
    except NasError:
        if not exists(run / STATE):  # nothing is lost, and the folder is free for another try
            shutil.rmtree(run, ignore_errors=True)
        raise
    progress("verify", 0, 1, "")
    verified = verify(model.network, pruned.network, task, device, clock.baseline_ms)
    progress("verify", 1, 1, "")
    report = write_outcome(
        out, model=model, task=task, device=device, asked={**asdict(request), "round_to": round_to}, pruned=pruned,
        verified=verified,
    )  # fmt: skip
    shutil.rmtree(run, ignore_errors=True)
    return report


def opened_bundle(path: str | Path) -> tuple[LoadedModel, ImageInfo]:
    """Return the network of a bundle, in fp32, to be pruned, and the images that it is for.

    Raises:
        FileFormatError: It is no bundle, or a damaged one.
    """
    bundle = load_bundle(path)
    images = bundle.images
    resolution = bundle.candidate.resolution
    return LoadedModel(bundle.model(), str(path), images.channels, resolution, images.mean, images.std), images


def has_pruning(out: Path) -> bool:
    """Tell whether there is a run in ``out`` to go on with."""
    return exists(out / RUN / REQUEST)


def _begin(out: Path, asked: Mapping[str, Any], resume: bool) -> int:
    """Write down what is asked for, or check that it is what the run in ``out`` was begun with.

    Returns:
        How many threads torch had at the beginning: its sums depend on that.
    """
    if not resume:
        check_new_folder(out)
        threads = torch.get_num_threads()
        write_json(out / RUN / REQUEST, *REQUEST_SCHEMA, {**asked, "threads": threads})
        return threads
    if not has_pruning(out):
        ended = "the run in it has ended" if exists(out / REPORT) else "there is no run in it"
        raise UsageError(f"--resume {out}: {ended}; leave --resume out and name a new folder to start one")
    begun = read_json(out / RUN / REQUEST, *REQUEST_SCHEMA)
    for name, value in asked.items():
        if begun.get(name) != value:
            raise UsageError(
                f"--resume {out}: the run was begun with {name} {begun.get(name)!r}, and now it is {value!r}; give the "
                "same, or another --out"
            )
    return int(begun["threads"])


@contextlib.contextmanager
def _torch_threads(number: int) -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class _Stopwatch:
    """The device's milliseconds, all brought to its speed at the first measurement, which is kept beside them."""

    def __init__(self, device: Device, path: Path, image: Tensor) -> None:
        self._device, self._path, self._image = device, path, image
        kept = read_json(path, *TIMINGS_SCHEMA) if exists(path) else {"baseline_ms": None, "milliseconds": {}}
        self.baseline_ms: float | None = kept["baseline_ms"]
        self._known: dict[str, float] = kept["milliseconds"]  # by layer, and by the digest of a network's widths

    def network(self, network: nn.Module, plan: MeasuringPlan = QUICK) -> float:
        """Return the milliseconds of a network."""
        graph = network_graph(network, self._image, "the network").SerializeToString()
        return self._measure({"network": graph}, plan)["network"]

    def confirmed(self, network: nn.Module) -> float:
        """Return the milliseconds of a network by the full protocol."""
        return self.network(network, FULL)

    def widths_of(self, network: nn.Module) -> Callable[[Widths], float]:
        """Return what measures ``network`` at any widths, each once."""

        def measured(widths: Widths) -> float:
            content = sorted((path, width.inputs, width.outputs) for path, width in widths.items())
            key = hashlib.sha256(json.dumps(content).encode()).hexdigest()
            if key not in self._known:
                self._known[key] = self.network(narrowed(network, widths))
                self._save()
            return self._known[key]

        return measured

    def table(self, network: nn.Module, widths: Widths, least: Widths, round_to: int, progress: Progress) -> LayerTable:
        """Measure the layers of a network that are not measured yet."""
        layers = layer_shapes(network, self._image)
        grids, graphs = table_models(layers, widths, least, round_to)
        open_keys = [key for key in graphs if key not in self._known]
        for start in range(0, len(open_keys), CHUNK):
            chunk = open_keys[start : start + CHUNK]
            self._known |= self._measure({key: graphs[key] for key in chunk}, LAYERS)
            self._save()
            progress("time layers", start + len(chunk), len(open_keys), "")
        return LayerTable(layers, self._known, grids)

    def _measure(self, graphs: Mapping[str, bytes], plan: MeasuringPlan) -> dict[str, float]:
        found = self._device.measure_many(graphs, plan=plan, baseline_ms=self.baseline_ms)
        if self.baseline_ms is None:
            self.baseline_ms = next(iter(found.values())).reference_ms
            self._save()
        return {name: one.latency_ms for name, one in found.items()}

    def _save(self) -> None:
        write_json(self._path, *TIMINGS_SCHEMA, {"baseline_ms": self.baseline_ms, "milliseconds": self._known})
