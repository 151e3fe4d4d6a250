"""Published data outside the repository: ``$HWNAS_SHARED_DATA``, or ``shared/data`` beside the repository."""

import os
from pathlib import Path

import pytest


def shared_data(name: str) -> Path:
    """Return the path of a file or folder of them; skip the test where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("HWNAS_SHARED_DATA", beside)) / name
    if not path.exists():
        pytest.skip(f"the published {name} is not here; name the folder that it is in by $HWNAS_SHARED_DATA")
    return path
