"""``nas search`` for several devices: what it prints of each, and of one subnet for all."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import nas.export.shared as shared_schema
from nas.cli.output import print_json, print_table
from nas.cli.search_report import CHOSEN, print_outcome, unmet
from nas.errors import UsageError
from nas.export import Outcome, SharedOutcome
from nas.export.result import result_content
from nas.export.shared import MARGIN, shared_content

SCHEMA, SCHEMA_VERSION = "fleet-result", 1


def latency_limits(text: str | None, names: Sequence[str]) -> dict[str, float]:
    """Return the latency budget of each device, by name, from what ``--latency`` was given; none where it was not.

    Raises:
        UsageError: It is no number, or there are neither one nor as many as devices.
    """
    if text is None:
        return {}
    allowed = "a number above 0" + (f", or {len(names)} with commas between" if len(names) > 1 else "")
    try:
        limits = [float(part) for part in text.split(",")]
    except ValueError as error:
        raise UsageError(f"--latency {text!r}; allowed: {allowed}") from error
    if len(limits) not in (1, len(names)):
        raise UsageError(f"--latency {text!r} for {len(names)} devices; allowed: {allowed}")
    return dict(zip(names, limits * (len(names) if len(limits) == 1 else 1), strict=True))


def report_each(outcomes: Mapping[str, Outcome], out: Path, *, json: bool) -> list[str]:
    """Print what was found for each device; return a line for each that has no network within its budget."""
    if json:
        found = {name: result_content(outcome) for name, outcome in outcomes.items()}
        print_json({"schema": SCHEMA, "schema_version": SCHEMA_VERSION, "devices": found, "out": str(out)})
    else:
        for number, (name, outcome) in enumerate(outcomes.items()):
            print(end="\n" if number else "")
            print_outcome(outcome, out / name)
    return [f"{name}: {unmet(outcome)}" for name, outcome in outcomes.items() if outcome.chosen is None]


def report_shared(shared: SharedOutcome, out: Path, *, json: bool) -> list[str]:
    """Print what was found for all devices together; return a line if that is nothing."""
    if json:
        head = {"schema": shared_schema.SCHEMA, "schema_version": shared_schema.SCHEMA_VERSION}
        print_json({**head, **shared_content(shared), "out": str(out)})
    else:
        _print_shared(shared, out)
    if shared.chosen is not None:
        return []
    if not shared.networks:
        return ["no finalist passes its checks on every device"]
    least = f"the least ratio measured is {shared.networks[0].ratio:.3f}"
    return [f"no verified network is within the latency budget of every device, {least}"]


def _print_shared(shared: SharedOutcome, out: Path) -> None:
    names = list(shared.verified)
    title = f"{next(iter(shared.verified.values())).space}, one for all of {', '.join(names)}: chosen ({CHOSEN})"
    columns = ["", "network", "valid. %", *(f"{name} ms" for name in names), *(f"{name} ratio" for name in names)]
    rows = [
        [
            CHOSEN if one is shared.chosen else "",
            one.candidate.id,
            f"{100 * one.accuracy:.2f}",
            *(f"{one.on[name].latency.latency_ms:.4f}" for name in names),
            *(f"{one.ratios[name]:.3f}" for name in names),
        ]
        for one in shared.networks
    ]
    print_table(columns, rows, title=title, numbers="  " + "r" * (1 + 2 * len(names)))
    for line in _sentences(shared, out):
        print(line)


def _sentences(shared: SharedOutcome, out: Path) -> list[str]:
    simulated = [name for name, outcome in shared.verified.items() if outcome.device["simulated"]]
    warnings = dict.fromkeys(outcome.warning for outcome in shared.verified.values() if outcome.warning)
    against = "its latency budget" if shared.accuracy is None else "that of its own best network of equal accuracy"
    own = ", ".join(f"{name} {ms:.4f} ms" for name, ms in shared.reference_ms.items())
    lines = [*(f"{warning}." for warning in warnings), *(f"{name} is simulated, not measured." for name in simulated)]
    lines.append(f"ratio: latency over {against}: {own}; valid.: the lowest of the devices' files.")
    if shared.accuracy is not None:
        lines.append(
            f"Equal accuracy: predicted {100 * shared.accuracy:.2f} % or more, and measured within {100 * MARGIN:g} "
            "point of each device's own best network."
        )
    if shared.chosen is not None:
        worst = max(shared.chosen.ratios, key=shared.chosen.ratios.__getitem__)
        lines.append(f"Chosen: {shared.chosen.candidate.id}, at worst {shared.chosen.ratio:.3f} (on {worst}).")
        if shared.accuracy is not None and shared.lacks(shared.chosen) > MARGIN:
            lines.append(f"No finalist is as accurate: it lacks {100 * shared.lacks(shared.chosen):.2f} points.")
    return [*lines, f"In {', '.join(shared.precisions)}, which all execute. All results: {out}"]
