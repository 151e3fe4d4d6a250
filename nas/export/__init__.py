"""From the search's front to verified files: finalists, bundles, the result, the picture, and the whole job."""

from nas.export.bundle import Bundle, load_bundle, save_bundle
from nas.export.fleet import FleetJob, run_fleet
from nas.export.job import SearchJob
from nas.export.one_for_all import run_one_for_all
from nas.export.outcome import Outcome
from nas.export.pipeline import run_search
from nas.export.progress import Progress
from nas.export.scoring import Scorer
from nas.export.shared import SharedOutcome
from nas.export.switch_policy import Hysteresis
from nas.export.switcher import Switcher

__all__ = [
    "Bundle",
    "FleetJob",
    "Hysteresis",
    "Outcome",
    "Progress",
    "Scorer",
    "SearchJob",
    "SharedOutcome",
    "Switcher",
    "load_bundle",
    "run_fleet",
    "run_one_for_all",
    "run_search",
    "save_bundle",
]
