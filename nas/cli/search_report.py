"""What ``nas search`` prints at its end."""

from pathlib import Path

from nas.cli.output import print_table
from nas.export import Outcome
from nas.export.finalists import FINALIST, Entry, Verified
from nas.export.outcome import Mixing
from nas.export.result import bundle_name

COLUMNS = (
    "", "network", "what", "px", "blocks", "int8", "accuracy", "predicted", "test", "latency ms", "95 % interval",
    "predicted",
)  # fmt: skip
ALIGNED = "   rrrrrrrrr"


def print_outcome(outcome: Outcome, out: Path) -> None:
    """Print the front, the other networks of the batch, and what follows from them."""
    device = outcome.device
    simulated = " (simulated, not measured)" if device["simulated"] else ""
    print_table(
        COLUMNS,
        [_row(outcome, one) for one in outcome.front],
        title=f"Front on {device['name']}{simulated}, {device['runtime']}: {len(outcome.front)} networks",
        numbers=ALIGNED,
    )
    others = [one for one in outcome.distinct if one not in outcome.front]
    others.sort(key=lambda one: one.latency.latency_ms)
    print_table(COLUMNS, [_row(outcome, one) for one in others], title="Dominated, from the same run", numbers=ALIGNED)
    for line in summary_lines(outcome, out):
        print(line)


def summary_lines(outcome: Outcome, out: Path) -> list[str]:
    """Return the sentences below the tables."""
    errors, chosen = outcome.errors, outcome.chosen
    seconds = ", ".join(f"{stage} {value:.0f} s" for stage, value in outcome.seconds.items())
    lines = []
    if chosen is None:
        fastest = min(outcome.front, key=lambda one: one.latency.latency_ms)
        lines.append(
            f"No verified network is within {outcome.limit_ms:g} ms; the fastest measured "
            f"{fastest.latency.latency_ms:.4f} ms. Try a larger --latency or more --finalists."
        )
    else:
        why = "the front's knee" if outcome.limit_ms is None else f"the most accurate within {outcome.limit_ms:g} ms"
        lines.append(f"Chosen: {chosen.entry.candidate.id}, {why}: {out / bundle_name(chosen)}")
    lines += [_mixing_line(mixing) for mixing in outcome.mixing]
    lines.append(
        f"Predictions were off by {100 * errors.latency_median:.1f} % of latency in the median (at most "
        f"{100 * errors.latency_worst:.1f} %) and {100 * errors.accuracy_mean:.2f} points of accuracy on average."
    )
    lines.append(f"{outcome.evaluated:,} candidates scored; {seconds}. Again: nas evaluate BUNDLE. All of it: {out}")
    return lines


def _row(outcome: Outcome, one: Verified) -> tuple[str, ...]:
    entry, latency = one.entry, one.latency
    precisions = entry.candidate.precisions
    noisy = "" if latency.quality == "ok" else " noisy"
    return (
        "→" if one is outcome.chosen else "",
        entry.candidate.id,
        _what(entry),
        str(entry.candidate.resolution),
        str(len(entry.candidate.active_blocks())),
        f"{sum(precision == 'int8' for precision in precisions)}/{len(precisions)}",
        f"{100 * one.accuracy:.2f}",
        f"{100 * entry.accuracy:.2f}",
        f"{100 * one.test_accuracy:.2f}",
        f"{latency.latency_ms:.4f}",
        f"{latency.ci_low_ms:.4f}–{latency.ci_high_ms:.4f}{noisy}",
        f"{entry.latency_ms:.4f}",
    )


def _what(entry: Entry) -> str:
    if entry.twin_of is not None:
        return f"twin of {entry.twin_of[:6]}"
    return entry.role if entry.role == FINALIST else entry.name


def _mixing_line(mixing: Mixing) -> str:
    mixed = mixing.mixed
    figures = ", ".join(
        f"{precision} {twin.latency.latency_ms:.4f} ms at {100 * twin.accuracy:.2f} %"
        for precision, twin in mixing.twins.items()
    )
    verdict = "wins" if mixing.wins else "does not win"
    return (
        f"Mixing precisions {verdict} in {mixed.entry.candidate.id}: {mixed.latency.latency_ms:.4f} ms at "
        f"{100 * mixed.accuracy:.2f} %; the same network in one precision: {figures}."
    )
