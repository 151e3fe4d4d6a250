"""FastDepth pruned by NetAdapt on a depth set of our own: rendered, trained, pruned, compared. See README.md.

python experiments/fastdepth/run.py              # minutes to an hour on two cores; killed, the same command goes on
python experiments/fastdepth/run.py --write      # and puts the figures into README.md
"""

import argparse
import json
import re
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from experiments.fastdepth.scenes import depth_set
from latency_tables import Device, get_device
from nas.compression.fastdepth import STRIDE, fastdepth
from nas.compression.models import LoadedModel, load_model
from nas.compression.network_graph import network_graph
from nas.compression.pruning import PruningPlan, PruningState, Task, depth_estimation, load_state
from nas.compression.pruning.finetune import train_epoch
from nas.compression.widths import load_widths
from nas.errors import UsageError
from nas.export.pruning import PruningRequest, has_pruning, prune
from nas.files import exists, read_json, write_json
from supernets.datasets.depth import PARTS, load_depth, save_depth

HERE = Path(__file__).parent
README, NAME = HERE / "README.md", "nas.compression.fastdepth:fastdepth"
BEGIN, END = "<!-- figures: begin. Made by run.py. -->", "<!-- figures: end -->"
RESULT, ASKED = ("fastdepth-result", 1), ("fastdepth-asked", 1)
SPEEDUP, MARGIN = 1.5, 0.97  # the target is a little below, so that the final, exact measurement is below too
PRUNING = PruningPlan(step=0.05, long_epochs=8, long_rate=0.02, batch_size=32, validation_images=200)


@dataclass(frozen=True)
class Scale:
    """How large everything is."""

    side: int = 64
    width: float = 0.5
    counts: tuple[int, int, int] = (1600, 200, 400)
    epochs: int = 20
    pruning: PruningPlan = field(default_factory=lambda: PRUNING)

    @property
    def training(self) -> PruningPlan:
        """The training of the whole network."""
        return PruningPlan(long_epochs=self.epochs, long_rate=0.1, batch_size=32)


SCALES = {
    "default": Scale(),
    "tiny": Scale(STRIDE, 0.5, (16, 8, 8), 1, PruningPlan(0.5, short_steps=1, long_epochs=1, batch_size=8)),
}


def trained(network: nn.Module, task: Task, plan: PruningPlan, path: Path, seed: int) -> nn.Module:
    """Train a network, in place, by a plan's long epochs; a file after each, from which a killed run goes on."""
    state = load_state(path) if exists(path) else PruningState(network.state_dict(), ())
    load_widths(network, state.tensors, path)
    while state.epochs < plan.long_epochs:
        momenta = train_epoch(network, task, plan, state.epochs, (seed, state.epochs), state.momenta)
        score = task.evaluate(network, task.validation)
        state = state.trained({name: value.clone() for name, value in network.state_dict().items()}, score, momenta)
        state.save(path)
        print(f"{path.stem}: epoch {state.epochs} of {plan.long_epochs}, {task.kind.metric} {score:.4f}", flush=True)
    return network.eval()


def run(scale: Scale, device: Device, out: Path, seed: int = 0) -> dict[str, Any]:
    """Do all of it, or what is missing of it in ``out``.

    Raises:
        UsageError: What is in ``out`` is of another scale, device or seed.
    """
    _begin(out / "asked.json", {"scale": asdict(scale), "device": device.fingerprint, "seed": seed})
    data = out / "rooms.npz"
    if not exists(data):
        save_depth(data, depth_set(dict(zip(PARTS, scale.counts, strict=True)), scale.side, seed))
    task = depth_estimation(load_depth(data))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        whole = fastdepth(scale.width)
    trained(whole, task, scale.training, out / "whole.safetensors", seed)
    control = fastdepth(scale.width)
    load_widths(control, whole.state_dict(), out / "whole.safetensors")
    trained(control, task, scale.pruning, out / "trained_on.safetensors", seed + 1)
    pruned = out / "pruned"
    if not exists(pruned / "report.json"):
        target = _target(whole, task, device, out / "target.json")
        request = PruningRequest(target, seed=seed, plan=scale.pruning)
        model = LoadedModel(whole, NAME, 3)
        prune(model, task, device, request, pruned, resume=has_pruning(pruned), progress=_told)
    report = read_json(pruned / "report.json", "pruning-report", 1)
    result = summary(report, task.evaluate(control, task.test), scale)
    _draw(out / "examples.png", task, whole, load_model(NAME, weights=pruned / "weights.safetensors").network)
    write_json(out / "result.json", *RESULT, result)
    return result


