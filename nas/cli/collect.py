"""``nas collect``."""


def collect() -> None:
    """TODO."""
