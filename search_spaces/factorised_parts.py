"""The parts of a factorised space: every distinct way to fill the stem, each stage and the head, and its code."""

from collections.abc import Sequence
from dataclasses import dataclass

from search_spaces.factorised_preset import FactorisedPreset
from search_spaces.part_table import PartTable, tabulate


@dataclass(frozen=True)
class PlainStemChoice:
    """One way to fill the stem, which chooses nothing but a precision."""

    precision: str


@dataclass(frozen=True)
class StageChoice:
    """One way to fill a stage: the channels that enter, what is repeated and how often, precision.

    Attributes:
        in_width: Channels of its input.
        out_width: Of its output.
        kind: Of its layers.
        kernel: Side of their kernel.
        middle: Channels inside each of them.
        layers: How many there are.
        precision: What it is executed in.
    """

    in_width: int
    out_width: int
    kind: str
    kernel: int
    middle: int
    layers: int
    precision: str


@dataclass(frozen=True)
class PlainHeadChoice:
    """One way to fill the head: channels of its input, precision."""

    in_width: int
    precision: str


def stage_table(preset: FactorisedPreset, precisions: Sequence[str], stage: int) -> PartTable[StageChoice]:
    """Return a stage's table, codes by the width before it and its own genes, in the order of a row."""

    def spell(
        before: float, width: float, kind: str, kernel: int, keep: float, layers: int, precision: str
    ) -> StageChoice:
        entering = preset.stage_out(stage - 1, before) if stage else preset.stem_width
        out = preset.stage_out(stage, width)
        return StageChoice(entering, out, kind, kernel, preset.middle(out, keep), layers, precision)

    menus = (preset.widths, preset.kinds, preset.kernels, preset.keeps, preset.layers, precisions)
    return tabulate((preset.widths, *menus), spell)


def head_table(preset: FactorisedPreset, precisions: Sequence[str]) -> PartTable[PlainHeadChoice]:
    """Return the head's table, codes by the last stage's width and its own precision."""
    last = len(preset.stages) - 1
    return tabulate(
        (preset.widths, precisions), lambda width, precision: PlainHeadChoice(preset.stage_out(last, width), precision)
    )
