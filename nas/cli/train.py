"""``nas train``."""


def train() -> None:
    """TODO."""
