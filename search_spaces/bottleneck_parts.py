"""The parts of a bottleneck space: every distinct way to fill the stem, each block and the head, and its code.

The stages' widths are genes of their own, so what fills a block depends on three of them: the width that enters it, the
width of its stage, and its keep; a table over those and the precision gives its code. Widths that round to equal
channels are one choice.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.bottleneck_preset import BottleneckPreset
from search_spaces.part_table import PartTable, tabulate

STEM_DEPTHS = (0, 1)


@dataclass(frozen=True)
class StemChoice:
    """One way to fill the stem: its optional convolutions, the channels inside and of its output, precision."""

    depth: int
    inside: int
    width: int
    precision: str


@dataclass(frozen=True)
class BottleneckChoice:
    """One way to fill a block: channels of its input, inside, and of its output, precision."""

    in_width: int
    middle: int
    out_width: int
    precision: str


@dataclass(frozen=True)
class HeadChoice:
    """One way to fill the head: channels of its input, precision."""

    in_width: int
    precision: str


def stem_table(preset: BottleneckPreset, precisions: Sequence[str]) -> PartTable[StemChoice]:
    """Return the stem's table, codes by the genes of its depth, inside, width and precision."""
    inside, width = (
        {multiplier: channels(multiplier) for multiplier in preset.widths}
        for channels in (preset.stem_inside, preset.stem_out)
    )
    return tabulate(
        (STEM_DEPTHS, preset.widths, preset.widths, precisions),
        lambda depth, a, b, precision: StemChoice(depth, inside[a], width[b], precision),
    )


def block_table(
    preset: BottleneckPreset, precisions: Sequence[str], stage: int, index: int
) -> PartTable[BottleneckChoice]:
    """Return a block's table, codes by the genes of the width before it, of its stage, its keep and its precision.

    Past a stage's first block, the two widths are one gene: elsewhere than there, the code is 0.
    """

    def before(multiplier: float) -> int:
        return preset.stage_out(stage - 1, multiplier) if stage else preset.stem_out(multiplier)

    def spell(entering: float, width: float, keep: float, precision: str) -> BottleneckChoice | None:
        out = preset.stage_out(stage, width)
        if index and entering != width:
            return None
        return BottleneckChoice(out if index else before(entering), preset.middle(out, keep), out, precision)

    return tabulate((preset.widths, preset.widths, preset.keeps, precisions), spell)


def head_table(preset: BottleneckPreset, precisions: Sequence[str]) -> PartTable[HeadChoice]:
    """Return the head's table, codes by the genes of the last stage's width and its precision."""
    last = len(preset.stages) - 1
    return tabulate(
        (preset.widths, precisions), lambda width, precision: HeadChoice(preset.stage_out(last, width), precision)
    )
