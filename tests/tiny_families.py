"""A small space of every family, for what is tested of all of them. A new family is one more line in TINY."""

from collections.abc import Callable

from tiny_space import tiny_space

from search_spaces import BottleneckPreset, BottleneckSpace, SearchSpace, Stage


def tiny_bottleneck(precisions: tuple[str, ...] = ("fp32", "int8")) -> BottleneckSpace:
    """Return a space of two stages at 32 and 48 pixels: networks of two to four blocks."""
    preset = BottleneckPreset(
        name="tiny-bottleneck",
        summary="for tests",
        resolutions=(32, 48),
        channels=1,
        classes=3,
        dropout=0.0,
        precisions=("fp32", "int8"),
        stem_width=16,
        widths=(0.5, 1.0),
        keeps=(0.25, 0.5),
        round_to=8,
        stages=(Stage(32, 1, (1, 2)), Stage(64, 2, (1, 2))),
    )
    return BottleneckSpace(preset, precisions)


TINY: dict[str, Callable[..., SearchSpace]] = {
    "mbconv": tiny_space,
    "bottleneck": tiny_bottleneck,
}
