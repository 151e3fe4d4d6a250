"""The picture, the tables, and how much faster once-for-all's subnets are at equal accuracy."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from imagenet_networks import Network

from latency_tables.measurement import Floats
from nas.files import atomic_path, write_bytes, write_json

SCHEMA, SCHEMA_VERSION = "hwnas imagenet experiment", 2
COLORS, SHOWN = {"fp32": "#0b6e99", "int8": "#d1495b"}, {"ofa": "o", "timm": "x"}
UNVERIFIED = "Accuracies are of fp32; in int8 none of them is verified, on either side."


@dataclass(frozen=True)
class Timed:
    """A network on a device, with its latency in each round ``(rounds,)``; of two forms, the faster."""

    network: Network
    latency_ms: Floats

    @property
    def ms(self) -> float:
        """The median of the rounds."""
        return float(np.median(self.latency_ms))

    def to_dict(self) -> dict[str, Any]:
        """Return it as JSON."""
        return {**vars(self.network), "rounds_ms": self.latency_ms.tolist(), "latency_ms": self.ms}


def timed(networks: Sequence[Network], rounds: Sequence[Mapping[str, Any]]) -> list[Timed]:
    """Return each network in each precision, in the faster of its forms."""
    best: dict[tuple[str, str], Timed] = {}
    for one in networks:
        found = Timed(one, np.array([values[one.key]["latency_ms"] for values in rounds]))
        name = (one.name, one.precision)
        if name not in best or found.ms < best[name].ms:
            best[name] = found
    return list(best.values())


def equal(one: Timed, others: Sequence[Timed], *, surely: bool) -> Timed | None:
    """Return the fastest subnet as accurate as a network in the same precision, or None.

    Args:
        one: A network of timm.
        others: Everything timed on the device.
        surely: Whether the lower end of the subnet's interval must reach that accuracy, not its middle.
    """
    reach = [
        other
        for other in others
        if other.network.source == "ofa"
        and other.network.precision == one.network.precision
        and (other.network.low if surely else other.network.top1) >= one.network.top1
    ]
    return min(reach, key=lambda other: other.ms, default=None)


def write_report(
    out: Path,
    devices: Mapping[str, Any],
    networks: Mapping[str, Sequence[Network]],
    rounds: Mapping[str, Sequence[Mapping[str, Any]]],
) -> None:
    """Write ``result.json``, ``tables.md`` and ``front.png``; everything by the devices' names."""
    found = {name: timed(networks[name], rounds[name]) for name in devices}
    content = {name: [one.to_dict() for one in each] for name, each in found.items()}
    write_json(out / "result.json", SCHEMA, SCHEMA_VERSION, {"devices": dict(devices), "networks": content})
    text = "\n\n".join(["\n".join(_table(name, each)) for name, each in found.items()] + [UNVERIFIED]) + "\n"
    write_bytes(out / "tables.md", text.encode())
    draw(found, out / "front.png")
    print(text)


def _table(name: str, found: Sequence[Timed]) -> list[str]:
    lines = [
        f"### {name}",
        "",
        "| network | top-1 % | precision | ms [rounds] | form | equal subnet | times faster | by lower end |",
        "|" + "---|" * 8,
    ]
    for one in sorted(found, key=lambda one: (one.network.source, one.network.precision, one.ms)):
        network, ms = one.network, one.latency_ms
        accuracy = f"{100 * network.top1:.2f}" + (f" (≥ {100 * network.low:.2f})" if network.source == "ofa" else "")
        cells = [network.name, accuracy, network.precision, f"{one.ms:.3f} [{ms.min():.3f}, {ms.max():.3f}]"]
        cells.append(network.form)
        pairs = [equal(one, found, surely=surely) if network.source == "timm" else None for surely in (False, True)]
        cells.append(pairs[0].network.name if pairs[0] else "")
        cells += [f"{one.ms / other.ms:.2f}" if other else "" for other in pairs]
        lines.append("| " + " | ".join(cells) + " |")
    return [*lines, "", *_summary(found)]


def _summary(found: Sequence[Timed]) -> list[str]:
    return [line for precision in COLORS if (line := summary(found, precision))]


def summary(found: Sequence[Timed], precision: str) -> str:
    """Return how the subnets fare against all networks of timm in a precision, those out of reach counted as lost."""
    peers = [one for one in found if one.network.source == "timm" and one.network.precision == precision]
    pairs = [(one, equal(one, found, surely=False)) for one in peers]
    gains = np.array([one.ms / other.ms if other else 0.0 for one, other in pairs])
    if not len(gains):
        return ""
    reached, lost = gains[gains > 0], [one.network.name for one, other in pairs if other is None]
    within = f", from {reached.min():.2f} to {reached.max():.2f} where one is" if len(reached) else ""
    return (
        f"In {precision}, of {len(gains)} networks: a subnet is as accurate and faster for {(gains > 1).sum()}, as "
        f"accurate and no faster for {((gains > 0) & (gains <= 1)).sum()}, and none is as accurate for {len(lost)} "
        f"({', '.join(lost) or 'none'}); {np.median(gains):.2f} times faster in the median of all of them{within}."
    )


def draw(found: Mapping[str, Sequence[Timed]], path: Path) -> None:
    """Draw latency against top-1, a panel a device."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    figure = Figure(figsize=(5.2 * len(found), 4.6), dpi=160, layout="constrained")
    for number, (name, each) in enumerate(found.items(), start=1):
        axes = figure.add_subplot(1, len(found), number)
        for precision, color in COLORS.items():
            for source, marker in SHOWN.items():
                own = [one for one in each if (one.network.precision, one.network.source) == (precision, source)]
                own.sort(key=lambda one: one.ms)
                ms, top1 = [one.ms for one in own], [100 * one.network.top1 for one in own]
                below = [100 * (one.network.top1 - one.network.low) for one in own]
                axes.errorbar(
                    ms, top1, yerr=[below, below], fmt=marker + ("-" if source == "ofa" else ""), color=color,
                    markersize=4, linewidth=1, elinewidth=0.6, label=f"{source}, {precision}",
                )  # fmt: skip
                if source == "timm" and precision == "fp32":
                    for one in own:
                        axes.annotate(
                            one.network.name, (one.ms, 100 * one.network.top1), fontsize=4.5, xytext=(3, 1),
                            textcoords="offset points", color="#7d868c",
                        )  # fmt: skip
        axes.set(xscale="log", xlabel=f"latency on {name}, one image [ms]", ylabel="ImageNet top-1 of fp32 [%]")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.margins(x=0.12)
        axes.grid(color="#e8ecee", linewidth=0.6)
        axes.legend(fontsize=7, frameon=False, loc="upper left")
    with atomic_path(path) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
