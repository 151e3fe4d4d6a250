"""Orders and searches for mixed-precision quantization, side by side; see README.md.

    python experiments/hessian_ptq/run.py --out DIR [--device cpu] [--networks largest,mobilenetv2] [--seeds 3]

Goes on where it was stopped: what is in ``DIR/results.csv`` or, with a peer's error, in ``DIR/failures.csv`` is not run
again, what is in ``DIR/latencies.csv`` not timed, and the latency model of ``DIR/latency-NETWORK-DEVICE.json`` not
fitted. Every configuration that a method ends with lies in ``DIR/models``. ``--write`` puts the tables into README.md.
"""

import argparse
import hashlib
import time
from collections.abc import Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
from networks import Network, open_network
from ptq_peers import by_modelopt, by_nncf
from ptq_report import write_report
from threadpoolctl import threadpool_limits

from latency_tables import get_device
from latency_tables.device import Device
from nas.compression.islands import IslandLatency
from nas.compression.layers import Mask
from nas.compression.mixed import MixedPlan, find_order, fit_latency
from nas.compression.mixed_search import Question, mixed_strategy
from nas.compression.paired import paired_difference
from nas.compression.trials import Attempts, Target
from nas.errors import UsageError
from nas.files import append_lines, read_bytes, read_csv, read_json, write_bytes, write_json

HERE = Path(__file__).parent
FIT = ("hessian-ptq-latency", 1)
DROPS = (0.01, 0.001, 0.0001)
BUDGET = 150
METHODS = {
    "augmented fisher": MixedPlan(sensitivity="fisher"),
    "plain fisher": MixedPlan(sensitivity="fisher", augmented=False),
    "augmented hessian": MixedPlan(sensitivity="hessian"),
    "plain hessian": MixedPlan(sensitivity="hessian", augmented=False),
    "augmented loss": MixedPlan(sensitivity="measured"),
    "plain loss": MixedPlan(sensitivity="measured", augmented=False),
    "random": MixedPlan(sensitivity="random", augmented=False),
    "clado": MixedPlan(sensitivity="measured", augmented=False, strategy="clado"),
    "greedy fisher": MixedPlan(sensitivity="fisher", augmented=False, strategy="greedy"),
}
PEERS = ("nncf", "modelopt")
OTHERS = ("fp32", "uniform int8", *PEERS)
COLUMNS = (
    *("network", "device", "method", "drop", "seed", "asked", "int8", "layers", "accuracy", "change", "low", "high"),
    *("met", "test_accuracy", "test_change", "predicted_ms", "seconds", "file"),
)
KEY = COLUMNS[:5]
FAILURE_COLUMNS = (*KEY, "error")
LATENCY_COLUMNS = ("network", "device", "file", "latency_ms", "ci_low_ms", "ci_high_ms", "quality")


