"""A space of small networks for the tests of devices, tables and predictors."""

from dataclasses import replace

from search_spaces import MBConvSpace, get_space
from search_spaces.mbconv_preset import MBConvStage


def tiny_space(precisions: tuple[str, ...] = ("fp32", "int8")) -> MBConvSpace:
    """Return a space of two stages at 12 and 16 pixels: networks of two to four blocks."""
    preset = replace(
        get_space("fashion-mbv3").preset,
        name="tiny",
        resolutions=(12, 16),
        classes=3,
        stem_width=8,
        head_width=16,
        kernels=(3, 5),
        expands=(2, 3),
        keeps=(0.5, 1.0),
        stages=(MBConvStage(16, 2, (1, 2)), MBConvStage(24, 1, (1, 2))),
    )
    return MBConvSpace(preset, precisions)
