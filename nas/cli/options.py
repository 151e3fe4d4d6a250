"""Options that several commands share."""

import re
from typing import Annotated

import typer

from nas.defaults import SPACE

Device = Annotated[
    str,
    typer.Option("--device", metavar="NAME", help="What to measure on: a name of `nas devices`, or a profile's .toml."),
]
Devices = Annotated[
    str,
    typer.Option(
        "--device", metavar="NAMES", help="What to search for: a name of `nas devices`, a profile's .toml, or several "
        "of them with commas between: each gets a result of its own.",
    ),
]  # fmt: skip
Data = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="DATA",
        help="fashion-mnist, cifar10, or a folder: of images, one subfolder a class, or of a known data set's files. "
        "Without it, the known set that the network was trained on; else the shipped slice of Fashion-MNIST.",
    ),
]  # fmt: skip
TrainingData = Annotated[
    str | None,
    typer.Option(
        "--data", metavar="DATA",
        help="fashion-mnist (without it), cifar10, or a folder: of images, one subfolder a class, or of a known data "
        "set's files. What has a name is sought in $HWNAS_DATA if that is set, else on this machine, and downloaded.",
    ),
]  # fmt: skip
Space = Annotated[
    str | None,
    typer.Option("--space", metavar="NAME", help=f"A space of `nas spaces`; {SPACE} if nothing else is said."),
]
Supernet = Annotated[
    str | None,
    typer.Option(
        "--supernet", metavar="PATH", help="A folder that `nas train` wrote, or its supernet.safetensors; "
        "without it, the one that ships for the space.",
    ),
]  # fmt: skip
MOST_SEED = 2**63 - 1  # of numpy's and torch's generators alike
Seed = Annotated[
    int, typer.Option("--seed", metavar="N", min=0, max=MOST_SEED, help="Everything random follows from it.")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors and the result only.")]


def check_torch_device(name: str) -> None:
    """Check what ``--torch-device`` was given, before any work.

    Raises:
        UsageError: It is no processor that networks are run on here, or torch cannot use it.
    """
    import torch

    from nas.errors import UsageError

    reason = "" if re.fullmatch(r"cpu|mps|cuda(:[0-9]{1,2})?", name) else "not known"
    try:
        if not reason:
            torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:
        reason = (str(error).splitlines() or ["torch cannot use it"])[0]
    if reason:
        raise UsageError(f"--torch-device {name!r}: {reason}; allowed: cpu, or cuda, cuda:1 or mps where torch has it")


def numbers(option: str, text: str | None) -> tuple[float, ...] | None:
    """Return what ``--mean`` or ``--std`` was given."""
    from nas.errors import UsageError

    try:
        return None if text is None else tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"{option} {text!r}; allowed: one number a channel, 0.485,0.456,0.406 for example") from None