def _begin(path: Path, asked: dict[str, Any]) -> None:
    """Write down what is asked for, or check that the folder is of the same."""
    if not exists(path):
        write_json(path, *ASKED, asked)
    begun = read_json(path, *ASKED)
    for name, value in json.loads(json.dumps(asked)).items():
        if begun.get(name) != value:
            raise UsageError(f"--out {path.parent}: it was begun with another {name}; give the same, or another --out")


def _target(whole: nn.Module, task: Task, device: Device, path: Path) -> float:
    """Measure the whole network once; return what pruning has to get below."""
    if not exists(path):
        image = torch.zeros(1, 3, task.resolution, task.resolution)
        graph = network_graph(whole, image, "FastDepth").SerializeToString()
        found = device.measure_many({"whole": graph})["whole"]
        write_json(path, "fastdepth-target", 1, {"latency_ms": MARGIN * found.latency_ms / SPEEDUP})
    return float(read_json(path, "fastdepth-target", 1)["latency_ms"])


def summary(report: dict[str, Any], control: float, scale: Scale) -> dict[str, Any]:
    """Return the figures that the experiment is about."""
    whole, left = report["whole"], report["pruned"]
    return {
        "device": report["device"],
        "side": scale.side,
        "width": scale.width,
        "pictures": list(scale.counts),
        "epochs": scale.epochs,
        "iterations": len(report["iterations"]) - 1,
        "speedup": report["speedup"],
        "parameters": [whole["parameters"], left["parameters"]],
        "test_rmse": {"whole": whole["test"], "whole_trained_on": control, "pruned": left["test"]},
        "relative_rmse": left["test"] / whole["test"] - 1,
        "relative_rmse_to_trained_on": left["test"] / control - 1,
        "reached": report["speedup"] >= SPEEDUP and left["test"] <= 1.02 * whole["test"],
    }


def _told(stage: str, done: int, total: int, detail: str) -> None:
    if done == total:
        print(f"{stage}: {detail}", flush=True)


@torch.no_grad()
def _draw(path: Path, task: Task, whole: nn.Module, pruned: nn.Module) -> None:
    """Draw some test pictures, their depth, and what the two networks see in them."""
    images = task.test.images[:6]
    prepared = task.prepared(images)
    rows = [images.permute(0, 2, 3, 1).numpy()]
    rows += [depth[:, 0].numpy() for depth in (task.test.targets[:6], whole(prepared), pruned(prepared))]
    figure = Figure(figsize=(8, 5.4), dpi=120, layout="constrained")
    grid = figure.subplots(4, 6)
    for line, name, row in zip(grid, ("picture", "depth", "whole network", "pruned"), rows, strict=True):
        for axes, shown in zip(line, row, strict=True):
            axes.imshow(np.asarray(shown), vmin=0, vmax=9, cmap="viridis")
            axes.set_xticks([])
            axes.set_yticks([])
        line[0].set_ylabel(name)
    FigureCanvasAgg(figure).print_png(str(path))


def figures(result: dict[str, Any]) -> str:
    """Return the result as Markdown."""
    rmse, counts = result["test_rmse"], result["parameters"]
    return (
        f"{result['pictures'][0]:,} pictures of {result['side']} pixels, FastDepth at width {result['width']:g}, "
        f"{result['device']['name']} ({result['device']['runtime']}), {result['iterations']} iterations.\n\n"
        "| network | test RMSE [m] | parameters |\n|---|---|---|\n"
        f"| whole | {rmse['whole']:.4f} | {counts[0]:,} |\n"
        f"| whole, trained on for as long as the pruned one | {rmse['whole_trained_on']:.4f} | {counts[0]:,} |\n"
        f"| pruned, {result['speedup']:.2f} times as fast | {rmse['pruned']:.4f} | {counts[1]:,} |\n\n"
        f"Relative RMSE {100 * result['relative_rmse']:+.1f} % of the whole network's, "
        f"{100 * result['relative_rmse_to_trained_on']:+.1f} % of the one that was trained on."
    )


def main() -> None:
    """Run it from the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("fastdepth-out"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--scale", choices=SCALES, default="default")
    parser.add_argument("--write", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    result = run(SCALES[options.scale], get_device(options.device), options.out)
    print(json.dumps(result, indent=1))
    if options.write:
        text = README.read_text()
        README.write_text(re.sub(f"{BEGIN}.*{END}", f"{BEGIN}\n{figures(result)}\n{END}", text, flags=re.DOTALL))


if __name__ == "__main__":
    main()
