"""A small space of every family, for what is tested of all of them. A new family is one more line in TINY."""

from collections.abc import Callable

from tiny_space import tiny_space

from search_spaces import (
    BottleneckPreset,
    BottleneckSpace,
    FactorisedPreset,
    FactorisedSpace,
    MetaformerPreset,
    MetaformerSpace,
    SearchSpace,
    Stage,
)


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


def tiny_metaformer(precisions: tuple[str, ...] = ("fp32", "int8")) -> MetaformerSpace:
    """Return a space of two stages at 24 and 32 pixels: networks of two to five blocks."""
    preset = MetaformerPreset(
        name="tiny-metaformer",
        summary="for tests",
        resolutions=(24, 32),
        channels=1,
        classes=3,
        dropout=0.0,
        precisions=("fp32", "int8"),
        activation="relu",
        stem_stride=4,
        widths=(0.5, 1.0),
        round_to=8,
        mixers=("pool", "conv"),
        expands=(1, 2),
        layer_scale=0.5,
        attentions=(0, 1, 2),
        heads=2,
        key_width=8,
        value_width=8,
        stages=(Stage(16, 1, (1, 2)), Stage(32, 2, (1, 2, 3))),
    )
    return MetaformerSpace(preset, precisions)


def tiny_factorised(precisions: tuple[str, ...] = ("fp32", "int8")) -> FactorisedSpace:
    """Return a space of three stages at 16 and 24 pixels, with layers of every kind."""
    preset = FactorisedPreset(
        name="tiny-factorised",
        summary="for tests",
        resolutions=(16, 24),
        channels=1,
        classes=3,
        dropout=0.0,
        precisions=("fp32", "int8"),
        activation="relu",
        stem_width=16,
        stem_stride=2,
        kinds=("mbconv", "mbconv_se", "k1kx", "kxkx", "csp"),
        kernels=(3, 5),
        widths=(0.5, 1.0),
        expand=1,
        keeps=(0.5, 1.0),
        layers=(1, 2),
        round_to=8,
        stages=(Stage(32, 1, (1,)), Stage(32, 2, (1,)), Stage(48, 1, (1,))),
    )
    return FactorisedSpace(preset, precisions)


TINY: dict[str, Callable[..., SearchSpace]] = {
    "mbconv": tiny_space,
    "bottleneck": tiny_bottleneck,
    "metaformer": tiny_metaformer,
    "factorised": tiny_factorised,
}
