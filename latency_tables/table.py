"""The additive latency table: what each part of a space's networks costs, and each change of precision between parts.

The latency of a network is the sum of a constant, its stem, its blocks, its head, and a boundary term wherever two
neighbouring parts differ in precision (the tensor between them is quantized or dequantized). ``predict_ms`` is array
lookups only: the boundary before a block is folded into the block's own lookup, addressed by the precision before it.

A table is two files: ``NAME.csv`` with one row an entry, units in the column names, and ``NAME.json`` with what it is
of (space, images, device) and the SHA-256 of the CSV.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import permutations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_tables.measurement import Floats
from nas.errors import FileFormatError
from nas.files import read_csv, read_json, sha256, write_csv, write_json
from search_spaces import BlockChoice, Genes, MBConvSpace

SCHEMA = "hwnas latency table"
SCHEMA_VERSION = 1
COLUMNS = (
    "kind", "stage", "index", "resolution_px", "kernel", "middle_channels", "precision", "precision_before",
    "latency_ms",
)  # fmt: skip
CHUNK = 8192  # rows looked up at a time, so that the working set stays in the cache

MEND = "delete its folder and run `nas calibrate` again"


@dataclass(frozen=True)
class TableIdentity:
    """What a table is of. ``LatencyTable.load`` refuses another space; a calibration also other images or a device.

    Attributes:
        space: Name of the space.
        space_digest: Hash of its choices.
        precisions: The menu, in the order of the precision genes.
        channels: Channels of the images.
        classes: Classes of the classifier.
        device: ``Device.describe()``.
        fingerprint: ``Device.fingerprint``.
        csv_sha256: Of the CSV, set by ``save``.
    """

    space: str
    space_digest: str
    precisions: tuple[str, ...]
    channels: int
    classes: int
    device: Mapping[str, Any]
    fingerprint: str
    csv_sha256: str = ""


@dataclass(frozen=True)
class Part:
    """A part of a network that has an entry of its own.

    Attributes:
        kind: ``constant``, ``stem``, ``head``, ``block`` or ``boundary``.
        resolution: Pixels of the network's input.
        block: The block position; of a boundary, the block after it, or the number of blocks for the head.
        choice: What fills the block.
        precision: What the part is executed in; of a boundary, what follows.
        before: Of a boundary, what precedes.
    """

    kind: str
    resolution: int = 0
    block: int | None = None
    choice: BlockChoice | None = None
    precision: str = ""
    before: str = ""


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of every part of a space's networks.

    Attributes:
        space: The space.
        constant_ms: What every network costs, ``(1,)``.
        stem_ms: ``(resolutions, precisions)``.
        head_ms: ``(resolutions, precisions)``; last convolution, pooling and classifier.
        block_ms: For each block position ``(resolutions, codes)``; code 0, a block left out, costs nothing.
        boundary_ms: ``(blocks + 1, resolutions, precisions before, precisions)``: the change of precision before each
            block and before the head; no change costs nothing.
    """

    space: MBConvSpace
    constant_ms: Floats
    stem_ms: Floats
    head_ms: Floats
    block_ms: tuple[Floats, ...]
    boundary_ms: Floats

    def predict_ms(self, genes: Genes) -> NDArray[np.float32]:
        """Return the sum of the parts of canonical rows ``(n, num_genes)`` as milliseconds ``(n,)``."""
        out = np.empty(len(genes), np.float32)
        for start in range(0, len(genes), CHUNK):
            out[start : start + CHUNK] = self._sum(genes[start : start + CHUNK])
        return out

    def _sum(self, genes: Genes) -> NDArray[np.float32]:
        space, menu = self.space, len(self.space.precisions)
        resolution = space.resolution_index(genes).astype(np.int32)
        before = space.stem_precision(genes).astype(np.int32)
        codes = space.block_codes(genes)
        total = self._ends[0].take(resolution * menu + before)
        for block, (costs, after) in enumerate(self._lookups):
            choices = costs.shape[-1]
            address = before * choices + codes[:, block]
            before = after.take(address)
            address += resolution * (menu * choices)
            total += costs.take(address)
        total += self._ends[1].take((resolution * menu + before) * menu + space.head_precision(genes))
        return total

    @cached_property
    def _ends(self) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Stem with the constant, by (resolution, precision); head with its boundary, by (..., before, precision)."""
        head = self.head_ms[:, None, :] + self.boundary_ms[-1]
        return (self.stem_ms + self.constant_ms).astype(np.float32), head.astype(np.float32)

    @cached_property
    def _lookups(self) -> list[tuple[NDArray[np.float32], NDArray[np.int32]]]:
        """Each block's cost with the boundary, and the precision after it, by (resolution, precision before, code)."""
        lookups = []
        for block, costs in enumerate(self.block_ms):
            own = code_precisions(self.space, block)
            with_boundary = costs[:, None, :] + self.boundary_ms[block][:, :, own]
            with_boundary[:, :, 0] = 0.0
            after = np.broadcast_to(own, with_boundary.shape[1:]).copy()
            after[:, 0] = np.arange(len(self.space.precisions))
            lookups.append((np.ascontiguousarray(with_boundary, np.float32), after.astype(np.int32)))
        return lookups

    def save(self, path: Path, identity: TableIdentity) -> None:
        """Write ``path`` (a CSV) and the JSON of the same name beside it."""
        write_csv(path, COLUMNS, [(*self._key(part), f"{array[at]:.9g}") for part, array, at in self.parts()])
        content = {**vars(identity), "csv_sha256": sha256(path)}
        write_json(path.with_suffix(".json"), SCHEMA, SCHEMA_VERSION, content)

    @classmethod
    def load(cls, path: Path, space: MBConvSpace) -> tuple["LatencyTable", TableIdentity]:
        """Read a table of ``space`` and what it is of.

        Raises:
            FileFormatError: A file is missing, damaged, of another space, or an entry is missing, negative or not
            finite.
        """
        identity = read_identity(path.with_suffix(".json"))
        if (identity.space_digest, identity.precisions) != (space.preset.digest, space.precisions):
            raise FileFormatError(
                f"{path}: a table of {identity.space} {identity.space_digest} ({', '.join(identity.precisions)}), "
                f"not of {space.name} {space.preset.digest} ({', '.join(space.precisions)}); {MEND}"
            )
        if identity.csv_sha256 != sha256(path):
            raise FileFormatError(f"{path}: its SHA-256 is not the recorded one; {MEND}")
        found = {tuple(row[name] for name in COLUMNS[:-1]): row["latency_ms"] for row in read_csv(path, COLUMNS)}
        table = cls.zeros(space)
        for part, array, at in table.parts():
            key = table._key(part)
            array[at] = _milliseconds(path, key, found.pop(key, ""))
        if found:
            raise FileFormatError(f"{path}: entry {' '.join(next(iter(found)))} is not of space {space.name!r}; {MEND}")
        return table, identity

    @classmethod
    def zeros(cls, space: MBConvSpace) -> "LatencyTable":
        """Return a table of ``space`` in which nothing costs anything."""
        ends = (len(space.resolutions), len(space.precisions))
        return cls(
            space,
            np.zeros(1),
            np.zeros(ends),
            np.zeros(ends),
            tuple(np.zeros((ends[0], 1 + len(space.block_choices(block)))) for block in range(space.num_blocks)),
            np.zeros((space.num_blocks + 1, *ends, ends[1])),
        )

    def parts(self) -> Iterator[tuple[Part, Floats, tuple[int, ...]]]:
        """Yield every part that has an entry, with the array that holds it and its place there."""
        space, menu = self.space, list(enumerate(self.space.precisions))
        yield Part("constant"), self.constant_ms, (0,)
        for r, pixels in enumerate(space.resolutions):
            for p, precision in menu:
                yield Part("stem", pixels, precision=precision), self.stem_ms, (r, p)
                yield Part("head", pixels, precision=precision), self.head_ms, (r, p)
            for block, costs in enumerate(self.block_ms):
                for code, choice in enumerate(space.block_choices(block), start=1):
                    yield Part("block", pixels, block, choice, choice.precision), costs, (r, code)
            for block in range(space.num_blocks + 1):
                for (a, before), (p, precision) in permutations(menu, 2):
                    part = Part("boundary", pixels, block, precision=precision, before=before)
                    yield part, self.boundary_ms, (block, r, a, p)

    def _key(self, part: Part) -> tuple[str, ...]:
        """Return the part's fields in the file: ``COLUMNS`` without the last."""
        stage, index, kernel, middle = "", "", "", ""
        if part.block == self.space.num_blocks:
            stage = "head"
        elif part.block is not None:
            position = self.space.block_positions[part.block]
            stage, index = str(position.stage), str(position.index)
        if part.choice is not None:
            kernel, middle = str(part.choice.kernel), str(part.choice.middle)
        return part.kind, stage, index, str(part.resolution or ""), kernel, middle, part.precision, part.before


def code_precisions(space: MBConvSpace, block: int) -> NDArray[np.intp]:
    """Return the index of the precision of each code of a block position ``(codes,)``; code 0 has 0."""
    return np.array([0] + [space.precisions.index(choice.precision) for choice in space.block_choices(block)])


def read_identity(path: Path) -> TableIdentity:
    """Read what a table is of from its JSON file.

    Raises:
        FileFormatError: The file is missing or damaged.
    """
    content = read_json(path, SCHEMA, SCHEMA_VERSION)
    try:
        fields = {name: content[name] for name in TableIdentity.__dataclass_fields__}
        return TableIdentity(**{**fields, "precisions": tuple(fields["precisions"])})
    except (KeyError, TypeError) as error:
        raise FileFormatError(f"{path}: {error} is missing or of the wrong type; {MEND}") from error


def _milliseconds(path: Path, key: tuple[str, ...], text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not 0 <= value < float("inf"):
        raise FileFormatError(
            f"{path}: entry {' '.join(filter(None, key))} is {text or 'missing'!r}; allowed: 0 ms or more; {MEND}"
        )
    return value
