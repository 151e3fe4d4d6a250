"""The comparison with the `ofa` package runs, or says what it lacks."""

import importlib.util
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_the_benchmark_against_ofa_runs_or_says_what_to_install(repository: Path) -> None:
    script = repository / "experiments/benchmarks/search_speed/run.py"
    command = [sys.executable, str(script), "--seeds", "1", "--generations", "5"]
    done = subprocess.run(
        command,
        capture_output=True,
        text=True,
        cwd=repository,
        timeout=250,
        env={**os.environ, "PYTHONPATH": str(repository)},
    )
    if importlib.util.find_spec("ofa") is None:
        assert done.returncode == 1 and "pip install 'hwnas[peers]'" in done.stderr
    else:
        assert done.returncode == 0, done.stderr
        assert "candidates a second, ours / ofa" in done.stdout and "reachable: latency_ms" in done.stdout
