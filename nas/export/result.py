"""``result.json``: what a search job found, for programs. Accuracies are fractions, latencies milliseconds.

Only validation accuracy (``measured.accuracy``) has chosen anything; ``test_accuracy`` is reported beside it. Both are
null, and ``warning`` says why, where no accuracy was measured.
Latencies are brought to the machine's speed at its calibration, so that they compare with the predictions; ``raw_ms``
is as the clock gave it, ``drift`` how many times slower the machine was than then.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from nas.export.finalists import FINALIST, Failed, Verified
from nas.export.outcome import Mixing, Outcome
from nas.files import read_json, write_json

LATENCY = ("latency_ms", "ci_low_ms", "ci_high_ms", "raw_ms", "drift", "quality")
SCHEMA, SCHEMA_VERSION = "search-result", 1
FILE_NAME = "result.json"
BUNDLES = "bundles"


def bundle_name(one: Verified) -> str:
    """Return a network's folder inside the job's, as ``result.json`` names it."""
    return f"{BUNDLES}/{one.entry.candidate.id}"


def has_bundle(outcome: Outcome, one: Verified) -> bool:
    """Return whether a network ships as a bundle: every finalist, and whatever else is on the front."""
    return one.entry.role == FINALIST or one in outcome.front


def result_content(outcome: Outcome) -> dict[str, Any]:
    """Return the content of ``result.json``, without its schema."""
    return {
        "space": outcome.space,
        "supernet": outcome.supernet,
        **warning_content(outcome),
        "data": {"name": outcome.dataset, **outcome.images},
        "device": dict(outcome.device),
        "strategy": outcome.strategy,
        "seed": outcome.seed,
        "latency_limit_ms": outcome.limit_ms,
        "objectives": list(outcome.goal.objectives),
        "limits": dict(outcome.goal.limits),
        "confident": outcome.goal.confident,
        "evaluated": outcome.evaluated,
        "seconds": {stage: round(seconds, 2) for stage, seconds in outcome.seconds.items()},
        "calibration": dict(outcome.calibration),
        "front": [network_content(one) | {"bundle": bundle_name(one)} for one in outcome.front],
        "dominated": [network_content(one) | {"bundle": bundle_name(one)} for one in outcome.dominated],
        "chosen": outcome.chosen.entry.candidate.id if outcome.chosen else None,
        "failed": [_failed(one) for one in outcome.failed],
        "baselines": [_baseline(one) for one in outcome.baselines],
        "mixing": [_mixing(mixing) for mixing in outcome.mixing],
        "prediction_errors": asdict(outcome.errors),
    }


def network_content(one: Verified) -> dict[str, Any]:
    """Return one network, predicted and measured."""
    return {
        "id": one.entry.candidate.id,
        "name": one.entry.name,
        "role": one.entry.role,
        "candidate": one.entry.candidate.to_dict(),
        "predicted": {"accuracy": one.entry.accuracy, "latency_ms": one.entry.latency_ms},
        "counted": dict(one.entry.counted),
        "measured": measured_content(one),
    }


def warning_content(outcome: Outcome) -> dict[str, str]:
    """Return the warning under its name, if there is one."""
    return {"warning": outcome.warning} if outcome.warning else {}


def bundle_report(outcome: Outcome, one: Verified) -> dict[str, Any]:
    """Return what a network's bundle says of it."""
    return {
        **network_content(one),
        **warning_content(outcome),
        "latency": one.latency.to_dict() | {"baseline_ms": outcome.calibration.get("reference_ms")},
        "checks": one.built.checks,
        "device": dict(outcome.device),
        "data": {"name": outcome.dataset, **outcome.images},
    }


def write_result(folder: Path, outcome: Outcome) -> None:
    """Write ``result.json`` into ``folder``."""
    write_json(folder / FILE_NAME, SCHEMA, SCHEMA_VERSION, result_content(outcome))


def read_result(folder: Path) -> dict[str, Any]:
    """Read the ``result.json`` of a job's folder.

    Raises:
        FileFormatError: It is missing, damaged or of another schema.
    """
    return read_json(Path(folder) / FILE_NAME, SCHEMA, SCHEMA_VERSION)


def measured_content(one: Verified) -> dict[str, Any]:
    """Return what was measured of one network."""
    timing = {key: getattr(one.latency, key) for key in LATENCY}
    return {"accuracy": one.accuracy if one.counted else None, "test_accuracy": one.test_accuracy, **timing}


def _baseline(one: Verified) -> dict[str, Any]:
    return {"name": one.entry.name, "id": one.entry.candidate.id, **measured_content(one)}


def _failed(one: Failed) -> dict[str, Any]:
    entry = one.entry
    return {"name": entry.name, "id": entry.candidate.id, "role": entry.role, "reason": one.reason}


def _mixing(mixing: Mixing) -> dict[str, Any]:
    return {
        "mixed": _baseline(mixing.mixed),
        "twins": [
            _baseline(twin) | {"accuracy_gained_by_mixing": asdict(mixing.gains[name])}
            for name, twin in mixing.twins.items()
        ],
        "wins": mixing.wins,
    }
