"""A network pruned to a latency and left in a folder; killed, refused, opened again."""

import dataclasses
import itertools
import json
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import pytest
import torch
from tiny_pruning import SIDE, coupled, tiny_task
from torch import Tensor, nn

from latency_tables.simulated import CostModel, SimulatedDevice
from nas.compression.models import LoadedModel, load_model
from nas.compression.pruning import PruningPlan
from nas.errors import DataError, InfeasibleError, UsageError, VerificationError
from nas.export.pruning import PruningRequest, has_pruning, prune

PLAN = PruningPlan(step=0.1, short_steps=2, long_epochs=2, batch_size=16)
REQUEST = PruningRequest(0.0135, round_to=4, plan=PLAN)
HERE = Path(__file__).parents[1]


def device() -> SimulatedDevice:
    return SimulatedDevice(costs=CostModel(noise=0.0, drift=0.0, node_ns=500.0))


def model() -> LoadedModel:
    return LoadedModel(coupled(), f"{HERE}/tiny_pruning.py:coupled", 1, SIDE)


class TwoHeads(nn.Module):
    """A network with a second output while it is trained."""

    def __init__(self) -> None:
        super().__init__()
        self.net = coupled()

    def forward(self, x: Tensor) -> Tensor | tuple[Tensor, Tensor]:
        return (self.net(x), x) if self.training else self.net(x)


def figures(report: dict[str, Any]) -> dict[str, Any]:
    """Return what follows from the seed and the latencies: torch itself rounds as its memory lies."""
    return {name: value for name, value in report.items() if name not in ("whole", "pruned")} | {
        name: [report[name][key] for key in ("validation", "test", "parameters")] for name in ("whole", "pruned")
    }


def test_everything_is_in_the_folder_and_agrees(tmp_path: Path) -> None:
    out = tmp_path / "out"
    report = prune(model(), tiny_task(), device(), REQUEST, out)
    assert {path.name for path in out.iterdir()} == {
        "model.onnx", "weights.safetensors", "report.json", "report.md", "pruning.png",
    }  # fmt: skip
    assert report["met"] and report["pruned"]["latency_ms"] <= 0.0135 < report["whole"]["latency_ms"]
    written = json.loads((out / "report.json").read_text())
    assert {name: written[name] for name in report} == json.loads(json.dumps(report))
    for one in report["iterations"][1:]:
        assert (
            one["removed"] > 0 and abs(one["predicted_ms"] / one["measured_ms"] - 1) < 0.1
        )  # additions are in no look-up
    images = torch.rand(3, 1, SIDE, SIDE)
    session = onnxruntime.InferenceSession(out / "model.onnx", providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"input": images.numpy()})
    again = load_model(model().name, weights=out / "weights.safetensors").network
    np.testing.assert_allclose(found, again(images).detach().numpy(), atol=1e-5)
    text = (out / "report.md").read_text()
    assert "simulated (simulated)" in text and f"{report['speedup']:.2f} times as fast" in text
    assert all(one["before"] != one["after"] for one in report["layers"])


def test_a_killed_run_goes_on_and_leaves_the_same(tmp_path: Path) -> None:
    expected = prune(model(), tiny_task(), device(), REQUEST, tmp_path / "whole")
    weights = (tmp_path / "whole/weights.safetensors").read_bytes()
    for stop in (3, 8):
        out, calls = tmp_path / str(stop), itertools.count(1)

        def killed(*far: object, calls: "itertools.count[int]" = calls, stop: int = stop) -> None:
            if next(calls) == stop:
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            prune(model(), tiny_task(), device(), REQUEST, out, progress=killed)
        assert has_pruning(out)
        assert figures(prune(model(), tiny_task(), device(), REQUEST, out, resume=True)) == figures(expected)
        assert (out / "weights.safetensors").read_bytes() == weights


