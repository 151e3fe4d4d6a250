"""Where once-for-all's published data lie: ``$HWNAS_SHARED_DATA``, or ``shared/data`` beside the repository."""

import os
from pathlib import Path

import pytest


def ofa_data(name: str) -> Path:
    """Return the path of a file of OFA's data; skip the test where it is absent."""
    beside = Path(__file__).resolve().parents[2] / "shared" / "data"
    path = Path(os.environ.get("HWNAS_SHARED_DATA", beside)) / "ofa" / name
    if not path.exists():
        pytest.skip(f"once-for-all's published {name} is not here; name its folder's parent in $HWNAS_SHARED_DATA")
    return path
