"""Checks that a folder written by ``nas search`` is whole and sane: ``check_result.py DIR``.

Prints the figures that a good search is known by, then asserts bounds that a noisy machine meets too.
"""

import json
import math
import sys
from pathlib import Path
from typing import Any

LEAST_POINTS = 4
MOST_LATENCY_ERROR = 0.10  # median over the finalists, relative
MOST_ACCURACY_ERROR = 0.01  # mean over the finalists
BUNDLE_FILES = ("model.onnx", "weights.safetensors", "subnet.json", "report.json")


def dominated(point: tuple[float, float], others: list[tuple[float, float]]) -> bool:
    """Return whether another (accuracy, latency) is at least as good in both and better in one."""
    return any(a >= point[0] and ms <= point[1] and (a, ms) != point for a, ms in others)


def figures(result: dict[str, Any]) -> list[str]:
    """Return the figures of a result, a line each."""
    errors, mixing = result["prediction_errors"], result["mixing"]
    wins = sum(comparison["wins"] for comparison in mixing)
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in result["seconds"].items())
    return [
        f"front: {len(result['front'])} points (at least {LEAST_POINTS}), of {result['evaluated']} candidates",
        f"latency error: median {errors['latency_median']:.1%} (at most {MOST_LATENCY_ERROR:.0%}), "
        f"worst {errors['latency_worst']:.1%}",
        f"accuracy error: mean {100 * errors['accuracy_mean']:.2f} points (at most {100 * MOST_ACCURACY_ERROR:.0f})",
        f"mixing precisions wins against both twins: {wins} of {len(mixing)}",
        f"seconds: {seconds}, together {sum(result['seconds'].values()):.0f} s",
    ]


def check(folder: Path, result: dict[str, Any]) -> None:
    """Raise AssertionError where a result is not sane."""
    front = result["front"]
    points = [(entry["measured"]["accuracy"], entry["measured"]["latency_ms"]) for entry in front]
    baselines = [(entry["accuracy"], entry["latency_ms"]) for entry in result["baselines"]]
    for accuracy, latency_ms in points + baselines:
        assert 0.5 < accuracy <= 1 and math.isfinite(latency_ms) and latency_ms > 0, (accuracy, latency_ms)
    for entry in front:
        measured = entry["measured"]
        assert measured["ci_low_ms"] <= measured["latency_ms"] <= measured["ci_high_ms"], measured
        missing = [name for name in BUNDLE_FILES if not (folder / entry["bundle"] / name).stat().st_size]
        assert not missing, missing
    assert len(points) >= LEAST_POINTS and not any(dominated(point, points) for point in points), points
    errors = result["prediction_errors"]
    assert errors["latency_median"] <= MOST_LATENCY_ERROR, errors
    assert errors["accuracy_mean"] <= MOST_ACCURACY_ERROR, errors
    assert result["chosen"] in [entry["id"] for entry in front], result["chosen"]
    assert len(baselines) >= 4, baselines
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG"), "pareto.png is no picture"


if __name__ == "__main__":
    out = Path(sys.argv[1])
    found = json.loads((out / "result.json").read_text())
    print("\n".join(figures(found)), flush=True)
    check(out, found)