@pytest.mark.slow
def test_sigkill_loses_nothing(tmp_path: Path) -> None:
    script = (
        "import os, signal, sys\nfrom pathlib import Path\n"
        f"sys.path[:0] = [{str(HERE)!r}, {str(HERE / 'export_tests')!r}]\n"
        "from test_pruning import *\n"
        "def killed(stage, done, total, detail):\n"
        "    if stage == 'iteration 2': os.kill(os.getpid(), signal.SIGKILL)\n"
        f"prune(model(), tiny_task(), device(), REQUEST, Path({str(tmp_path / 'out')!r}), progress=killed)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == -signal.SIGKILL
    again = prune(model(), tiny_task(), device(), REQUEST, tmp_path / "out", resume=True)
    assert figures(again) == figures(prune(model(), tiny_task(), device(), REQUEST, tmp_path / "whole"))


def test_measuring_every_width_gets_there_too(tmp_path: Path) -> None:
    request = dataclasses.replace(
        REQUEST, latency_from="measured", plan=dataclasses.replace(PLAN, step=0.9, long_epochs=0)
    )
    report = prune(model(), tiny_task(), device(), request, tmp_path / "out")
    assert report["met"]
    assert all(one["predicted_ms"] == pytest.approx(one["measured_ms"]) for one in report["iterations"])


def test_a_latency_that_is_out_of_reach_leaves_the_folder_free(tmp_path: Path) -> None:
    with pytest.raises(InfeasibleError, match=r"reaches .* ms at best, from .* give that or more"):
        prune(model(), tiny_task(), device(), dataclasses.replace(REQUEST, latency_ms=1e-4), tmp_path / "out")
    assert not has_pruning(tmp_path / "out")
    with pytest.raises(UsageError, match=r"the model takes .* ms already; allowed: below that"):
        prune(model(), tiny_task(), device(), dataclasses.replace(REQUEST, latency_ms=9), tmp_path / "out")


def test_going_on_needs_the_same_request(tmp_path: Path) -> None:
    def killed(stage: str, done: int, total: int, detail: str) -> None:
        if stage == "iteration 1":
            raise KeyboardInterrupt

    out = tmp_path / "out"
    with pytest.raises(UsageError, match=r"--resume .*out: there is no run in it; leave --resume out and name"):
        prune(model(), tiny_task(), device(), REQUEST, out, resume=True)
    with pytest.raises(KeyboardInterrupt):
        prune(model(), tiny_task(), device(), REQUEST, out, progress=killed)
    with pytest.raises(UsageError, match=r"output .*out exists and is not an empty folder"):
        prune(model(), tiny_task(), device(), REQUEST, out)
    with pytest.raises(UsageError, match=r"the run was begun with seed 0, and now it is 1; give the same, or another"):
        prune(model(), tiny_task(), device(), dataclasses.replace(REQUEST, seed=1), out, resume=True)
    with pytest.raises(UsageError, match=r"the run was begun with images '\w+', and now it is '\w+'; give the same"):
        prune(model(), tiny_task(seed=1), device(), REQUEST, out, resume=True)
    prune(model(), tiny_task(), device(), REQUEST, out, resume=True)
    with pytest.raises(UsageError, match=r"--resume .*out: the run in it has ended"):
        prune(model(), tiny_task(), device(), REQUEST, out, resume=True)


def test_models_that_do_not_fit_the_data_are_refused(tmp_path: Path) -> None:
    def tried(network: nn.Module) -> None:
        prune(LoadedModel(network.eval(), "net", 1), tiny_task(), device(), REQUEST, tmp_path / "out")

    with pytest.raises(DataError, match=r"tiny has 3 classes; the model's outputs are \(n, 2\), not \(n, 3\)"):
        tried(coupled(classes=2))
    with pytest.raises(DataError, match=r"tiny has 3 classes; the model's outputs are \(n, 4\), not \(n, 3\)"):
        tried(coupled(classes=4))
    with pytest.raises(UsageError, match=r"the model returns a tuple in training; allowed: one tensor"):
        tried(TwoHeads())
    with pytest.raises(UsageError, match=r"the model does not run on images \(1, 8, 8\): .*; give what it takes"):
        tried(nn.Conv2d(3, 8, 3))
    with pytest.raises(UsageError, match=r"the model returns a tuple; allowed: one tensor"):
        tried(nn.MaxPool2d(2, return_indices=True))
    assert not (tmp_path / "out").exists()


def test_requests_that_cannot_be_are_refused_before_anything_is_measured() -> None:
    with pytest.raises(UsageError, match=r"unknown source of latencies 'guess'; there is: measured, table"):
        PruningRequest(1.0, latency_from="guess")
    with pytest.raises(UsageError, match=r"unknown importance 'size'; there is: l2, magnitude, taylor"):
        PruningRequest(1.0, importance="size")


def test_a_graph_that_computes_something_else_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nas.export.pruning_verification.LIMIT", -1.0)
    with pytest.raises(VerificationError, match=r"the whole network's graph differs from torch's outputs by"):
        prune(model(), tiny_task(), device(), REQUEST, tmp_path / "out")
    assert not (tmp_path / "out/report.json").exists()
