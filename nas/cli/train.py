"""``nas train``: progressive shrinking to a supernet."""

import os
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any

import typer

from nas.cli.interrupt import kept_after_interrupt
from nas.cli.options import Quiet, Seed, TrainingData, check_torch_device
from nas.cli.progress import Display, progress_on
from nas.defaults import SPACE


def train(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the run and, at its end, the supernet.")],
    space: Annotated[
        str, typer.Option("--space", metavar="NAME", help="A space of `nas spaces`, or a TOML preset.")
    ] = SPACE,
    data: TrainingData = None,
    seed: Seed = 0,
    epochs_scale: Annotated[
        float, typer.Option("--epochs-scale", metavar="X", min=0.001, max=1000, help="Factor on every stage's epochs.")
    ] = 1.0,
    batch_size: Annotated[
        int | None,
        typer.Option("--batch-size", metavar="N", min=2, help="Instead of the preset's; learning rates follow it."),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, from its last checkpoint.")
    ] = False,
    torch_device: Annotated[
        str, typer.Option("--torch-device", metavar="NAME", help="Where to train: cpu, cuda, cuda:1, …")
    ] = "cpu",
    quiet: Quiet = False,
) -> None:
    """Train a supernet.

    The full network first, then kernels, depths and widths open one after another, taught by the full network. Takes
    Fashion-MNIST or CIFAR-10 (found or downloaded), or any folder of images, one subfolder a class, grey or colour. A
    run that was killed goes on with --resume, and ends as if it had not been.
    """
    from nas.errors import UsageError
    from nas.files import check_new_folder
    from search_spaces import MBConvSpace, preset_path, read_preset
    from supernets.datasets import inspect_data, load_splits
    from supernets.training import has_run, read_plan
    from supernets.training import train as train_supernet

    processes = os.environ.get("WORLD_SIZE", "1")  # torchrun sets it
    if processes != "1":
        raise UsageError(f"nas train is one process, and WORLD_SIZE is {processes}; start it without torchrun")
    path = preset_path(space)
    preset, table = read_preset(path)
    plan = read_plan(table, preset, str(path)).scaled(epochs_scale)
    plan = plan if batch_size is None else plan.with_batch_size(batch_size)
    if not resume:
        check_new_folder(out)
    elif not has_run(out):
        raise UsageError(f"--resume: there is no run in {out}; leave --resume out to start one")
    check_torch_device(torch_device)
    info = inspect_data(data)

    def kept() -> str:
        return f"the run up to its last checkpoint is in {out}; --resume goes on" if has_run(out) else "nothing is kept"

    with kept_after_interrupt(kept), progress_on(quiet) as display:
        splits = load_splits(
            data, size=max(preset.resolutions), channels=info.channels, need_train=True,
            progress=lambda done, total: display.listener("read images", done, total),
        )  # fmt: skip
        report = _reporter(display)
        train_supernet(MBConvSpace(preset), splits, out, plan=plan, seed=seed, device=torch_device, report=report)
    typer.echo(f"wrote {out}/supernet.safetensors; next: nas collect --supernet {out}")


def _reporter(display: Display) -> Callable[[dict[str, Any]], None]:
    """Return what the trainer calls after each step and with each epoch's line."""

    def report(line: dict[str, Any]) -> None:
        if "step" in line:
            display.listener("step", line["step"], line["steps"])
        else:
            figures = [
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in line.items()
                if key not in ("stage", "epoch", "epochs")
            ]
            head = f"stage {line['stage']}, epoch {line['epoch']} of {line['epochs']}"
            display.note(f"{head}: {', '.join(figures)}")

    return report
