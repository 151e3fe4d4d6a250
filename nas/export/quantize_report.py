"""``report.json`` and ``report.md`` of a quantization: layers, order, everything tried, what was measured and chosen.

Accuracies are fractions, latencies milliseconds. Validation accuracy chose; test accuracy is reported beside it.
"""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from nas.compression.layers import Mask
from nas.compression.mixed import Finalist, MixedPlan
from nas.compression.trials import Attempt
from nas.export.quantize_plot import save_path
from nas.files import write_bytes, write_json

if TYPE_CHECKING:
    from nas.export.quantizing import Quantized

SCHEMA, SCHEMA_VERSION = "quantize-report", 1
JSON, MARKDOWN = "report.json", "report.md"


def write_report(folder: Path, found: "Quantized", plan: MixedPlan) -> None:
    """Write ``report.json``, ``report.md`` and the picture into ``folder``."""
    content = report_content(found, plan)
    write_json(folder / JSON, SCHEMA, SCHEMA_VERSION, content)
    write_bytes(folder / MARKDOWN, ("\n".join(report_lines(content)) + "\n").encode())
    save_path(folder, found.result, f"{found.device['name']}, {found.device['runtime']}", found.data)


def report_content(found: "Quantized", plan: MixedPlan) -> dict[str, Any]:
    """Return the content of ``report.json``, without its schema."""
    result, (plain, chosen, difference) = found.result, found.test
    return {
        "model": found.source.name,
        "resolution": found.source.resolution,
        "data": {"name": found.data, **found.images, "mean": list(found.info.mean), "std": list(found.info.std)},
        "device": dict(found.device),
        "target": {
            "max_drop": result.target.max_drop,
            "allowed_change": -result.target.allowed,
            "confident": result.target.confident,
        },
        "search": asdict(plan),
        "fp32": _measured(result.fp32, float(result.target.baseline.mean())) | {"test_accuracy": plain},
        "chosen": {
            **_measured(result.chosen, float(result.target.baseline.mean())),
            "test_accuracy": chosen,
            "test_change": asdict(difference),
            "predicted_ms": result.latency.predict(result.chosen.mask),
            "speedup": result.fp32.timing.latency_ms / result.chosen.timing.latency_ms,
        },
        "measured": [_measured(one, float(result.target.baseline.mean())) for one in result.measured],
        "layers": _layers(found),
        "order": [found.result.trials.graph.layers[place].name for place in result.order.places],
        "interactions": {"strength": result.order.strength, "tried": [list(pair) for pair in result.order.trail]},
        "latency_model": {"median_error": result.latency.error},
        "tried": [_attempt(one, result.latency.predict(one.mask)) for one in result.attempts],
        "checks": asdict(result.checks),
        "seconds": {stage: round(seconds, 2) for stage, seconds in found.seconds.items()},
    }


def _layers(found: "Quantized") -> list[dict[str, Any]]:
    result, order = found.result, found.result.order
    rank = {place: number for number, place in enumerate(order.places, start=1)}
    return [
        {
            "name": layer.name,
            "operator": layer.operator,
            "weights": layer.weights,
            "macs": layer.macs,
            "sensitivity": float(order.sensitivities[place]),
            "score": float(order.scores[place]),
            "rank": rank.get(place),
            "predicted_gain_ms": float(result.latency.gains[place]),
            "precision": "int8" if result.chosen.mask[place] else found.device["floats"],
        }
        for place, layer in enumerate(result.trials.graph.layers)
    ]


def _attempt(one: Attempt, predicted_ms: float) -> dict[str, Any]:
    return {
        "int8": _bits(one.mask),
        "stage": one.stage,
        "accuracy": one.accuracy,
        "change": asdict(one.change),
        "meets": one.meets,
        "predicted_ms": predicted_ms,
    }


def _measured(one: Finalist, plain: float) -> dict[str, Any]:
    attempt, timing = one.attempt, one.timing
    return {
        "int8": _bits(one.mask),
        "stage": attempt.stage if attempt else None,
        "accuracy": attempt.accuracy if attempt else None if any(one.mask) else plain,
        "change": asdict(attempt.change) if attempt else None,
        "latency_ms": timing.latency_ms,
        "ci_low_ms": timing.ci_low_ms,
        "ci_high_ms": timing.ci_high_ms,
        "quality": timing.quality,
    }


