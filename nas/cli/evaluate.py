"""``nas evaluate``: an exported bundle, again."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from nas.cli.options import Data, Json, Quiet
from nas.cli.output import print_json, print_table
from nas.cli.progress import progress_on

if TYPE_CHECKING:
    from nas.export import Bundle


def evaluate(
    bundle: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle's folder, as `nas search` wrote it.")],
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="A name of `nas devices`, or a profile's .toml; else what it is for.",
        ),
    ] = None,
    data: Data = None,
    json: Json = False,
    quiet: Quiet = False,
) -> None:
    """Measure a bundle again: accuracy and latency.

    Checks every file of the bundle, runs model.onnx on the validation and test images, times it by the full
    protocol, and prints what the bundle's report says beside it.
    """
    from latency_tables import get_device
    from nas.cli.search_report import drift_lines
    from nas.export import Progress, load_bundle
    from nas.export.evaluation import evaluate_bundle

    opened = load_bundle(bundle)
    on = get_device(device or _made_for(opened))
    with progress_on(quiet) as display:
        progress = Progress(display.listener, display.note)
        result = evaluate_bundle(opened, on, data=data, progress=progress)
    if json:
        print_json(result)
        return
    reported, now = result["reported"], result["now"]
    print_table(
        ("figure", "reported", "now"),
        [
            *((f"{part} accuracy %", *(_percent(figures[key]) for figures in (reported, now)))
              for part, key in (("validation", "accuracy"), ("test", "test_accuracy"))),
            ("latency ms", f"{reported['latency_ms']:.4f}", f"{now['latency_ms']:.4f}"),
            *((f"latency ms, {end} end of 95 % interval", f"{reported[key]:.4f}", f"{now[key]:.4f}")
              for end, key in (("lower", "ci_low_ms"), ("upper", "ci_high_ms"))),
            ("timing", reported["quality"], now["quality"]),
        ],
        title=f"{result['id']} on {result['device']['name']}, {result['device']['runtime']}",
        numbers=" rr",
    )  # fmt: skip
    if "warning" in opened.report:
        print(f"{opened.report['warning']}.")
    for line in drift_lines(now["drift"]):
        print(line)
    if not result["same_device"]:
        here = result["device"]["fingerprint"]
        print(f"The report is of another device: fingerprint {reported['fingerprint']}, here {here}.")


def _made_for(bundle: "Bundle") -> str:
    """Return the name of the device that a bundle is for, if it is one here."""
    from latency_tables import list_devices
    from nas.errors import UsageError

    name = bundle.device_name
    if name not in list_devices():
        raise UsageError(
            f"{bundle.path} is for device {name!r}, which is no name here; give its profile, or another device, with "
            f"--device; there is: {', '.join(list_devices())}"
        )
    return name


def _percent(fraction: float | None) -> str:
    return "" if fraction is None else f"{100 * fraction:.2f}"
