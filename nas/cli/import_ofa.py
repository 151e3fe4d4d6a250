"""``nas import-ofa``: what once-for-all released, as ours."""

from pathlib import Path
from typing import Annotated

import typer


def import_ofa(
    file: Annotated[
        Path, typer.Argument(metavar="FILE", help="A supernet's checkpoint, or an accuracy predictor (.pth or .npz).")
    ],
    out: Annotated[Path, typer.Option("--out", metavar="DIR", help="Folder to write into; one for both is handy.")],
    space: Annotated[
        str | None,
        typer.Option(
            "--space",
            metavar="NAME",
            help="What it is of; without it, the space of once-for-all's that fits best.",
        ),
    ] = None,
    classes: Annotated[
        Path | None,
        typer.Option("--classes", metavar="FILE", help="Names of a supernet's classes, one a line; else numbered."),
    ] = None,
    measured: Annotated[
        Path | None,
        typer.Option(
            "--measured",
            metavar="CSV",
            help="Measured accuracies (columns ks, e, d, r, top1) that a predictor is "
            "brought to: as released, it speaks of training images and says some points too much.",
        ),
    ] = None,
) -> None:
    """Import a supernet or an accuracy predictor of once-for-all.

    Reads the released checkpoint without running any code in it, checks every tensor against the space, and writes
    supernet.safetensors or accuracy_predictor.safetensors.

    Example: nas import-ofa ofa_mbv3_d234_e346_k357_w1.0 --out imported
    """  # fmt: skip
    from nas.errors import UsageError
    from predictors.ofa_layers import is_predictor

    if is_predictor(file):
        if classes is not None:
            raise UsageError("--classes with an accuracy predictor; allowed: with a supernet")
        _import_predictor(file, out, space, measured)
    else:
        if measured is not None:
            raise UsageError("--measured with a supernet; allowed: with an accuracy predictor")
        _import_supernet(file, out, space, classes)


def _import_supernet(file: Path, out: Path, space: str | None, classes: Path | None) -> None:
    from nas.errors import FileFormatError
    from nas.files import read_bytes, sha256
    from supernets import import_ofa as import_supernet
    from supernets import save_supernet
    from supernets.weights import FILE_NAME

    names = None
    if classes is not None:
        try:
            names = read_bytes(classes).decode().split("\n")
        except UnicodeDecodeError as error:
            raise FileFormatError(f"{classes}: not a text file; allowed: one class a line") from error
        names = [name.strip() for name in names if name.strip()]
    target = _new_file(out / FILE_NAME)
    supernet = import_supernet(file, space, classes=names)
    save_supernet(supernet, target, {"source": "once-for-all", "file": file.name, "sha256": sha256(file)})
    print(f"wrote {target}: space {supernet.space.name}, {supernet.classes} classes")
    print(f"next: nas search --device cpu --supernet {out} --data DIR (images of these classes)")


def _import_predictor(file: Path, out: Path, space: str | None, measured: Path | None) -> None:
    from nas.export.scoring import ACCURACY_PREDICTOR
    from predictors.ofa_accuracy import import_ofa_predictor
    from predictors.ofa_measured import read_measured
    from search_spaces import get_space

    target = _new_file(out / ACCURACY_PREDICTOR)
    predictor = import_ofa_predictor(file, None if space is None else get_space(space))
    if measured is not None:
        predictor = predictor.calibrate(*read_measured(measured, predictor.space))
    predictor.save(target)
    name, pixels = space or predictor.space.name, predictor.space.resolutions
    print(f"wrote {target}: space {predictor.space.name} in fp32 at {pixels[0]} to {pixels[-1]} px")
    if measured is None:
        print("it predicts accuracy on held-out training images; --measured brings it to measured ones")
    else:
        print(f"90 % of its errors on measured accuracies are within {100 * predictor.scale.radius:.2f} points")
    print(f"next: nas search --device cpu --space {name} --accuracy-predictor {target}")


def _new_file(path: Path) -> Path:
    from nas.errors import UsageError

    if path.exists():
        raise UsageError(f"output {path} exists; name another folder with --out")
    return path
