"""The matrix: latency on B of what was searched for A, over that of what was searched for B, at equal accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from latency_tables.measurement import Floats
from nas.files import atomic_path, write_bytes, write_json

SCHEMA, SCHEMA_VERSION = "hwnas devices experiment", 2
Ids = Mapping[str, Mapping[str, Mapping[str, str]]]  # by the device run on, the level, the device searched for


@dataclass(frozen=True)
class Cell:
    """A network searched for one device and run on another, at one level of accuracy.

    Attributes:
        searched_for: The device that it was searched for.
        run_on: The device that it was run on.
        level: Predicted accuracy that it reaches, per cent.
        id: Of the network as run.
        accuracy: Of the file as run, on validation images, a fraction.
        latency_ms: Of each round, ``(rounds,)``.
        ratio: Of each round, over the latency of the network that was searched for ``run_on``.
    """

    searched_for: str
    run_on: str
    level: str
    id: str
    accuracy: float
    latency_ms: Floats
    ratio: Floats

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**vars(self), "latency_ms": self.latency_ms.tolist(), "ratio": self.ratio.tolist()}


def cells_of(
    ids: Ids, built: Mapping[str, Mapping[str, Any]], measured: Mapping[str, Sequence[Mapping[str, Any]]]
) -> list[Cell]:
    """Return every cell.

    Args:
        ids: Of the networks.
        built: Device to id to ``accuracy``.
        measured: Device to rounds of id to measurement.
    """
    found = []
    for run_on, levels in ids.items():
        for level, networks in levels.items():
            ms = {
                name: np.array([one[key]["latency_ms"] for one in measured[run_on]]) for name, key in networks.items()
            }
            for name, key in networks.items():
                accuracy = built[run_on][key]["accuracy"]
                found.append(Cell(name, run_on, level, key, accuracy, ms[name], ms[name] / ms[run_on]))
    return found


def spread_of(cells: Sequence[Cell], searched_for: str, run_on: str) -> tuple[float, float, float]:
    """Return the ratio, a geometric mean over levels: its median over rounds, the least and the largest."""
    own = [one.ratio for one in cells if (one.searched_for, one.run_on) == (searched_for, run_on)]
    rounds = np.exp(np.mean(np.log(own), axis=0))
    return float(np.median(rounds)), float(rounds.min()), float(rounds.max())


def write_report(
    out: Path,
    devices: Mapping[str, Any],
    ids: Ids,
    built: Mapping[str, Mapping[str, Any]],
    measured: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Write ``result.json``, ``matrix.md`` and ``matrix.png``; ``devices`` describes each by its name."""
    cells = cells_of(ids, built, measured)
    content = {"devices": dict(devices), "cells": [one.to_dict() for one in cells]}
    write_json(out / "result.json", SCHEMA, SCHEMA_VERSION, content)
    text = "\n".join([*_matrix(cells, list(devices)), "", *_levels(cells, list(devices))]) + "\n"
    write_bytes(out / "matrix.md", text.encode())
    draw(cells, list(devices), out / "matrix.png")
    print(text)


def _rows(cells: Sequence[Cell]) -> list[str]:
    """Return what networks were searched for."""
    return list(dict.fromkeys(one.searched_for for one in cells))


def _matrix(cells: Sequence[Cell], devices: Sequence[str]) -> list[str]:
    lines = ["| searched for | " + " | ".join(f"run on {name}" for name in devices) + " |"]
    lines.append("|" + "---|" * (1 + len(devices)))
    for name in _rows(cells):
        found = [spread_of(cells, name, run_on) for run_on in devices]
        shown = [f"{middle:.2f} [{low:.2f}, {high:.2f}]" for middle, low, high in found]
        lines.append(f"| {name} | " + " | ".join(shown) + " |")
    return lines


def _levels(cells: Sequence[Cell], devices: Sequence[str]) -> list[str]:
    head = [f"{name}: ms, validation %" for name in devices]
    lines = ["| predicted accuracy, searched for | " + " | ".join(head) + " |", "|" + "---|" * (1 + len(devices))]
    for level in dict.fromkeys(one.level for one in cells):
        for name in _rows(cells):
            own = {one.run_on: one for one in cells if (one.level, one.searched_for) == (level, name)}
            shown = [f"{np.median(own[b].latency_ms):.4f}, {100 * own[b].accuracy:.2f}" for b in devices]
            lines.append(f"| {level} %, {name} | " + " | ".join(shown) + " |")
    return lines


def draw(cells: Sequence[Cell], devices: Sequence[str], path: Path) -> None:
    """Draw the matrix."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    rows = _rows(cells)
    found = np.array([[spread_of(cells, a, b) for b in devices] for a in rows])
    figure = Figure(figsize=(1.4 + 1.3 * len(devices), 1 + 1.1 * len(rows)), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    axes.imshow(np.log(found[..., 0]), cmap="Blues", vmin=0, vmax=max(0.05, float(np.log(found[..., 0]).max()) * 1.5))
    for (row, column), value in np.ndenumerate(found[..., 0]):
        low, high = found[row, column, 1:]
        axes.text(column, row, f"{value:.2f}\n{low:.2f} to {high:.2f}", ha="center", va="center", fontsize=8)
    axes.set_xticks(range(len(devices)), [f"run on\n{name}" for name in devices], fontsize=8)
    axes.set_yticks(range(len(rows)), [f"for {name}" for name in rows], fontsize=8)
    axes.set_title("latency over that of the device's own network, at equal accuracy", fontsize=8)
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
