"""What a search for one subnet for several devices found, and ``one_for_all.json``, which says it to programs.

Accuracies are fractions, latencies milliseconds. ``one_for_all`` says what is chosen, and by which ratio.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from nas.export.finalists import Verified
from nas.export.fleet import FleetJob
from nas.export.outcome import Outcome
from nas.export.result import bundle_name, measured_content
from nas.files import read_json, write_json
from search_spaces import Candidate

SCHEMA, SCHEMA_VERSION = "one-for-all-result", 1
MARGIN = 0.01  # what measured accuracy may lack of the devices' own best networks and still count as equal
FILE_NAME = "one_for_all.json"


@dataclass(frozen=True, eq=False)
class SharedNetwork:
    """A finalist that passed its checks on every device.

    Attributes:
        candidate: The network.
        on: What was verified, by the devices' names.
        ratios: Measured latency over the device's reference, likewise.
    """

    candidate: Candidate
    on: Mapping[str, Verified]
    ratios: Mapping[str, float]

    @property
    def ratio(self) -> float:
        """That of the worst device."""
        return max(self.ratios.values())

    @property
    def accuracy(self) -> float:
        """The lowest of its exported files."""
        return min(one.accuracy for one in self.on.values())


@dataclass(frozen=True, eq=False)
class SharedOutcome:
    """A finished search for one subnet for several devices.

    Attributes:
        fleet: What was asked for.
        precisions: What all devices execute.
        accuracy: The predicted accuracy that networks were compared at; None where there are budgets.
        own_best: Id of each device's own best network, by the device's name.
        finalists: The finalists of the joint search.
        verified: What was verified on each device, by its name: finalists, its own best, baselines and twins.
        evaluated: Candidates that the joint search scored.
        seconds: Wall time of the joint search.
    """

    fleet: FleetJob
    precisions: tuple[str, ...]
    accuracy: float | None
    own_best: Mapping[str, str]
    finalists: tuple[Candidate, ...]
    verified: Mapping[str, Outcome]
    evaluated: int
    seconds: float

    @cached_property
    def reference_ms(self) -> dict[str, float]:
        """What each device's latency is divided by: its budget, or the measured latency of its own best network.

        That is the predicted one where the device's own best network did not pass its checks.
        """
        if self.fleet.limits_ms:
            return dict(self.fleet.limits_ms)
        return {name: _latency_ms(self.verified[name], key) for name, key in self.own_best.items()}

    @cached_property
    def networks(self) -> tuple[SharedNetwork, ...]:
        """The finalists that passed their checks on every device, of the least ratio first."""
        known = {name: _by_id(outcome) for name, outcome in self.verified.items()}
        found = []
        for candidate in self.finalists:
            on = {name: entries[candidate.id] for name, entries in known.items() if candidate.id in entries}
            if len(on) == len(known):
                ratios = {name: on[name].latency.latency_ms / ms for name, ms in self.reference_ms.items()}
                found.append(SharedNetwork(candidate, on, ratios))
        return tuple(sorted(found, key=lambda one: one.ratio))

    def lacks(self, one: SharedNetwork) -> float:
        """Return what a network's measured accuracy lacks of the own best one's, on the device where that is most.

        Below 0 where it is the more accurate everywhere; an own best network that did not pass its checks has none.
        """
        known = {name: _by_id(outcome) for name, outcome in self.verified.items()}
        own = {name: known[name][key].accuracy for name, key in self.own_best.items() if key in known[name]}
        return max((accuracy - one.on[name].accuracy for name, accuracy in own.items()), default=0.0)

    @cached_property
    def chosen(self) -> SharedNetwork | None:
        """The finalist that ``one_for_all`` says is chosen; None where none is."""
        if not self.fleet.limits_ms:
            equal = [one for one in self.networks if self.lacks(one) <= MARGIN]
            return equal[0] if equal else min(self.networks, key=self.lacks, default=None)
        within = [one for one in self.networks if one.ratio <= 1]
        return max(within, key=lambda one: one.accuracy, default=None)

    @cached_property
    def outcomes(self) -> dict[str, Outcome]:
        """What was found on each device, by its name, with the shared network chosen."""
        eligible = frozenset([self.chosen.candidate.id] if self.chosen else [])
        return {name: replace(outcome, eligible=eligible) for name, outcome in self.verified.items()}


def _latency_ms(outcome: Outcome, key: str) -> float:
    found = _by_id(outcome)
    if key in found:
        return found[key].latency.latency_ms
    return next(one.entry.latency_ms for one in outcome.failed if one.entry.candidate.id == key)


def _by_id(outcome: Outcome) -> dict[str, Verified]:
    return {one.entry.candidate.id: one for one in outcome.distinct}


def shared_content(shared: SharedOutcome) -> dict[str, Any]:
    """Return the content of ``one_for_all.json``, without its schema."""
    first = next(iter(shared.verified.values()))
    return {
        "space": first.space,
        "supernet": first.supernet,
        "precisions": list(shared.precisions),
        "strategy": first.strategy,
        "seed": first.seed,
        "objectives": list(shared.fleet.objectives),
        "evaluated": shared.evaluated,
        "seconds": round(shared.seconds, 2),
        "equal_accuracy": shared.accuracy,
        "devices": {name: _device(shared, name) for name in shared.verified},
        "networks": [{**_network(one), "lacks": shared.lacks(one)} for one in shared.networks],
        "chosen": shared.chosen.candidate.id if shared.chosen else None,
    }


def _device(shared: SharedOutcome, name: str) -> dict[str, Any]:
    return {
        **shared.verified[name].device,
        "latency_limit_ms": shared.fleet.limits_ms.get(name),
        "reference_ms": shared.reference_ms[name],
        "own_best": shared.own_best[name],
        "result": f"{name}/result.json",
    }


def _network(one: SharedNetwork) -> dict[str, Any]:
    devices = {
        name: {
            "ratio": one.ratios[name],
            "predicted_ms": on.entry.latency_ms,
            **measured_content(on),
            "bundle": f"{name}/{bundle_name(on)}",
        }
        for name, on in one.on.items()
    }
    return {"id": one.candidate.id, "candidate": one.candidate.to_dict(), "ratio": one.ratio, "devices": devices}


def write_shared(folder: Path, shared: SharedOutcome) -> None:
    """Write ``one_for_all.json`` into ``folder``."""
    write_json(folder / FILE_NAME, SCHEMA, SCHEMA_VERSION, shared_content(shared))


def read_shared(folder: Path) -> dict[str, Any]:
    """Read the ``one_for_all.json`` of a folder.

    Raises:
        FileFormatError: It is missing, damaged or of another schema.
    """
    return read_json(Path(folder) / FILE_NAME, SCHEMA, SCHEMA_VERSION)
