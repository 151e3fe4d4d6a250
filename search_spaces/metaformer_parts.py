"""The parts of a metaformer space: every distinct way to fill the stem, each block and the head, and its code.

A block's channels depend on the width of its stage and, where it begins one, on that of the stage before.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.metaformer_preset import MetaformerPreset
from search_spaces.part_table import PartTable, tabulate

ATTENTION = "attention"


@dataclass(frozen=True)
class FormerStemChoice:
    """One way to fill the stem: channels of its output, precision."""

    width: int
    precision: str


@dataclass(frozen=True)
class FormerChoice:
    """One way to fill a block.

    Attributes:
        in_width: Channels of its input.
        width: Of its output.
        mixer: How it mixes pixels: ``pool``, ``conv`` or ``attention``.
        flattens: Whether it is the first with attention, which turns the feature map into rows of tokens.
        hidden: Channels inside its MLP.
        precision: What it is executed in.
    """

    in_width: int
    width: int
    mixer: str
    flattens: bool
    hidden: int
    precision: str


@dataclass(frozen=True)
class FormerHeadChoice:
    """One way to fill the head: channels of its input, whether it turns the map into tokens itself, precision."""

    width: int
    flattens: bool
    precision: str


def kinds(preset: MetaformerPreset) -> tuple[tuple[str, bool], ...]:
    """Return what a block's mixing may be, as (mixer, flattens): the mixers, then attention, then the first such."""
    return (*((mixer, False) for mixer in preset.mixers), (ATTENTION, False), (ATTENTION, True))


def stem_table(preset: MetaformerPreset, precisions: Sequence[str]) -> PartTable[FormerStemChoice]:
    """Return the stem's table, codes by the genes of the first stage's width and its precision."""
    return tabulate(
        (preset.widths, precisions),
        lambda width, precision: FormerStemChoice(preset.stage_out(0, width), precision),
    )


def block_table(preset: MetaformerPreset, precisions: Sequence[str], stage: int, index: int) -> PartTable[FormerChoice]:
    """Return a block's table.

    Codes are by the genes of the width before it and of its stage, the number of its kind, and the genes of its expand
    and its precision. Past a stage's first block, and in the first stage, the two widths are one gene: elsewhere than
    there, and for attention before the last stage, the code is 0.
    """
    begins = stage > 0 and index == 0

    def spell(
        entering: float, width: float, kind: tuple[str, bool], expand: int, precision: str
    ) -> FormerChoice | None:
        mixer, flattens = kind
        if (not begins and entering != width) or (mixer == ATTENTION and stage < len(preset.stages) - 1):
            return None
        out = preset.stage_out(stage, width)
        in_width = preset.stage_out(stage - 1, entering) if begins else out
        return FormerChoice(in_width, out, mixer, flattens, out * expand, precision)

    return tabulate((preset.widths, preset.widths, kinds(preset), preset.expands, precisions), spell)


def head_table(preset: MetaformerPreset, precisions: Sequence[str]) -> PartTable[FormerHeadChoice]:
    """Return the head's table, codes by the gene of the last stage's width, whether it flattens, and its precision."""
    last = len(preset.stages) - 1
    return tabulate(
        (preset.widths, (False, True), precisions),
        lambda width, flattens, precision: FormerHeadChoice(preset.stage_out(last, width), flattens, precision),
    )
