"""Checks that a folder written by ``nas search`` is whole and sane: ``check_result.py DIR``."""

import json
import math
import sys
from pathlib import Path

BUNDLE_FILES = ("model.onnx", "weights.safetensors", "subnet.json", "report.json")


def dominated(point: tuple[float, float], others: list[tuple[float, float]]) -> bool:
    """Return whether another (accuracy, latency) is at least as good in both and better in one."""
    return any(a >= point[0] and ms <= point[1] and (a, ms) != point for a, ms in others)


def check(folder: Path) -> str:
    """Return a line on the result; raise AssertionError where it is not sane."""
    result = json.loads((folder / "result.json").read_text())
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
    assert len(points) >= 2 and not any(dominated(point, points) for point in points), points
    assert result["chosen"] in [entry["id"] for entry in front], result["chosen"]
    assert len(baselines) >= 4, baselines
    assert (folder / "pareto.png").read_bytes().startswith(b"\x89PNG"), "pareto.png is no picture"
    seconds = ", ".join(f"{name} {value:.0f} s" for name, value in result["seconds"].items())
    return f"{len(points)} points on the front, {result['evaluated']} candidates; {seconds}"


if __name__ == "__main__":
    print(check(Path(sys.argv[1])))
