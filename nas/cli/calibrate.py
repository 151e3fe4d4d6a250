"""``nas calibrate``."""


def calibrate() -> None:
    """TODO."""
