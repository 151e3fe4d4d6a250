"""The additive latency table: what each part of a space's networks costs, after a part of each precision.

The latency of a network is the sum of a constant and of its parts: stem, blocks, head. What a part costs depends on the
resolution, on what fills it, and on the precision of the part before it: where that is another, the tensor between them
is quantized or dequantized. ``predict_ms`` is array lookups only.

A table is two files: ``NAME.csv`` with one row an entry, units in the column names, and ``NAME.json`` with what it is
of (space, images, device) and the SHA-256 of the CSV.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_tables.measurement import Floats
from nas.errors import FileFormatError
from nas.files import read_csv, read_json, sha256, write_csv, write_json
from search_spaces import Genes, PartChoice, SearchSpace

SCHEMA = "hwnas latency table"
SCHEMA_VERSION = 2
COLUMNS = ("part", "resolution_px", "choice", "precision_before", "latency_ms")
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
    """A part of a network, filled, that has an entry of its own.

    Attributes:
        number: Which of the space's parts it is.
        name: Its name.
        resolution: Pixels of the network's input.
        choice: What fills it.
        before: Precision of the part before it; empty for the first one.
    """

    number: int
    name: str
    resolution: int
    choice: PartChoice
    before: str

    @property
    def key(self) -> tuple[str, str, str, str]:
        """Its fields in the file: ``COLUMNS`` without the last."""
        choice = " ".join(f"{field.name}={getattr(self.choice, field.name)}" for field in fields(self.choice))  # type: ignore[arg-type]
        return self.name, str(self.resolution), choice, self.before


CONSTANT = ("constant", "", "", "")  # the key of what every network costs


@dataclass(frozen=True)
class LatencyTable:
    """Milliseconds of every part of a space's networks.

    Attributes:
        space: The space.
        constant_ms: What every network costs, ``(1,)``.
        part_ms: For each part ``(resolutions, precisions before, 1 + choices)``; code 0, a part left out, costs
            nothing. Nothing precedes the first part: its second axis has length 1.
    """

    space: SearchSpace
    constant_ms: Floats
    part_ms: tuple[Floats, ...]

    def predict_ms(self, genes: Genes) -> NDArray[np.float32]:
        """Return the sum of the parts of canonical rows ``(n, num_genes)`` as milliseconds ``(n,)``."""
        out = np.empty(len(genes), np.float32)
        for start in range(0, len(genes), CHUNK):
            out[start : start + CHUNK] = self._sum(genes[start : start + CHUNK])
        return out

    def _sum(self, genes: Genes) -> NDArray[np.float32]:
        resolution, codes = self.space.resolution_index(genes).astype(np.int32), self.space.part_codes(genes)
        total = np.full(len(genes), self.constant_ms[0], np.float32)
        before = np.zeros(len(genes), np.int32)
        for part, (costs, after) in enumerate(self._lookups):
            _, befores, choices = costs.shape
            address = before * choices + codes[:, part]
            before = after.take(address)
            address += resolution * (befores * choices)
            total += costs.take(address)
        return total

    @cached_property
    def _lookups(self) -> list[tuple[NDArray[np.float32], NDArray[np.int32]]]:
        """Each part's cost, and the precision after it by (precision before, code)."""
        lookups = []
        for part, costs in enumerate(self.part_ms):
            own = [self.space.precisions.index(choice.precision) for choice in self.space.part_choices(part)]
            after = np.broadcast_to(np.array([0, *own], np.int32), costs.shape[1:]).copy()
            after[:, 0] = np.arange(costs.shape[1])  # a part left out changes nothing
            lookups.append((np.ascontiguousarray(costs, np.float32), after))
        return lookups

    def save(self, path: Path, identity: TableIdentity) -> None:
        """Write ``path`` (a CSV) and the JSON of the same name beside it."""
        rows = [(*CONSTANT, f"{self.constant_ms[0]:.9g}")]
        rows += [(*part.key, f"{array[at]:.9g}") for part, array, at in self.entries()]
        write_csv(path, COLUMNS, rows)
        content = {**vars(identity), "csv_sha256": sha256(path)}
        write_json(path.with_suffix(".json"), SCHEMA, SCHEMA_VERSION, content)

    @classmethod
    def load(cls, path: Path, space: SearchSpace) -> tuple["LatencyTable", TableIdentity]:
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
        places = [(CONSTANT, table.constant_ms, (0,)), *((part.key, array, at) for part, array, at in table.entries())]
        for key, array, at in places:
            array[at] = _milliseconds(path, key, found.pop(key, ""))
        if found:
            raise FileFormatError(f"{path}: entry {' '.join(next(iter(found)))} is not of space {space.name!r}; {MEND}")
        return table, identity

    def part(self, space: SearchSpace) -> "LatencyTable":
        """Return the table of a space that is this one with fewer sizes and precisions.

        Raises:
            ValueError: It has a choice that this one lacks.
        """
        known = {part.key: array[at] for part, array, at in self.entries()}
        found = LatencyTable.zeros(space)
        found.constant_ms[0] = self.constant_ms[0]
        for part, array, at in found.entries():
            if part.key not in known:
                raise ValueError(f"{space.name} is no part of {self.space.name}: it has {' '.join(part.key)}")
            array[at] = known[part.key]
        return found

    @classmethod
    def zeros(cls, space: SearchSpace) -> "LatencyTable":
        """Return a table of ``space`` in which nothing costs anything."""
        befores = [1] + [len(space.precisions)] * (len(space.part_names) - 1)
        shapes = [
            (len(space.resolutions), count, 1 + len(space.part_choices(part))) for part, count in enumerate(befores)
        ]
        return cls(space, np.zeros(1), tuple(map(np.zeros, shapes)))

    def entries(self) -> Iterator[tuple[Part, Floats, tuple[int, int, int]]]:
        """Yield every filled part, with the array that holds its milliseconds and its place there."""
        space = self.space
        for number, (name, costs) in enumerate(zip(space.part_names, self.part_ms, strict=True)):
            befores = space.precisions if number else ("",)
            for (r, pixels), (b, before), (code, choice) in product(
                enumerate(space.resolutions), enumerate(befores), enumerate(space.part_choices(number), start=1)
            ):
                yield Part(number, name, pixels, choice, before), costs, (r, b, code)


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
