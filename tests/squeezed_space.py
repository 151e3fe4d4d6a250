"""A tiny space with everything a preset may add: first block, squeeze-and-excitation, mixing layer, h-swish, relu6."""

from dataclasses import replace

from tiny_space import tiny_space

from search_spaces import MBConvSpace
from search_spaces.mbconv_preset import MBConvStage


def squeezed_space(precisions: tuple[str, ...] = ("fp32", "int8")) -> MBConvSpace:
    """Return a space of three stages at 12 and 16 pixels, with three channels."""
    preset = replace(
        tiny_space().preset,
        name="squeezed",
        channels=3,
        activation="hswish",
        stem_block_width=16,
        stem_block_activation="relu6",
        head_mix_width=40,
        bn_eps=1e-3,
        stages=(
            MBConvStage(16, 1, (1, 2), "relu", True),
            MBConvStage(24, 2, (1, 2), "relu6"),
            MBConvStage(48, 2, (1, 2), se=True),
        ),
    )
    return MBConvSpace(preset, precisions)
