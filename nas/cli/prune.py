"""``nas prune``: a network made faster by removing channels."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.interrupt import kept_after_interrupt
from nas.cli.options import Device, Json, Quiet, Seed, numbers
from nas.cli.output import print_json, print_table
from nas.cli.progress import progress_on

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from typing import Any

    from nas.compression.models import LoadedModel
    from nas.compression.pruning import Task

ROUNDS = "Channels left are multiples of this; without it, of what the device's kernels like."


def prune(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL",
            help="A name of timm or torchvision, module:function or file.py:function, or a bundle's folder.",
        ),
    ],
    device: Device,
    latency: Annotated[float, typer.Option("--latency", metavar="MS", min=1e-6, help="What to get below.")],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the run and of what it leaves.")],
    data: Annotated[
        str | None,
        typer.Option(
            "--data",
            metavar="DATA",
            help="fashion-mnist (without it), cifar10, a folder of images, one subfolder a class, or an .npz of images "
            "and depths.",
        ),
    ] = None,
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights",
            metavar="FILE",
            help="safetensors, or a state dict of torch; without it, the published ones "
            "or the function's own; 'random' for none.",
        ),
    ] = None,
    resolution: Annotated[
        int | None, typer.Option("--resolution", metavar="N", min=8, help="Side of the images, where not the model's.")
    ] = None,
    mean: Annotated[
        str | None,
        typer.Option("--mean", metavar="M,…", help="Of each channel of images in [0, 1], that the model was made for."),
    ] = None,
    std: Annotated[str | None, typer.Option("--std", metavar="S,…", help="Likewise, the deviations.")] = None,
    importance: Annotated[
        str, typer.Option("--importance", metavar="NAME", help="Which channels go: magnitude, l2 or taylor.")
    ] = "l2",
    latency_from: Annotated[
        str,
        typer.Option(
            "--latency-from",
            metavar="SOURCE",
            help="table: predicted from layers, measured once; measured: the whole network, each time.",
        ),
    ] = "table",
    step: Annotated[
        float,
        typer.Option(
            "--step", metavar="X", min=0.001, max=0.9, help="Of the latency: what the first iteration lowers."
        ),
    ] = 0.025,
    short_steps: Annotated[
        int, typer.Option("--short-steps", metavar="N", min=0, help="Training steps before a proposal is judged.")
    ] = 10,
    epochs: Annotated[int, typer.Option("--epochs", metavar="N", min=0, help="Of what is left, at the end.")] = 10,
    learning_rate: Annotated[
        float, typer.Option("--learning-rate", metavar="X", min=0.0, help="At first, of these epochs.")
    ] = 0.01,
    batch_size: Annotated[int, typer.Option("--batch-size", metavar="N", min=2, help="Images a training step.")] = 64,
    round_to: Annotated[int | None, typer.Option("--round-to", metavar="N", min=1, help=ROUNDS)] = None,
    seed: Seed = 0,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the run in --out.")] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Prune a network to a latency on a device (NetAdapt).

    Removes channels where that costs least, a few at a time, until the device runs the network in --latency
    milliseconds; then trains what is left, and measures latency and accuracy of the very file it exports. Needs images
    that the network is for. A run that was killed goes on with --resume, from its last iteration or epoch.
    """
    from latency_tables import get_device
    from nas.compression.pruning import PruningPlan
    from nas.errors import UsageError
    from nas.export.pruning import PruningRequest, has_pruning
    from nas.export.pruning import prune as prune_network

    if (mean is None) != (std is None):
        raise UsageError("--mean and --std belong together; give both or neither")
    images = ImageOptions(data, resolution, numbers("--mean", mean), numbers("--std", std))
    plan = PruningPlan(
        step=step, short_steps=short_steps, long_epochs=epochs, long_rate=learning_rate, batch_size=batch_size
    )
    request = PruningRequest(latency, importance, latency_from, round_to, seed, plan)
    on = get_device(device)

    def kept() -> str:
        return f"the run is in {out}; --resume goes on with it" if has_pruning(out) else "nothing is kept"

    with kept_after_interrupt(kept), progress_on(quiet) as display:
        loaded, task = _open(model, weights, images, lambda done, total: display.listener("read", done, total))
        report = prune_network(loaded, task, on, request, out, resume=resume, progress=display.listener)
    if json:
        print_json(report)
    else:
        _print(report, out)
    if not report["met"]:
        limit, reached = request.latency_ms, report["pruned"]["latency_ms"]
        typer.echo(
            f"error: {limit:g} ms was met before the last training and is {reached:.4g} ms now; prune to less", err=True
        )
        raise typer.Exit(1)


@dataclass(frozen=True)
class ImageOptions:
    """The images as they were asked for; None where nothing was said."""

    data: str | None
    resolution: int | None
    mean: tuple[float, ...] | None
    std: tuple[float, ...] | None


def _open(
    model: str, weights: str | None, images: ImageOptions, progress: "Callable[[int, int], None]"
) -> "tuple[LoadedModel, Task]":
    """Return the network and its data."""
    from nas.compression.models import load_model
    from nas.compression.pruning import classification, depth_estimation
    from nas.errors import UsageError
    from nas.export.accuracy import matching_splits
    from nas.export.pruning import opened_bundle
    from nas.files import is_folder
    from supernets.datasets import inspect_data, load_splits
    from supernets.datasets.depth import load_depth

    data = images.data
    if data is not None and data.endswith(".npz"):
        if images.resolution is not None:
            raise UsageError(f"--resolution {images.resolution}: {data} has images of a size of its own; leave it out")
        loaded = load_model(model, weights=weights)
        mean, std = (images.mean, images.std) if images.mean else (loaded.mean, loaded.std)
        return loaded, depth_estimation(load_depth(Path(data)), mean, std)
    if is_folder(model):
        loaded, info = opened_bundle(model)
        if (weights, images.mean) != (None, None) or images.resolution not in (None, loaded.resolution):
            raise UsageError(f"{model}: a bundle has its own weights, resolution, mean and std; leave them out")
        assert loaded.resolution is not None
        splits = matching_splits(data, info, loaded.resolution, progress, need_train=True)
        return loaded, classification(splits, loaded.resolution, loaded.mean, loaded.std)
    loaded = load_model(model, weights=weights, classes=len(inspect_data(data).classes))
    side = images.resolution or loaded.resolution
    if side is None:
        raise UsageError(f"model {model} does not say what size of images it takes; give --resolution")
    splits = load_splits(data, size=side, channels=loaded.channels, need_train=True, progress=progress)
    mean, std = (images.mean, images.std) if images.mean else (loaded.mean, loaded.std)
    return loaded, classification(splits, side, mean, std)


def _print(report: "Mapping[str, Any]", out: Path) -> None:
    device = report["device"]
    modelled = ", simulated" if device["simulated"] else ""
    rows = [
        (
            name,
            *(f"{one[key]:.4f}" for key in ("latency_ms", "ci_low_ms", "ci_high_ms", "validation", "test")),
            f"{one['parameters']:,}",
        )
        for name, one in (("whole", report["whole"]), ("pruned", report["pruned"]))
    ]
    metric = report["metric"]
    print_table(
        ("network", "latency ms", "from", "to", f"{metric}, validation", "test", "parameters"), rows,
        title=f"{report['model']} on {device['name']}, {device['runtime']}{modelled}", numbers=" rrrrrr",
    )  # fmt: skip
    met = "met" if report["met"] else "not met"
    print(f"{report['speedup']:.2f} times as fast; {report['asked']['latency_ms']:g} ms {met}. All of it is in {out}.")
