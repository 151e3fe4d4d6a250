"""Where once-for-all's published data lie."""

from pathlib import Path

from shared_data import shared_data


def ofa_data(name: str) -> Path:
    """Return the path of a file of OFA's data; skip the test where it is absent."""
    return shared_data(f"ofa/{name}")
