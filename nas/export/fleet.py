"""Several devices in one run: each is calibrated, or known from its cache, and gets a result of its own."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from latency_tables import Device
from nas.errors import UsageError
from nas.export.goal import AT, DEFAULT, LATENCY, Goal
from nas.export.job import SearchJob
from nas.export.outcome import Outcome
from nas.export.pipeline import run_search
from nas.export.progress import NO_PROGRESS, Progress
from nas.export.scoring import Scorer
from nas.files import check_new_folder


@dataclass(frozen=True)
class FleetJob:
    """What to search for several devices.

    Attributes:
        job: The search that each of them gets, but for its device, its latency budget and its folder: that is
            ``job.out/<name of the device>``.
        devices: The devices.
        limits_ms: Latency budget of each device, by name; of all or of none.
        objectives: What to make large or small in the search for one subnet for all: ``latency`` is then the ratio that
            ``one_for_all`` defines, ``latency@NAME`` the latency on one of the devices.
        confident: Whether the upper ends of the predicted intervals must be within the latency budgets.

    Raises:
        UsageError: Two devices have one name, there is one at most, only some have a budget, ``job`` has a budget or a
            storage, which cannot be shared, or an objective is not known.
    """

    job: SearchJob
    devices: tuple[Device, ...]
    limits_ms: Mapping[str, float] = field(default_factory=dict)
    objectives: tuple[str, ...] = DEFAULT
    confident: bool = False

    def __post_init__(self) -> None:
        names = self.names
        if len(set(names)) < max(2, len(names)):
            raise UsageError(f"devices {', '.join(names) or 'none'}; allowed: two or more, each of a name of its own")
        if self.limits_ms and set(self.limits_ms) != set(names):
            given = ", ".join(self.limits_ms)
            raise UsageError(f"latency budgets of {given}; allowed: one of each of {', '.join(names)}, or none")
        if self.job.storage is not None or self.job.limit_ms is not None:
            what = "a storage" if self.job.storage is not None else "one latency budget"
            raise UsageError(f"{what} for {len(names)} devices; allowed: none; search each device by itself")
        _ = self.goal, self.jobs  # refuse what cannot be one

    @property
    def names(self) -> tuple[str, ...]:
        """The devices' names."""
        return tuple(device.name for device in self.devices)

    @property
    def jobs(self) -> dict[str, SearchJob]:
        """The search of each device, by name."""
        job, limits = self.job, self.limits_ms
        return {
            one.name: replace(
                job, device=one, out=job.out / one.name, limit_ms=limits.get(one.name), confident=self.confident
            )
            for one in self.devices
        }

    @property
    def goal(self) -> Goal:
        """Objectives and limits of the search for one subnet for all."""
        each = {f"{LATENCY}{AT}{name}": limit for name, limit in self.limits_ms.items()}
        return Goal(self.objectives, {**each, **self.job.limits}, self.confident, self.names)


def run_fleet(
    fleet: FleetJob, progress: Progress = NO_PROGRESS, scorers: Mapping[str, Scorer] | None = None
) -> dict[str, Outcome]:
    """Search for each device; what ``run_search`` writes lies in a folder of its name, there as soon as it is whole.

    Args:
        fleet: The devices, and what to search.
        progress: As of ``run_search``.
        scorers: Predict, by the devices' names; None calibrates, or reuses that.

    Returns:
        The outcomes by the devices' names.

    Raises:
        NasError: As of ``run_search``; results of the devices before stay.
    """
    check_new_folder(fleet.job.out)
    return {
        name: run_search(job, progress, None if scorers is None else scorers[name]) for name, job in fleet.jobs.items()
    }
