"""What ``nas search`` prints at its end."""

import shlex
import shutil
from pathlib import Path

from latency_tables import FULL
from nas.cli.output import print_table
from nas.export import Outcome
from nas.export.finalists import FINALIST, Entry, Verified
from nas.export.outcome import DRIFT_WORTH_SAYING, Mixing, PredictionErrors
from nas.export.result import bundle_name

COLUMNS = ("", "network", "what", "px", "blocks", "int8", "valid. %", "pred. %", "test %", "ms", "±", "pred. ms")
FROM_WIDTH = {  # columns that a narrower terminal does without
    **dict.fromkeys(("px", "blocks", "int8"), 100),
    **dict.fromkeys(("what", "pred. %", "±", "pred. ms"), 75),
}
CHOSEN, ON_FRONT = "→", "•"


def print_outcome(outcome: Outcome, out: Path) -> None:
    """Print everything that was verified, fastest first, and what follows from it."""
    device = outcome.device
    simulated = " (simulated, not measured)" if device["simulated"] else ""
    title = (
        f"{outcome.space} on {device['name']}{simulated}, {device['runtime']}: "
        f"{len(outcome.front)} networks on the front ({ON_FRONT}), one chosen ({CHOSEN})"
    )
    if outcome.warning:
        title += f"; {outcome.warning}"
    width = shutil.get_terminal_size().columns
    shown = [i for i, name in enumerate(COLUMNS) if FROM_WIDTH.get(name, 0) <= width]
    rows = [[cells[i] for i in shown] for cells in (_cells(outcome, one) for one in outcome.fastest_first)]
    numbers = "".join(" " if COLUMNS[i] in ("", "network", "what") else "r" for i in shown)
    print_table([COLUMNS[i] for i in shown], rows, title=title, numbers=numbers)
    for sentence in summary(outcome, out):
        print(sentence)


def unmet(outcome: Outcome) -> str:
    """Return what to say where no network is within the latency budget."""
    fastest = min(one.latency.latency_ms for one in outcome.front)
    return f"no verified network is within {outcome.limit_ms:g} ms, the fastest measured {fastest:.4f} ms"


def summary(outcome: Outcome, out: Path) -> list[str]:
    """Return the sentences below the table."""
    errors, chosen = outcome.errors, outcome.chosen
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in outcome.seconds.items())
    lines = [
        *([f"{outcome.warning}; batch norms and checks are of random inputs."] if outcome.warning else []),
        "valid.: accuracy on validation images, which chose; test: on test images, which chose nothing; "
        f"ms: median over rounds of the {100 * FULL.slice_quantile:.0f}th percentile of {FULL.slices} slices, "
        "±: half its 95 % interval; pred.: as the search predicted it.",
        f"Predictions were off by {100 * errors.latency_median:.1f} % of latency in the median (at most "
        f"{100 * errors.latency_worst:.1f} %){_accuracy_errors(errors)}.",
        *drift_lines(outcome.drift),
        *(f"Left out: {one.entry.name}, {one.reason}." for one in outcome.failed),
        *(_mixing_line(mixing) for mixing in outcome.mixing),
        f"{outcome.evaluated:,} candidates scored; {seconds}. All results: {out}",
    ]
    if chosen is not None:
        why = "the front's knee" if outcome.limit_ms is None else f"the most accurate within {outcome.limit_ms:g} ms"
        why = why if outcome.eligible is None else "the one for all devices"
        bundle = shlex.quote(str(out / bundle_name(chosen)))
        lines.append(f"Chosen, {why}: {bundle}  (again: nas evaluate {bundle})")
    return lines


def _accuracy_errors(errors: PredictionErrors) -> str:
    if errors.accuracy_mean is None or errors.test_accuracy_mean is None:
        return ""
    return (
        f" and on average by {100 * errors.accuracy_mean:.2f} points of validation accuracy, "
        f"{100 * errors.test_accuracy_mean:.2f} of test accuracy"
    )


def drift_lines(drift: float) -> list[str]:
    """Return a line where the machine's speed is not what it was: ``drift`` is how many times slower it is."""
    if abs(drift - 1) <= DRIFT_WORTH_SAYING:
        return []
    change = f"{100 * abs(drift - 1):.0f} % {'slower' if drift > 1 else 'faster'}"
    return [
        f"The machine is now {change} than when it was calibrated; latencies are at its speed of then, raw_ms in the "
        "results is as the clock gave it; --recalibrate measures it anew."
    ]


def _cells(outcome: Outcome, one: Verified) -> list[str]:
    entry, latency = one.entry, one.latency
    precisions = entry.candidate.precisions
    return [
        CHOSEN if one is outcome.chosen else ON_FRONT if one in outcome.front else "",
        entry.candidate.id,
        _what(entry),
        str(entry.candidate.resolution),
        str(len(entry.candidate.active_blocks())),
        f"{sum(precision == 'int8' for precision in precisions)}/{len(precisions)}",
        f"{100 * one.accuracy:.2f}" if one.counted else "",
        f"{100 * entry.accuracy:.2f}",
        "" if one.test_accuracy is None else f"{100 * one.test_accuracy:.2f}",
        f"{latency.latency_ms:.4f}",
        f"{100 * latency.half_width:.1f} %" + ("" if latency.quality == "ok" else " noisy"),
        f"{entry.latency_ms:.4f}",
    ]


def _what(entry: Entry) -> str:
    if entry.twin_of is not None:
        return f"twin {entry.twin_of[:6]}"
    return entry.role if entry.role == FINALIST else entry.name


def _mixing_line(mixing: Mixing) -> str:
    mixed = mixing.mixed
    gains = {name: [100 * value for value in (gain.low, gain.high)] for name, gain in mixing.gains.items()}
    figures = ", ".join(
        f"all {precision} {twin.latency.latency_ms:.4f} ms at {100 * twin.accuracy:.2f} % "
        f"(mixing gains {gains[precision][0]:+.2f} to {gains[precision][1]:+.2f})"
        for precision, twin in mixing.twins.items()
    )
    return (
        f"Mixing precisions {'wins' if mixing.wins else 'is not shown to win'} in {mixed.entry.candidate.id}: "
        f"{mixed.latency.latency_ms:.4f} ms at {100 * mixed.accuracy:.2f} %; {figures}."
    )
