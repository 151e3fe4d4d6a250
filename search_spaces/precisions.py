"""Precisions that a network is computed in: those of floats, which differ in the kernels alone, and the quantized ones.

A graph in floats is one file, whichever floats a runtime computes it in. So presets and accuracy predictors speak of
fp32, and a device's menu has in its place the floats that the device executes.
"""

from collections.abc import Collection, Sequence

FLOATS = ("fp32", "fp16", "bf16")


def as_written(precision: str) -> str:
    """Return the precision that a part's graph is written in: fp32 for every kind of floats."""
    return "fp32" if precision in FLOATS else precision


def device_menu(written: Sequence[str], executed: Collection[str]) -> list[str]:
    """Return what a device computes graphs in that are written in ``written``, in its order; empty if in none.

    Args:
        written: A preset's precisions.
        executed: The device's.
    """
    return [own for name in written for own in executed if as_written(own) == name]
