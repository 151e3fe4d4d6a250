"""``nas search``: the main job."""

from datetime import datetime
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.interrupt import kept_after_interrupt
from nas.cli.options import Data, Devices, Json, Quiet, Seed, Space, Supernet
from nas.cli.progress import progress_on
from nas.defaults import BUDGET, FINALISTS, MOST_FINALISTS, SPACE, STUDY_BUDGET

if TYPE_CHECKING:
    from nas.export import Outcome


def search(
    device: Devices,
    space: Space = None,
    supernet: Supernet = None,
    accuracy_predictor: Annotated[
        Path | None,
        typer.Option(
            "--accuracy-predictor",
            metavar="FILE",
            help="Instead of the one beside the supernet. With it, a space "
            "without a supernet can be searched: latency is verified, accuracy predicted only.",
        ),
    ] = None,
    data: Data = None,
    one_for_all: Annotated[
        bool,
        typer.Option(
            "--one-for-all",
            help="Of several devices, the one subnet that is best for the worst of them. Its latency on each is "
            "divided by a reference. With --latency that is the device's budget, and the most accurate subnet whose "
            "largest ratio is at most 1 is chosen. Without, it is the latency of the device's own best network of "
            "equal accuracy, the lowest of the knees of the devices' own fronts, and the subnet of that accuracy or "
            "more whose largest ratio is least is chosen.",
        ),
    ] = False,
    latency: Annotated[
        str | None,
        typer.Option(
            "--latency",
            metavar="MS",
            help="Latency budget: look for the most accurate network within it; of several devices, one for all of "
            "them or one each, with commas between.",
        ),
    ] = None,
    size: Annotated[
        float | None, typer.Option("--size", metavar="MB", help="Budget of the weights as exported, in million bytes.")
    ] = None,
    macs: Annotated[
        float | None, typer.Option("--macs", metavar="M", help="Budget of multiply-adds, in millions.")
    ] = None,
    memory: Annotated[
        float | None,
        typer.Option("--memory", metavar="MB", help="Budget of the activations alive at once, in million bytes."),
    ] = None,
    objective: Annotated[
        list[str] | None,
        typer.Option(
            "--objective",
            metavar="NAME",
            help="What the front is of, one each: accuracy, latency, size, macs, memory; without it, the first two. "
            "With --one-for-all latency is the largest ratio, and latency@DEVICE that on one of them.",
        ),
    ] = None,
    confident: Annotated[
        bool,
        typer.Option(
            "--confident", help="Keep the upper end of the predicted interval within --latency, not its middle."
        ),
    ] = False,
    strategy: Annotated[
        str, typer.Option("--strategy", metavar="NAME", help="How to search; `nas strategies` lists them.")
    ] = "evolution",
    from_scratch: Annotated[
        bool,
        typer.Option("--from-scratch", help="Let a strategy that trains begin with random weights."),
    ] = False,
    budget: Annotated[
        int | None,
        typer.Option(
            "--budget",
            metavar="N",
            min=1,
            help=f"Candidates to score: {BUDGET:,} if nothing is said, {STUDY_BUDGET:,} in an Optuna storage.",
        ),
    ] = None,
    seed: Seed = 0,
    finalists: Annotated[
        int, typer.Option("--finalists", metavar="N", min=1, max=MOST_FINALISTS, help="Networks to export and measure.")
    ] = FINALISTS,
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="New folder of the results; without it, nas-search/DEVICE-TIME."),
    ] = None,
    storage: Annotated[
        str | None,
        typer.Option(
            "--storage",
            metavar="PLACE",
            help="Keep the search's state there and go on from it: a file, or, to share the search between processes, "
            "an Optuna storage, FILE.db or a URL (postgresql://, journal://, grpc://).",
        ),
    ] = None,
    recalibrate: Annotated[
        bool, typer.Option("--recalibrate", help="Measure the device anew, even if it is known.")
    ] = False,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Find the best networks for a device, and export them.

    Calibrates the device (about a minute, kept for the next time), searches by prediction (seconds), then exports,
    quantizes, checks and measures the finalists beside baselines. Writes result.json, pareto.png and a bundle for each
    finalist.

    Of several devices, the folder has a folder for each; with --one-for-all also one_for_all.json.

    Example: nas search --device cpu --latency 0.2
    """
    from latency_tables import get_device
    from nas.cli.fleet import latency_limits, report_each, report_shared
    from nas.cli.search_view import SearchView
    from nas.export import FleetJob, Progress, SearchJob, run_fleet, run_one_for_all, run_search
    from nas.export.goal import DEFAULT
    from nas.search import get_strategy
    from nas.search.storages import storage_url
    from search_spaces import get_space

    get_strategy(strategy)
    if space is not None:
        get_space(space)
    budgets = {"size": size, "macs": macs, "memory": memory}
    untrained = _is_untrained(space, supernet, accuracy_predictor)
    devices = tuple(get_device(name) for name in device.split(","))
    names, several = [one.name for one in devices], len(devices) > 1 or one_for_all
    limits, objectives = latency_limits(latency, names), tuple(objective) if objective else DEFAULT
    job = SearchJob(
        device=devices[0],
        out=out or Path("nas-search", f"{'+'.join(names)}-{datetime.now():%Y%m%d-%H%M%S}"),
        supernet=supernet or space or SPACE,
        space=space,
        data=data,
        limit_ms=None if several else limits.get(names[0]),
        limits={name: limit for name, limit in budgets.items() if limit is not None},
        objectives=DEFAULT if one_for_all else objectives,
        confident=confident and not several,
        strategy=strategy,
        from_scratch=from_scratch,
        budget=budget or (STUDY_BUDGET if storage_url(storage) else BUDGET),
        seed=seed,
        finalists=finalists,
        recalibrate=recalibrate,
        storage=storage,
        untrained=untrained,
        accuracy_predictor=accuracy_predictor,
    )
    fleet = FleetJob(job, devices, limits, objectives, confident) if several else None
    with kept_after_interrupt(lambda: _kept(", ".join(names), storage)), progress_on(quiet) as display:
        view = SearchView(display)
        progress = Progress(view.listen, display.note, view.front)
        if fleet is None:
            report = partial(_report, run_search(job, progress))
        elif one_for_all:
            report = partial(report_shared, run_one_for_all(fleet, progress))
        else:
            report = partial(report_each, run_fleet(fleet, progress))
    if lines := report(job.out, json=json):
        typer.echo(f"error: {'; '.join(lines)}; try a larger --latency or more --finalists", err=True)
        raise typer.Exit(1)


def _report(outcome: "Outcome", out: Path, *, json: bool) -> list[str]:
    """Print what was found for one device; return a line if no network is within its budget."""
    from nas.cli.output import print_json
    from nas.cli.search_report import print_outcome, unmet
    from nas.export.result import SCHEMA, SCHEMA_VERSION, result_content

    if json:
        print_json({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, **result_content(outcome), "out": str(out)})
    else:
        print_outcome(outcome, out)
    return [unmet(outcome)] if outcome.chosen is None else []


def _is_untrained(space: str | None, supernet: object, accuracy_predictor: Path | None) -> bool:
    """Return whether there are no weights to search by, only a predictor of their accuracy."""
    from nas.errors import UsageError
    from supernets import list_supernets

    weights = supernet is not None or (space or SPACE) in list_supernets()
    if not weights and accuracy_predictor is None:
        raise UsageError(
            f"no supernet ships for space {space!r}; name one with --supernet, or search without weights by a "
            "predictor of its accuracy, --accuracy-predictor"
        )
    return not weights


def _kept(device: str, storage: str | None) -> str:
    """Return what an interrupted job leaves: nothing in the output folder, what is known of the device in the cache."""
    from nas.files import cache_dir
    from nas.search.storages import without_password

    there = storage is not None and ("://" in storage or Path(storage).exists())
    state = f", the search's state in {without_password(storage)}" if there and storage else ""
    return f"kept: what the calibration of {device} measured, in {cache_dir()}{state}; the same command goes on"