def main(arguments: Sequence[str] | None = None) -> None:
    """Run what is missing and report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--networks", default="largest,subnet-0,mobilenetv2")
    parser.add_argument("--methods", default=",".join((*OTHERS, *METHODS)))
    parser.add_argument("--drops", default=",".join(map(str, DROPS)))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--write", action="store_true", help="write the tables to README.md")
    chosen = parser.parse_args(arguments)
    on = get_device(chosen.device)
    with threadpool_limits(1):
        for name in chosen.networks.split(","):
            jobs = list(product(chosen.methods.split(","), map(float, chosen.drops.split(",")), range(chosen.seeds)))
            run_network(name, on, chosen.out, jobs)
            time_files(name, on, chosen.out)
    if chosen.write:
        results = read_csv(chosen.out / "results.csv", COLUMNS)
        failures = _rows(chosen.out / "failures.csv", FAILURE_COLUMNS)
        latencies = read_csv(chosen.out / "latencies.csv", LATENCY_COLUMNS)
        write_report(HERE / "README.md", results, latencies, failures)


def run_network(name: str, on: Device, out: Path, jobs: Iterable[tuple[str, float, int]]) -> None:
    """Run the jobs (method, drop, seed) of one network that are not in the results."""
    rows = (*_rows(out / "results.csv", COLUMNS), *_rows(out / "failures.csv", FAILURE_COLUMNS))
    done = {tuple(row[key] for key in KEY) for row in rows}
    missing = [job for job in jobs if (name, on.name, *map(str, job)) not in done and _varies(job[0], job[2])]
    if not missing:
        return
    network = open_network(name, on, out)
    latency = kept_latency(network, on, out / f"latency-{name}-{on.name}.json")
    baseline = network.trials.correct((False,) * len(network.trials.possible))
    for method, drop, seed in missing:
        target = Target(baseline, drop)
        network.trials = replace(network.trials, _losses={})  # what one method has run is no help to the next
        start = time.monotonic()
        try:
            model, mask, asked = solve(network, method, target, seed, latency)
        except ImportError as error:  # a peer that is not installed
            print(f"{name}: {method} left out: {error}")
            continue
        except Exception as error:  # a peer's own, of any class
            if method not in PEERS:
                raise
            message = " ".join(f"{type(error).__name__}: {error}".split()).replace('"', "'")
            line = f'{name},{on.name},{method},{drop},{seed},"{message}"'
            append_lines(out / "failures.csv", ",".join(FAILURE_COLUMNS), [line])
            print(line, flush=True)
            continue
        seconds = time.monotonic() - start
        row = _result(network, model, target, latency.predict(mask) if mask is not None else None)
        file = _keep(out, model)
        counts = (asked, "" if mask is None else sum(mask), len(network.trials.possible))
        line = (name, on.name, method, drop, seed, *counts, *row, f"{seconds:.1f}", file)
        append_lines(out / "results.csv", ",".join(COLUMNS), [",".join(map(str, line))])
        print(", ".join(map(str, line)), flush=True)


def kept_latency(network: Network, on: Device, path: Path) -> IslandLatency:
    """Return the latency model of a network, fitted where ``path`` does not have it."""
    graph = network.trials.graph
    if path.exists():
        kept = read_json(path, *FIT)
        if kept["layers"] != [layer.name for layer in graph.layers]:
            raise UsageError(f"{path} is of another network; move it away or give another --out")
        return IslandLatency(
            graph, kept["fp32_ms"], np.array(kept["gains_ms"]), np.array(kept["prices_ms"]), kept["error"]
        )
    found = fit_latency(network.trials, on.measure_many, MixedPlan(), np.random.default_rng(0))
    content = {
        "layers": [layer.name for layer in graph.layers], "fp32_ms": found.fp32_ms, "gains_ms": found.gains.tolist(),
        "prices_ms": found.prices.tolist(), "error": found.error,
    }  # fmt: skip
    write_json(path, *FIT, content)
    return found


def _varies(method: str, seed: int) -> bool:
    """Return whether a job differs from that of seed 0: only Hessian probes and random orders are drawn."""
    return seed == 0 or any(drawn in method for drawn in ("hessian", "random"))


def solve(
    network: Network, method: str, target: Target, seed: int, latency: IslandLatency
) -> tuple[bytes, Mask | None, int]:
    """Return what a method ends with: the graph, its configuration if it is one of ours, accuracies asked for."""
    trials = network.trials
    if method == "nncf":
        model, asked = by_nncf(network, target)
        return model, None, asked
    if method == "modelopt":
        mask, asked = by_modelopt(network, target, BUDGET)
    elif method in ("fp32", "uniform int8"):
        mask, asked = trials.allowed((method != "fp32",) * len(trials.possible)), 0
    else:
        mask, asked = search(network, method, target, seed, latency)
    return trials.build(mask).SerializeToString(), mask, asked


def search(network: Network, method: str, target: Target, seed: int, latency: IslandLatency) -> tuple[Mask, int]:
    """Return what one of our methods ends with, the one predicted to be the fastest, and how often it asked."""
    plan, rng = METHODS[method], np.random.default_rng(seed)
    order, losses = find_order(network.trials, plan, rng)
    attempts = Attempts(network.trials, target, BUDGET)
    mixed_strategy(plan.strategy)(Question(order, latency, attempts, losses))
    good = [one.mask for one in attempts.history if one.meets]
    fp32: Mask = (False,) * len(network.trials.possible)
    return min([fp32, *good], key=latency.predict), len(attempts.history)


def _result(network: Network, model: bytes, target: Target, predicted_ms: float | None) -> tuple[object, ...]:
    """Return what is true of a graph, as ``COLUMNS`` name it from ``accuracy`` to ``predicted_ms``."""
    engine = network.trials.engine
    correct, test = (count(engine.session(model)) for count in (network.count, network.test))
    plain = network.test(network.trials.session((False,) * len(network.trials.possible)))
    change = paired_difference(correct, target.baseline)
    figures = (correct.mean(), change.value, change.low, change.high)
    return (
        *(f"{one:.5f}" for one in figures),
        int(target.met_by(change)),
        f"{test.mean():.5f}",
        f"{test.mean() - plain.mean():.5f}",
        "" if predicted_ms is None else f"{predicted_ms:.5f}",
    )


def _keep(out: Path, model: bytes) -> str:
    """Write a graph under its hash and return that."""
    name = hashlib.sha256(model).hexdigest()[:16]
    write_bytes(out / "models" / f"{name}.onnx", model)
    return name


def time_files(name: str, on: Device, out: Path) -> None:
    """Time the graphs of a network that were not, all in one interleaved run beside the network in fp32."""
    rows = [row for row in _rows(out / "results.csv", COLUMNS) if (row["network"], row["device"]) == (name, on.name)]
    timed = {row["file"] for row in _rows(out / "latencies.csv", LATENCY_COLUMNS) if row["device"] == on.name}
    wanted = dict.fromkeys(row["file"] for row in rows)
    if not wanted.keys() - timed:
        return
    found = on.measure_many({file: read_bytes(out / "models" / f"{file}.onnx") for file in wanted})
    lines = [
        f"{name},{on.name},{file},{one.latency_ms:.5f},{one.ci_low_ms:.5f},{one.ci_high_ms:.5f},{one.quality}"
        for file, one in found.items()
    ]
    append_lines(out / "latencies.csv", ",".join(LATENCY_COLUMNS), lines)


def _rows(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    return read_csv(path, columns) if path.exists() else []


if __name__ == "__main__":
    main()
