"""The tables of README.md: what each method reaches at each target, and in how many questions."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np

from nas.files import write_bytes

BEGIN, END = "<!-- figures: begin. Made by run.py. -->\n", "<!-- figures: end -->"
HEAD = (
    "| method | asked | int8 layers | change, points (95 %) | met | test change, points | predicted ms | measured ms |",
    "|---|---|---|---|---|---|---|---|",
)
Row = Mapping[str, str]


def write_report(readme: Path, results: Sequence[Row], latencies: Sequence[Row], failures: Sequence[Row]) -> None:
    """Write the tables between the marks of ``readme``."""
    before, _, rest = readme.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    lines = "\n".join(tables(results, latencies, failures))
    write_bytes(readme, f"{before}{BEGIN}{lines}\n{END}{after}".encode())


def tables(results: Sequence[Row], latencies: Sequence[Row], failures: Sequence[Row]) -> Iterator[str]:
    """Yield a table for each network, device and target.

    Seeds are averaged; the interval of several is from the lowest of their lower ends to the highest of their upper.
    """
    timed = {(one["device"], one["file"]): one for one in latencies}
    groups: dict[tuple[str, str, str], dict[str, list[Row]]] = defaultdict(lambda: defaultdict(list))
    for row in results:
        groups[row["network"], row["device"], row["drop"]][row["method"]].append(row)
    for one in failures:
        groups.setdefault((one["network"], one["device"], one["drop"]), defaultdict(list))
    for (network, device, drop), methods in groups.items():
        yield f"### {network} on {device}, {100 * (1 - float(drop)):g} % of fp32's accuracy"
        yield ""
        yield from HEAD
        for method, rows in methods.items():
            yield _line(method, rows, [timed.get((device, row["file"])) for row in rows])
        for one in failures:
            if (one["network"], one["device"], one["drop"]) == (network, device, drop):
                yield f"| {one['method']} | failed: {one['error'].replace('|', '/')} |||||||"
        yield ""


def _line(method: str, rows: Sequence[Row], timings: Sequence[Row | None]) -> str:
    def mean(name: str) -> float | None:
        values = [float(row[name]) for row in rows if row[name]]
        return float(np.mean(values)) if values else None

    def points(value: float | None) -> str:
        return "" if value is None else f"{100 * value:+.2f}"

    layers, predicted = mean("int8"), mean("predicted_ms")
    low, high = min(float(row["low"]) for row in rows), max(float(row["high"]) for row in rows)
    measured = [float(one["latency_ms"]) for one in timings if one is not None]
    noisy = any(one is not None and one["quality"] != "ok" for one in timings)
    cells = (
        method if len(rows) == 1 else f"{method}, {len(rows)} seeds",
        f"{mean('asked'):.0f}",
        "" if layers is None else f"{layers:.0f} of {rows[0]['layers']}",
        f"{points(mean('change'))} ({points(low)} to {points(high)})",
        f"{sum(row['met'] == '1' for row in rows)} of {len(rows)}",
        points(mean("test_change")),
        "" if predicted is None else f"{predicted:.4f}",
        f"{np.mean(measured):.4f}{' (noisy)' if noisy else ''}" if len(measured) == len(rows) else "",
    )
    return f"| {' | '.join(cells)} |"
