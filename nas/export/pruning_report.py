"""What a pruning leaves behind: the graph, the weights, the figures, and a picture of them."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from torch import nn

from latency_tables import Device
from nas.compression.models import LoadedModel
from nas.compression.pruning import Pruned, Task
from nas.compression.widths import widths_of
from nas.export.plot import CHOSEN, FRONT, INK, QUIET
from nas.export.pruning_verification import Verified
from nas.files import atomic_path, write_bytes, write_json, write_tensors

MODEL, WEIGHTS, REPORT, TEXT, PICTURE = "model.onnx", "weights.safetensors", "report.json", "report.md", "pruning.png"
REPORT_SCHEMA, WEIGHTS_SCHEMA = ("pruning-report", 1), ("pruned-weights", 1)


def write_outcome(
    out: Path,
    *,
    model: LoadedModel,
    task: Task,
    device: Device,
    asked: Mapping[str, Any],
    pruned: Pruned,
    verified: Mapping[str, Verified],
) -> dict[str, Any]:
    """Write all files into ``out``, the report last, and return it."""
    report = _report(model, task, device, asked, pruned, verified)
    write_bytes(out / MODEL, verified["pruned"].graph.SerializeToString())
    tensors = {name: value.detach() for name, value in pruned.network.state_dict().items()}
    write_tensors(out / WEIGHTS, tensors, *WEIGHTS_SCHEMA, {"model": model.name})
    figure = draw_pruning(report)
    with atomic_path(out / PICTURE) as temporary:
        FigureCanvasAgg(figure).print_png(str(temporary))
    write_bytes(out / TEXT, ("\n".join(report_lines(report)) + "\n").encode())
    write_json(out / REPORT, *REPORT_SCHEMA, report)
    return report


def _report(
    model: LoadedModel,
    task: Task,
    device: Device,
    asked: Mapping[str, Any],
    pruned: Pruned,
    verified: Mapping[str, Verified],
) -> dict[str, Any]:
    before, after = widths_of(model.network), widths_of(pruned.network)
    whole, left = verified["whole"], verified["pruned"]
    iterations = [
        {name: getattr(one, name) for name in (*_COLUMNS, "proposals")} | {"removed": one.before - one.after}
        for one in pruned.state.iterations
    ]
    return {
        "model": model.name,
        "data": task.name,
        "resolution": task.resolution,
        "mean": list(task.mean),
        "std": list(task.std),
        "metric": task.kind.metric,
        "higher_is_better": task.kind.higher_is_better,
        "device": {
            "name": device.name, "runtime": device.runtime, "fingerprint": device.fingerprint,
            "simulated": device.simulated,
        },
        "asked": dict(asked),
        "met": left.latency.latency_ms <= asked["latency_ms"],
        "speedup": whole.latency.latency_ms / left.latency.latency_ms,
        "whole": _figures(whole, model.network),
        "pruned": _figures(left, pruned.network),
        "iterations": iterations,
        "epochs": list(pruned.state.scores),
        "layers": [
            {"path": path, "before": [width.inputs, width.outputs], "after": [after[path].inputs, after[path].outputs]}
            for path, width in before.items()
            if after[path] != width
        ],
    }  # fmt: skip


_COLUMNS = ("number", "target_ms", "root", "before", "after", "predicted_ms", "measured_ms", "score")


def _figures(one: Verified, network: nn.Module) -> dict[str, Any]:
    return {
        "validation": one.validation,
        "test": one.test,
        **one.latency.to_dict(),
        "parameters": sum(value.numel() for value in network.parameters()),
        "difference_from_torch": one.difference,
    }


def report_lines(report: Mapping[str, Any]) -> list[str]:
    """Return the report as Markdown."""
    device, whole, left = report["device"], report["whole"], report["pruned"]
    modelled = " (simulated)" if device["simulated"] else ""
    metric = report["metric"]
    lines = [
        f"# {report['model']} pruned for {device['name']}{modelled}, {device['runtime']}",
        "",
        f"Target {report['asked']['latency_ms']:g} ms, {'met' if report['met'] else 'not met by the full protocol'}; "
        f"{report['speedup']:.2f} times as fast. {metric} on {report['data']}, of the graphs as timed.",
        "",
        f"| network | latency ms | 95 % interval | {metric}, validation | {metric}, test | parameters |",
        "|---|---|---|---|---|---|",
    ]
    for name, one in (("whole", whole), ("pruned", left)):
        interval = f"{one['ci_low_ms']:.4g} to {one['ci_high_ms']:.4g}"
        scores = f"{one['validation']:.4f} | {one['test']:.4f}"
        lines.append(f"| {name} | {one['latency_ms']:.4g} | {interval} | {scores} | {one['parameters']:,} |")
    lines += [
        "", f"| iteration | layer | channels | target ms | predicted ms | measured ms | {metric} |",
        "|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for one in report["iterations"]:
        change = f"{one['root']} | {one['before']} → {one['after']}" if one["number"] else "whole | "
        times = " | ".join(f"{one[key]:.4g}" for key in ("target_ms", "predicted_ms", "measured_ms"))
        lines.append(f"| {one['number']} | {change} | {times} | {one['score']:.4f} |")
    return lines


def draw_pruning(report: Mapping[str, Any]) -> Figure:
    """Return the picture: the metric over the latency of each iteration, and the layers' widths before and after."""
    figure = Figure(figsize=(9.6, 4.2), dpi=160, layout="constrained")
    path, bars = figure.subplots(1, 2)
    done = report["iterations"]
    path.plot([one["predicted_ms"] for one in done], [one["score"] for one in done], "o", color=QUIET, mfc="none",
              markersize=4, label="as predicted")  # fmt: skip
    path.plot([one["measured_ms"] for one in done], [one["score"] for one in done], "o-", color=FRONT, markersize=4,
              label="as measured, short training")  # fmt: skip
    ends = (report["whole"], report["pruned"])
    path.plot([one["latency_ms"] for one in ends], [one["validation"] for one in ends], "D", color=CHOSEN,
              markersize=6, label="whole and pruned, as deployed")  # fmt: skip
    path.axvline(report["asked"]["latency_ms"], color=CHOSEN, linewidth=1, linestyle=(0, (4, 3)), label="target")
    modelled = " (simulated)" if report["device"]["simulated"] else ""
    path.set_xlabel(f"latency on {report['device']['name']}{modelled} [ms]", color=INK)
    path.set_ylabel(f"{report['metric']}, validation", color=INK)
    path.legend(frameon=False, fontsize=8)
    _draw_widths(bars, [one for one in report["layers"] if one["before"][1] != one["after"][1]])
    for axes in (path, bars):
        axes.tick_params(labelsize=8, colors=INK)
        for side in ("top", "right"):
            axes.spines[side].set_visible(False)
    return figure


def _draw_widths(axes: Axes, layers: Sequence[Mapping[str, Any]]) -> None:
    places = range(len(layers))
    axes.bar(places, [one["before"][1] for one in layers], color="#dfe5e8", label="before")
    axes.bar(places, [one["after"][1] for one in layers], color=FRONT, width=0.5, label="after")
    axes.set_xlabel("layers that lost channels, from the input to the output", color=INK)
    axes.set_ylabel("channels", color=INK)
    axes.legend(frameon=False, fontsize=8)
