"""``nas collect``: (candidate, accuracy) pairs of a supernet, and the predictor fitted to them."""

from pathlib import Path
from typing import Annotated

import typer

from nas.cli.interrupt import kept_after_interrupt
from nas.cli.options import Data, Quiet, Seed
from nas.cli.progress import progress_on

PAIRS = "pairs.csv"


def collect(
    supernet: Annotated[str, typer.Option("--supernet", metavar="PATH", help="A shipped one's name, or a folder.")],
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="FILE", help="CSV file of the pairs; without it, pairs.csv beside the supernet."),
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", min=1, help="Pairs in fp32.")] = 1500,
    quantized_pairs: Annotated[
        int, typer.Option("--quantized-pairs", min=0, help="Pairs with int8 blocks, from the quantized graph.")
    ] = 400,
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option("--jobs", min=1, help="Processes.")] = 1,
    torch_device: Annotated[
        str, typer.Option("--torch-device", metavar="NAME", help="Where fp32 pairs are measured: cpu, cuda, …")
    ] = "cpu",
    quiet: Quiet = False,
) -> None:
    """Measure subnets of a supernet and fit its accuracy predictor.

    Each pair is a network and its validation accuracy, batch norms recalibrated. What is measured is kept: the same
    command goes on where it stopped.
    """
    from nas.export import Progress
    from nas.export.accuracy import matching_splits
    from predictors.collect import collect as collect_pairs
    from supernets import get_supernet, supernet_folder

    net = get_supernet(supernet)
    path = out or supernet_folder(supernet) / PAIRS
    splits = matching_splits(data, net.info, max(net.space.preset.resolutions))
    kept = f"every pair measured so far is in {path}; the same command goes on"
    with kept_after_interrupt(lambda: kept), progress_on(quiet) as listener:
        for mode, count in (("fp32", pairs), ("quantized", quantized_pairs)):
            if count:
                collect_pairs(
                    net, splits, path, count=count, mode=mode, seed=seed, device=torch_device, jobs=jobs,
                    progress=Progress(listener).part(f"{mode} pairs"),
                )  # fmt: skip
    typer.echo(f"wrote {path}")