def _bits(mask: Mask) -> str:
    """Return a configuration as one character a layer: 1 for int8."""
    return "".join("1" if one else "0" for one in mask)


def report_lines(content: dict[str, Any]) -> list[str]:
    """Return ``report.md``."""
    device, target, chosen = content["device"], content["target"], content["chosen"]
    modelled, floats = ", modelled" if device["simulated"] else "", device["floats"]
    surely = "with the whole interval" if target["confident"] else "by the point estimate"
    return [
        f"# {content['model']} on {device['name']} ({device['runtime']}{modelled})",
        "",
        f"Asked for: {100 * (1 - target['max_drop']):g} % of {floats}'s accuracy on {content['data']['validation']} "
        f"validation images of {content['data']['name']}, {surely}: a change of {_points(target['allowed_change'])} or "
        "better.",
        "",
        *summary_table(content),
        "",
        f"{chosen['speedup']:.2f} times as fast, {chosen['int8'].count('1')} of {len(chosen['int8'])} layers in int8. "
        f"On {content['data']['test']} test images, which chose nothing, accuracy changes by "
        f"{_change(chosen['test_change'])}.",
        "",
        "![Every configuration that was tried](path.png)",
        "",
        "## Layers, the least sensitive first",
        "",
        _order_line(content),
        "",
        *_table(
            ("rank", "layer", "operator", "sensitivity", "with neighbours", "gain ms", "chosen"),
            [
                (str(one["rank"] or "-"), one["name"], one["operator"], f"{one['sensitivity']:.3g}",
                 f"{one['score']:.3g}", f"{one['predicted_gain_ms']:.4f}", one["precision"])
                for one in sorted(content["layers"], key=lambda one: one["rank"] or len(content["layers"]) + 1)
            ],
        ),
        "",
        f"## The {len(content['tried'])} configurations that were tried",
        "",
        *_table(
            ("stage", "int8 layers", "accuracy %", "change, points", "meets", "predicted ms"),
            [
                (one["stage"], str(one["int8"].count("1")), f"{100 * one['accuracy']:.2f}", _change(one["change"]),
                 "yes" if one["meets"] else "no", f"{one['predicted_ms']:.4f}")
                for one in content["tried"]
            ],
        ),
    ]  # fmt: skip


def summary_table(content: dict[str, Any]) -> list[str]:
    """Return the lines of the table of what was measured."""
    rows = []
    for one in content["measured"]:
        count = one["int8"].count("1")
        name = content["device"]["floats"] if not count else f"int8 in {count} of {len(one['int8'])} layers"
        chosen = all(one[key] == content["chosen"][key] for key in ("int8", "stage"))
        name += ", fine-tuned" if one["stage"] == "fine-tuned" else ""
        accuracy = "" if one["accuracy"] is None else f"{100 * one['accuracy']:.2f}"
        interval = f"{one['latency_ms']:.4f} ({one['ci_low_ms']:.4f} to {one['ci_high_ms']:.4f})"
        rows.append((
            f"**{name}, chosen**" if chosen else name, accuracy,
            "" if one["change"] is None else _change(one["change"]), interval, one["quality"],
        ))  # fmt: skip
    return _table(("configuration", "accuracy %", "change, points", "latency ms", "timing"), rows)


def _order_line(content: dict[str, Any]) -> str:
    search, strength = content["search"], content["interactions"]["strength"]
    if not search["augmented"]:
        return f"Sensitivity `{search['sensitivity']}`, without neighbours."
    tried = ", ".join(f"{one:g}: {loss:.4f}" for one, loss in content["interactions"]["tried"])
    return (
        f"Sensitivity `{search['sensitivity']}`, augmented with neighbours at strength {strength:g} (mean calibration "
        f"loss along the order by strength: {tried})."
    )


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    lines = [columns, ["---"] * len(columns), *rows]
    return [f"| {' | '.join(line)} |" for line in lines]


def _points(fraction: float) -> str:
    return f"{100 * fraction:+.2f} points"


def _change(change: dict[str, float]) -> str:
    return f"{100 * change['value']:+.2f} ({100 * change['low']:+.2f} to {100 * change['high']:+.2f})"
