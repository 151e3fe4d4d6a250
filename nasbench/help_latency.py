"""Latencies that HELP (Lee et al., NeurIPS 2021) measured: NAS-Bench-201 cells, FBNet networks, once-for-all subnets.

Each reader takes either one CSV with a column a device, or the folder of HELP's repository that the figures come in
(``data/nasbench201``, ``data/fbnet``, ``data/ofa``), whose files are torch's pickles: one of the networks, and one a
device. Phones' latencies are whole milliseconds and hold outliers; ``eyeriss`` is estimated, the others are measured.
On ``pixel3``, which removes dead code, the 341 cells whose output is disconnected take less than 0.1 ms.
"""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import FileFormatError
from nas.files import is_folder
from nasbench.benchmark import Benchmark, Floats
from nasbench.columns import Columns, find, read_columns
from nasbench.fbnet import AMOUNTS as FBNET_AMOUNTS
from nasbench.fbnet import amounts_of as fbnet_amounts
from nasbench.foreign import read_torch
from nasbench.nasbench201 import AMOUNTS, amounts_of, cell_digits, read_cells

SOURCE = "it comes from HELP's repository, github.com/HayeonLee/HELP, folder data/{} (MIT): name that folder"


def read_nasbench201(folder: Path) -> Benchmark:
    """Read the latencies of the cells, spelled as in ``nasbench201``.

    The CSV is ``nb201_latency.csv.gz``; as it numbers the cells only, the table of ``nasbench201`` must be there too.
    """
    path, networks, latency = _read(
        folder, "nasbench201", "nb201", ("index",), lambda table: _numbered(table, folder), "str_arch2idx.pt", _in_order
    )
    return Benchmark("help-nasbench201", path, networks, {}, latency, amounts_of(networks), AMOUNTS)


def read_fbnet(folder: Path) -> Benchmark:
    """Read the latencies of FBNet's networks on 32-pixel images, spelled as in ``fbnet``."""
    path, networks, latency = _read(
        folder, "fbnet", "fbnet", ("arch",), lambda table: table.text("arch"), "metainfo.pt",
        lambda content: ["".join(map(str, network["op_idx_list"])) for network in content["arch"]],
    )  # fmt: skip
    return Benchmark("help-fbnet", path, networks, {}, latency, fbnet_amounts(networks), FBNET_AMOUNTS)


def read_ofa(folder: Path) -> Benchmark:
    """Read the latencies of once-for-all's subnets, spelled as in ``ofa_subnets``."""
    from nasbench.ofa_subnets import subnet_amounts, subnet_text  # they load torch

    genes = ("ks", "e", "d", "r")
    path, networks, latency = _read(
        folder, "ofa", "ofa", genes,
        lambda table: [subnet_text(*fields) for fields in zip(*map(table.text, genes), strict=True)], "ofa_archs.pt",
        lambda content: [subnet_text(*(_digits(network[name]) for name in genes)) for network in content["arch"]],
    )  # fmt: skip
    amounts, names = subnet_amounts(networks)
    return Benchmark("help-ofa", path, networks, {}, latency, amounts, names)


def _read(
    folder: Path,
    origin: str,
    stem: str,
    genes: tuple[str, ...],
    spell: Callable[[Columns], Any],
    archive: str,
    unpack: Callable[[Any], Any],
) -> tuple[Path, tuple[str, ...], dict[str, Floats]]:
    """Return the file of the networks, the networks, and latencies by device: HELP's own files before the CSV."""
    source = SOURCE.format(origin)
    if is_folder(folder / "latency"):
        path = find(folder, (archive,), source)
        content = read_torch(path)
        networks = _spelled(path, lambda: unpack(content))
        files = sorted((folder / "latency").glob("*.pt"))
        if not files:
            raise FileFormatError(f"{folder / 'latency'}: no *.pt in it; {source}")
        return path, networks, {file.stem: _latencies(file) for file in files}
    table = read_columns(find(folder, (f"{stem}_latency.csv.gz", f"{stem}_latency.csv"), source))
    latency = {name: table.numbers(name) for name in table.columns if name not in genes}
    return table.path, _spelled(table.path, lambda: spell(table)), latency


def _spelled(path: Path, spell: Callable[[], Any]) -> tuple[str, ...]:
    try:
        return tuple(spell())
    except (KeyError, TypeError, ValueError, IndexError, AttributeError) as error:
        raise FileFormatError(f"{path}: its networks are not as published ({error!r:.120}); fetch it again") from error


def _latencies(path: Path) -> Floats:
    try:
        values = np.asarray(read_torch(path), np.float64)
    except (TypeError, ValueError) as error:
        raise FileFormatError(f"{path}: not a row of latencies ({error}); fetch it again") from error
    if values.ndim != 1:
        raise FileFormatError(f"{path}: shape {values.shape}; allowed: one latency a network; fetch it again")
    return values


def _numbered(table: Columns, folder: Path) -> list[str]:
    cells = read_cells(folder)
    return [cells[int(number)] for number in table.text("index")]


def _in_order(numbers: Any) -> list[str]:
    """Return the cells of a mapping of their published spelling to their number, by number."""
    if sorted(numbers.values()) != list(range(len(numbers))):
        raise ValueError("its numbers are not 0, 1, 2 and so on")
    return [cell_digits(cell) for cell in sorted(numbers, key=numbers.__getitem__)]


def _digits(value: Any) -> str:
    return "".join(map(str, value)) if isinstance(value, list | tuple) else str(value)
