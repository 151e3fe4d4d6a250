"""Make the slice of Fashion-MNIST that ships with the package, the same bytes every time; see README.md."""

import argparse
import io
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nas.files import write_bytes, write_json
from supernets.datasets import fashion
from supernets.datasets.idx import read_idx, write_idx

SEED = 20170828
PER_CLASS = {"validation": 500, "calibration": 200}
TEST_COUNT = 10_000


def choose(labels: NDArray[np.uint8]) -> dict[str, NDArray[np.int32]]:
    """Draw where the parts stand in the training set, the same number of every class."""
    rng = np.random.default_rng(SEED)
    chosen: dict[str, list[NDArray[np.int64]]] = {part: [] for part in PER_CLASS}
    for label in range(len(fashion.CLASSES)):
        order = rng.permutation(np.flatnonzero(labels == label))
        start = 0
        for part, number in PER_CLASS.items():
            chosen[part].append(order[start : start + number])
            start += number
    return {part: np.sort(np.concatenate(indices)).astype(np.int32) for part, indices in chosen.items()}


def write_part(folder: Path, part: str, data: fashion.Labelled) -> dict[str, Any]:
    """Write one part as two idx files and return its record for the manifest."""
    record: dict[str, Any] = {"count": len(data.labels)}
    for kind, array in (("images", data.images), ("labels", data.labels)):
        name = f"{part}-{kind}-idx{array.ndim}-ubyte.gz"
        write_idx(folder / name, array)
        record[kind] = {"file": name, "sha256": fashion.array_hash(array)}
    return record


def write_indices(folder: Path, indices: dict[str, NDArray[np.int32]]) -> dict[str, Any]:
    """Write where the parts stand in the training set and return the record for the manifest."""
    archive = io.BytesIO()
    np.savez_compressed(archive, **indices)
    write_bytes(folder / "indices.npz", archive.getvalue())
    return {"file": "indices.npz", "sha256": {part: fashion.array_hash(values) for part, values in indices.items()}}


def make(source: Path, folder: Path) -> None:
    """Write the slice, its manifest and nothing else into ``folder``."""
    full = fashion.read_full_set(source)
    test = fashion.Labelled(
        read_idx(source / "t10k-images-idx3-ubyte.gz", (TEST_COUNT, fashion.SIDE, fashion.SIDE)),
        read_idx(source / "t10k-labels-idx1-ubyte.gz", (TEST_COUNT,)),
    )
    indices = choose(full.labels)
    parts = {part: fashion.Labelled(full.images[at], full.labels[at]) for part, at in indices.items()} | {"test": test}
    records = {part: write_part(folder, part, data) for part, data in parts.items()}
    rest = np.delete(full.images, np.concatenate(list(indices.values())), axis=0) / 255
    content = {
        "source": "Fashion-MNIST, https://github.com/zalandoresearch/fashion-mnist, MIT licence (LICENSE.txt)",
        "drawn": {"seed": SEED, "generator": "numpy.random.default_rng", "per_class": PER_CLASS},
        "training_set": {"images": fashion.array_hash(full.images), "labels": fashion.array_hash(full.labels)},
        "mean": round(float(rest.mean()), 6),
        "std": round(float(rest.std()), 6),
        "indices": write_indices(folder, indices),
        "parts": records,
    }
    write_json(folder / fashion.MANIFEST, *fashion.SCHEMA, content)


def main() -> None:
    """Read the command line and make the slice."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path, help="folder of the four official idx files, gzipped")
    parser.add_argument("--out", type=Path, default=fashion.SLICE, help="folder to write into (default: the package's)")
    arguments = parser.parse_args()
    make(arguments.source, arguments.out)


if __name__ == "__main__":
    main()
