"""``nas evaluate``."""


def evaluate() -> None:
    """TODO."""
