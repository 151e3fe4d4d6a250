"""``nas train``: a supernet of one's own images."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from nas.cli.interrupt import kept_after_interrupt
from nas.cli.options import Quiet, Seed, TrainingData, check_torch_device
from nas.cli.progress import Display, progress_on
from nas.defaults import SPACE

if TYPE_CHECKING:
    from search_spaces import SearchSpace
    from supernets import Supernet
    from supernets.training import TrainingPlan


def train(
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder of the run and, at its end, the supernet.")],
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="NAME",
            help=f"A space of `nas spaces`, or a TOML preset; {SPACE}, or that of --from, if nothing else is said.",
        ),
    ] = None,
    data: TrainingData = None,
    trained: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="PATH",
            help="Fine-tune this supernet, trained or imported, on the classes of --data: the stages of the preset "
            "for that, or its last one.",
        ),
    ] = None,
    seed: Seed = 0,
    epochs_scale: Annotated[
        float, typer.Option("--epochs-scale", metavar="X", min=0.001, max=1000, help="Factor on every stage's epochs.")
    ] = 1.0,
    batch_size: Annotated[
        int | None,
        typer.Option(
            "--batch-size",
            metavar="N",
            min=2,
            help="Instead of the preset's, or of what few images allow; learning rates follow it.",
        ),
    ] = None,
    resume: Annotated[
        bool, typer.Option("--resume", help="Go on with the run in --out, from its last checkpoint.")
    ] = False,
    torch_device: Annotated[
        str, typer.Option("--torch-device", metavar="NAME", help="Where to train: cpu, cuda, cuda:1, …")
    ] = "cpu",
    cuda_graphs: Annotated[
        bool,
        typer.Option("--cuda-graphs", help="On one GPU: replay recorded steps, which is faster for small networks."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Train a supernet.

    The stages are the preset's: the full network first, say, then kernels, depths and widths open one after another,
    taught by the full network. Takes Fashion-MNIST or CIFAR-10 (found or downloaded), or any folder of images, one
    subfolder a class, grey or colour. A run that was killed goes on with --resume, and on a processor ends as if it had
    not been.

    Several processes share each batch: torchrun --nproc-per-node 2 $(which nas) train …
    """
    from nas.errors import UsageError
    from nas.files import check_new_folder
    from supernets.datasets import inspect_data, load_splits
    from supernets.training import has_run
    from supernets.training import train as train_supernet
    from supernets.training.parallel import process_group

    beginning, whole, plan = _recipe(space, trained)
    plan = plan.scaled(epochs_scale)
    plan = plan if batch_size is None else plan.with_batch_size(batch_size)
    if resume and not has_run(out):
        raise UsageError(f"--resume: there is no run in {out}; leave --resume out to start one")
    check_torch_device(torch_device)
    channels = beginning.channels if beginning else inspect_data(data).channels

    def kept() -> str:
        return f"the run up to its last checkpoint is in {out}; --resume goes on" if has_run(out) else "nothing is kept"

    with process_group(torch_device) as (group, device):
        if not resume:
            check_new_folder(out)
        group.wait()  # until all have seen that it is new
        with kept_after_interrupt(kept), progress_on(quiet or not group.first) as display:
            splits = load_splits(
                data, size=max(whole.resolutions), channels=channels, need_train=True,
                progress=lambda done, total: display.listener("read images", done, total),
            )  # fmt: skip
            if batch_size is None and splits.train is not None:
                plan = _for_images(plan, len(splits.train), display)
            train_supernet(
                whole, splits, out, plan=plan, seed=seed, device=device, trained=beginning, group=group,
                cuda_graphs=cuda_graphs, report=_reporter(display),
            )  # fmt: skip
        if group.first:
            typer.echo(f"wrote {out}/supernet.safetensors; next: nas collect --supernet {out}")


def _recipe(name: str | None, trained: str | None) -> "tuple[Supernet | None, SearchSpace, TrainingPlan]":
    """Return the supernet to begin with, if there is one, the space, and the plan."""
    from nas.errors import UsageError
    from search_spaces import make_space, preset_path, read_preset
    from search_spaces.catalogue import list_names
    from supernets import get_supernet
    from supernets.training import read_plan

    beginning = get_supernet(trained) if trained else None
    if beginning is not None and name is None and beginning.space.name not in list_names():
        raise UsageError(
            f"--from {trained} is of space {beginning.space.name}, which does not ship; name its preset with "
            "--space my.toml"
        )
    name = name or (beginning.space.name if beginning else SPACE)
    path = preset_path(name)
    preset, table = read_preset(path)
    plan = read_plan(table, preset, str(path))
    if beginning is None:
        return None, make_space(preset), plan
    if preset.digest != beginning.space.preset.digest:
        raise UsageError(
            f"--from {trained} is of space {beginning.space.name}, whose choices are not those of {path}; name its "
            "preset with --space my.toml"
        )
    return beginning, beginning.space, plan.from_trained()


def _for_images(plan: "TrainingPlan", count: int, display: Display) -> "TrainingPlan":
    """Return the plan with batches that so many images are several of, and say so where they are smaller for it."""
    fitting = plan.for_images(count)
    if fitting.batch_size < plan.batch_size:
        display.note(
            f"{count} training images: batches of {fitting.batch_size}, not {plan.batch_size}, and learning rates in "
            "proportion; --batch-size says otherwise"
        )
    return fitting


def _reporter(display: Display) -> Callable[[dict[str, Any]], None]:
    """Return what the trainer calls after each step and with each epoch's line."""

    def report(line: dict[str, Any]) -> None:
        if "step" in line:
            display.listener(line["stage"], line["step"], line["steps"], f"{line['images_per_second']:,} images/s")
        else:
            figures = [
                f"{key} {value:.4g}" if isinstance(value, float) else f"{key} {value}"
                for key, value in line.items()
                if key not in ("stage", "epoch", "epochs")
            ]
            head = f"stage {line['stage']}, epoch {line['epoch']} of {line['epochs']}"
            display.note(f"{head}: {', '.join(figures)}")

    return report
