"""``nas search``."""


def search() -> None:
    """TODO."""
