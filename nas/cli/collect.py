"""``nas collect``: (candidate, accuracy) pairs of a supernet, and the predictor fitted to them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.interrupt import kept_after_interrupt
from nas.cli.options import Data, Quiet, Seed, check_torch_device
from nas.cli.progress import progress_on
from nas.errors import UsageError

if TYPE_CHECKING:
    from predictors.accuracy import AccuracyPredictor
    from predictors.pairs import Pairs
    from supernets import Supernet

PAIRS = "pairs.csv"


def collect(
    supernet: Annotated[
        str, typer.Option("--supernet", metavar="PATH", help="A shipped supernet's name, or a trained one's folder.")
    ],
    data: Data = None,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Folder of the pairs and the predictor; without it, the supernet's."),
    ] = None,
    pairs: Annotated[int, typer.Option("--pairs", metavar="N", min=100, help="Pairs in fp32.")] = 1500,
    quantized_pairs: Annotated[
        int, typer.Option("--quantized-pairs", metavar="N", min=100, help="Pairs with int8 blocks.")
    ] = 400,
    seed: Seed = 0,
    jobs: Annotated[int, typer.Option("--jobs", metavar="N", min=1, help="Networks measured at once.")] = 1,
    backend: Annotated[
        str, typer.Option("--backend", metavar="NAME", help="What runs jobs: loky (processes), threading, ray or dask.")
    ] = "loky",
    cluster: Annotated[
        str | None,
        typer.Option(
            "--cluster",
            metavar="ADDRESS",
            help="Of Ray or Dask, sharing the folder of the pairs; without it, one is started on this machine.",
        ),
    ] = None,
    torch_device: Annotated[
        str, typer.Option("--torch-device", metavar="NAME", help="Where fp32 pairs are measured: cpu, cuda, …")
    ] = "cpu",
    report: Annotated[
        bool,
        typer.Option("--report", help="Judge the predictor that is there; measure and write nothing."),
    ] = False,
    quiet: Quiet = False,
) -> None:
    """Fit a supernet's accuracy predictor to measured subnets.

    A pair is a network and its validation accuracy, batch norms recalibrated. Pairs are kept as they come: the same
    command goes on where it stopped. At the end the predictor is fitted, saved beside the pairs, and judged by a fifth
    of them that was held out.
    """
    from nas.export import Progress
    from nas.export.accuracy import matching_splits
    from nas.export.scoring import ACCURACY_PREDICTOR
    from predictors.accuracy import AccuracyPredictor
    from predictors.collect import collect as collect_pairs
    from predictors.collect import supernet_fingerprint
    from predictors.report import fit_to_pairs
    from predictors.spread import Spread
    from supernets import get_supernet, list_supernets, supernet_folder

    net = get_supernet(supernet)
    folder = out or supernet_folder(supernet)
    path = folder / PAIRS
    if report:
        _print_reports(*_kept(folder, net))
        return
    if out is None and supernet in list_supernets():
        raise UsageError(f"supernet {supernet} ships with its pairs and predictor; name a folder for yours with --out")
    check_torch_device(torch_device)
    spread = Spread(jobs, backend, cluster)
    spread.check()
    counts = {"fp32": pairs, "quantized": quantized_pairs if len(net.space.precisions) > 1 else 0}
    kept = f"every pair measured so far is in {path}; the same command goes on"
    with kept_after_interrupt(lambda: kept), progress_on(quiet) as display:
        progress = Progress(display.listener, display.note)
        splits = matching_splits(data, net.info, max(net.space.preset.resolutions), progress.part("read images"))
        _copy_supernet(supernet, folder)
        found = {
            mode: collect_pairs(
                net, splits, path, count=count, mode=mode, seed=seed, device=torch_device, spread=spread,
                progress=progress.part(f"{mode} pairs"),
            )
            for mode, count in counts.items() if count
        }  # fmt: skip
        predictor = AccuracyPredictor(net.space, supernet=supernet_fingerprint(net), seed=seed)
        fit_to_pairs(predictor, found["fp32"], found.get("quantized"))
        predictor.save(folder / ACCURACY_PREDICTOR)
    _print_reports(predictor, found)
    print(f"wrote {folder / ACCURACY_PREDICTOR}; next: nas search --device cpu --supernet {folder}")


def _copy_supernet(supernet: str, folder: Path) -> None:
    """Put the supernet's file into ``folder`` beside its pairs, so that a search finds it there."""
    from nas.files import exists, read_bytes, write_bytes
    from supernets import supernet_folder
    from supernets.weights import FILE_NAME

    source = Path(supernet) if supernet.endswith(".safetensors") else supernet_folder(supernet) / FILE_NAME
    target = folder / FILE_NAME
    if not exists(target):
        write_bytes(target, read_bytes(source))
    elif not target.samefile(source) and read_bytes(target) != read_bytes(source):
        raise UsageError(f"{target} is another supernet than {supernet}; name another folder with --out")


def _kept(folder: Path, net: "Supernet") -> "tuple[AccuracyPredictor, dict[str, Pairs]]":
    """Read the predictor in ``folder`` and the pairs that it was fitted to.

    Raises:
        FileFormatError: One is missing or damaged, or of another supernet.
    """
    from nas.errors import FileFormatError
    from nas.export.scoring import beside
    from predictors.accuracy import AccuracyPredictor
    from predictors.collect import supernet_fingerprint
    from predictors.pairs import MODES, read_pairs

    predictor = AccuracyPredictor.load(beside(folder), net.space, supernet_fingerprint(net))
    modes = MODES if predictor.knows_precision else MODES[:1]
    found = {mode: read_pairs(folder / PAIRS, net.space, mode) for mode in modes}
    if other := {pairs.supernet for pairs in found.values()} - {supernet_fingerprint(net)}:
        raise FileFormatError(f"{folder / PAIRS}: pairs of supernet {min(other)}; allowed: those of the predictor's")
    return predictor, found


def _print_reports(predictor: "AccuracyPredictor", found: "dict[str, Pairs]") -> None:
    from predictors.report import report_on

    for mode, measured in found.items():
        print(f"Accuracy predictor on held-out {mode} pairs (95 % bootstrap interval):")
        for line in report_on(predictor, measured).lines():
            print(f"  {line}")
