"""Options that several commands share."""

from pathlib import Path
from typing import Annotated

import typer

Device = Annotated[str, typer.Option("--device", metavar="NAME", help="What to measure on; `nas devices` lists them.")]
Data = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR",
        help="A folder of images, one subfolder a class, or of Fashion-MNIST's files; without it, the shipped slice.",
    ),
]  # fmt: skip
TrainingData = Annotated[
    Path | None,
    typer.Option(
        "--data", metavar="DIR",
        help="A folder of images, one subfolder a class, or of Fashion-MNIST's files; without it, Fashion-MNIST from "
        "$HWNAS_DATA, the Debian package, or downloaded.",
    ),
]  # fmt: skip
Space = Annotated[
    str | None,
    typer.Option("--space", metavar="NAME", help="A space of `nas spaces`; fashion-mbv3 if nothing else is said."),
]
DEFAULT_SPACE = "fashion-mbv3"
Supernet = Annotated[
    str | None,
    typer.Option(
        "--supernet", metavar="PATH", help="A folder that `nas train` wrote, or its supernet.safetensors; "
        "without it, the one that ships for the space.",
    ),
]  # fmt: skip
Seed = Annotated[int, typer.Option("--seed", metavar="N", min=0, help="Everything random follows from it.")]
Json = Annotated[bool, typer.Option("--json", help="Print JSON on standard output and nothing else there.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No progress; errors and the result only.")]
