"""From the search's front to verified files: finalists, bundles, the result, the picture, and the whole job."""

from nas.export.bundle import Bundle, load_bundle, save_bundle
from nas.export.outcome import Outcome
from nas.export.pipeline import SearchJob, run_search
from nas.export.progress import Progress
from nas.export.scoring import Scorer

__all__ = ["Bundle", "Outcome", "Progress", "Scorer", "SearchJob", "load_bundle", "run_search", "save_bundle"]
