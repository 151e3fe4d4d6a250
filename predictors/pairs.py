"""Accuracy pairs: which candidates are measured, and the CSV file that keeps what was measured.

Pair ``index`` of a seed is the same candidate in every run, so a file can be continued by whoever has it. Half of the
candidates are uniform over the space. A sum of many uniform choices is near the middle, while a search looks at the
edges; so the other half are drawn at a level, from all choices smallest to all largest, one level for the whole network
or one each for depth, kernel and width.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.errors import FileFormatError, NasError, UsageError
from nas.files import append_lines, read_csv
from search_spaces import Genes, SearchSpace

SCHEMA_VERSION = 1
COLUMNS = ("schema_version", "space", "supernet", "mode", "seed", "index", "id", "genes", "accuracy", "images", "data")
HEADER = ",".join(COLUMNS)
MODES = ("fp32", "quantized")
DIGITS = "0123456789abcdefghijklmnopqrstuvwxyz"  # a gene in the file is one of these
HELD_OUT_EVERY = 5
PATIENCE = 1000  # draws without a new network before a space counts as exhausted


@dataclass(frozen=True)
class PlannedPair:
    """A candidate to measure: pair ``index`` of ``seed``, its canonical row ``(num_genes,)`` and its id."""

    seed: int
    index: int
    row: Genes
    id: str


@dataclass(frozen=True)
class Pairs:
    """Measured pairs of one mode.

    Attributes:
        genes: Canonical rows ``(n, num_genes)``.
        accuracy: Fractions ``(n,)``.
        index: Number of each pair in its seed ``(n,)``.
        images: Images that each accuracy is counted on.
        data: Fingerprint of the images.
        supernet: Fingerprint of the supernet.
    """

    genes: Genes
    accuracy: NDArray[np.float64]
    index: NDArray[np.int64]
    images: int
    data: str
    supernet: str

    def __len__(self) -> int:
        return len(self.genes)

    def split(self) -> tuple["Pairs", "Pairs"]:
        """Return the pairs to fit to, and every fifth, held out for the report; the same architectures in each mode."""
        held = self.index % HELD_OUT_EVERY == HELD_OUT_EVERY - 1
        fitted, tested = (
            replace(self, genes=self.genes[rows], accuracy=self.accuracy[rows], index=self.index[rows])
            for rows in (~held, held)
        )
        return fitted, tested


def plan_pairs(space: SearchSpace, count: int, *, seed: int, mode: str) -> list[PlannedPair]:
    """Return the first ``count`` distinct candidates of a seed: all in fp32, or with quantized units.

    Raises:
        UsageError: The mode is unknown, the space lacks a precision for it, or it has not ``count`` networks.
    """
    check_mode(space, mode)
    planned: list[PlannedPair] = []
    seen: set[str] = set()
    index = last_new = 0
    while len(planned) < count:
        if index - last_new > PATIENCE:
            only = f"there are only {len(planned)}; ask for fewer, or give the space more choices"
            raise UsageError(f"{count} pairs of {space.name} ({mode}): {only}")
        row = draw_row(space, np.random.default_rng((seed, index)), index, mode)
        candidate = space.candidate(row)
        of_the_mode = mode == "fp32" or set(candidate.precisions) != {"fp32"}
        if of_the_mode and candidate.id not in seen:
            seen.add(candidate.id)
            planned.append(PlannedPair(seed, index, row, candidate.id))
            last_new = index
        index += 1
    return planned


def check_mode(space: SearchSpace, mode: str) -> None:
    """Raise ``UsageError`` unless ``mode`` is known and the space has precisions for it."""
    if mode not in MODES:
        raise UsageError(f"mode {mode!r}; allowed: {', '.join(MODES)}")
    if "fp32" not in space.precisions or (mode == "quantized" and len(space.precisions) < 2):
        menu = ", ".join(space.precisions)
        raise UsageError(f"mode {mode} in {space.name} with {menu}; allowed: fp32 and, to quantize, another")


def draw_row(space: SearchSpace, rng: np.random.Generator, index: int, mode: str) -> Genes:
    """Draw one canonical row; ``index`` picks the kind of architecture and of precisions in turn."""
    genes = space.sample(1, rng) if index % 2 == 0 else sample_graded(space, rng, together=index % 4 == 1)
    if mode == "fp32":
        return space.with_precision(genes, "fp32")[0]
    menu = np.arange(len(space.precisions))
    quantized = menu[np.array(space.precisions) != "fp32"]
    units = len(space.part_names)
    match (index // 4) % 3:
        case 0:  # one precision throughout
            values = np.full(units, rng.choice(quantized))
        case 1:  # every unit by itself, quantized with a probability that differs between networks
            chosen = rng.random(units) < rng.random()
            values = np.where(chosen, rng.choice(quantized, units), space.precisions.index("fp32"))
        case _:  # islands: runs of units that share a precision
            island = np.cumsum(rng.random(units) < 0.25)
            values = rng.choice(menu, units + 1)[island]
    return space.with_precisions(genes, values[None])[0]


def sample_graded(space: SearchSpace, rng: np.random.Generator, *, together: bool) -> Genes:
    """Draw one row ``(1, num_genes)`` at a level in [0, 1] of size: 0 is all smallest, 1 all largest.

    The index of a choice is binomial with the level as its probability; the resolution is uniform.

    Args:
        space: The space.
        rng: Randomness.
        together: One level for the whole network, not one each for depth, kernel and width.
    """
    kinds = np.array([name.rsplit(".")[-1].rsplit("_")[0] for name in space.gene_names])
    level = dict.fromkeys(("depth", "kernel", "width"), rng.random())
    if not together:
        level = {kind: rng.random() for kind in level}
    probability = np.select([kinds == "depth", kinds == "kernel"], [level["depth"], level["kernel"]], level["width"])
    genes = rng.binomial(space.cardinalities - 1, probability)
    genes[0] = rng.integers(space.cardinalities[0])
    return space.canonical(genes.astype(np.int8)[None])


def open_pairs(path: Path) -> None:
    """Make ``path`` ready for appending: write the header if it is new, drop a last line that was cut short."""
    append_lines(path, HEADER, [])


def append_pair(
    path: Path,
    space: SearchSpace,
    pair: PlannedPair,
    *,
    supernet: str,
    mode: str,
    accuracy: float,
    images: int,
    data: str,
) -> None:
    """Append one measured pair as one line, synced to disk."""
    genes = "".join(DIGITS[gene] for gene in pair.row)
    origin = (SCHEMA_VERSION, space.preset.digest, supernet, mode, pair.seed, pair.index, pair.id)
    line = ",".join(map(str, (*origin, genes, f"{accuracy:.6f}", images, data)))
    append_lines(path, HEADER, [line])


def measured_ids(path: Path, space: SearchSpace, *, supernet: str, data: str) -> set[str]:
    """Return the ids of the candidates in a file, after checking that it is of this space, supernet and images.

    Raises:
        FileFormatError: The file is damaged, or holds pairs of another space or supernet, or on other images.
    """
    rows = _rows(path, space)
    for column, name, own in (("supernet", "supernet", supernet), ("data", "images", data)):
        if other := {row[column] for row in rows} - {own}:
            raise FileFormatError(f"{path}: pairs of {name} {min(other)}, not {own}; name another file")
    return {row["id"] for row in rows}


def read_pairs(path: Path, space: SearchSpace, mode: str) -> Pairs:
    """Read the pairs of one mode, in the order of (seed, index).

    Raises:
        FileFormatError: The file is missing, damaged, of another space, or holds no pair of that mode.
    """
    rows = [row for row in _rows(path, space) if row["mode"] == mode]
    if not rows:
        raise FileFormatError(f"{path}: no pairs of mode {mode!r}; collect some first")
    lines = sorted(_parsed(path, rows, space.num_genes), key=lambda line: line[:2])
    origins = {(row["images"], row["data"], row["supernet"]) for row in rows}
    if len(origins) > 1:
        found = "; ".join(f"{count} images {data}, supernet {supernet}" for count, data, supernet in sorted(origins))
        raise FileFormatError(f"{path}: accuracies of several kinds: {found}; allowed: one")
    genes = np.array([line[2] for line in lines])
    try:
        canonical = space.validate(genes)
    except NasError as error:
        raise FileFormatError(f"{path}: {error}") from error
    accuracy, index = np.array([line[3] for line in lines]), np.array([line[1] for line in lines])
    [(_, data, supernet)] = origins
    return Pairs(canonical, accuracy, index, lines[0][4], data, supernet)


def _rows(path: Path, space: SearchSpace) -> list[dict[str, str]]:
    if space.precisions != space.preset.precisions:
        menu, own = (", ".join(precisions) for precisions in (space.precisions, space.preset.precisions))
        raise UsageError(f"pairs of {space.name} with {menu}; allowed: the preset's own {own}")
    rows = read_csv(path, COLUMNS)
    for number, row in enumerate(rows, start=2):
        for column, allowed in (("schema_version", str(SCHEMA_VERSION)), ("space", space.preset.digest)):
            if row[column] != allowed:
                raise FileFormatError(f"{path}: line {number} has {column} {row[column]}; allowed: {allowed}")
    return rows


def _parsed(
    path: Path, rows: Sequence[dict[str, str]], num_genes: int
) -> Iterator[tuple[int, int, list[int], float, int]]:
    """Yield seed, index, genes, accuracy and images of each row."""
    for row in rows:
        try:
            accuracy, images = float(row["accuracy"]), int(row["images"])
            genes = [DIGITS.index(digit) for digit in row["genes"]]
            if len(genes) != num_genes:
                raise ValueError(f"{len(genes)} genes; allowed: {num_genes}")
            if not 0 <= accuracy <= 1 or images < 1:
                raise ValueError(f"accuracy {accuracy} on {images} images")
            yield int(row["seed"]), int(row["index"]), genes, accuracy, images
        except ValueError as error:
            raise FileFormatError(f"{path}: pair {row['id']} does not fit ({error})") from error
