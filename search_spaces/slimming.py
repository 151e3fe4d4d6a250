"""One action of latency-driven slimming (EfficientFormer, Li et al., 2022): the networks one step smaller than one.

The paper's three: leave out the least important block; turn the first block with attention into one without; narrow
the least important stage. A space keeps the first blocks of a stage, so a stage loses its last one. Departures: a stage
of inverted residuals is narrowed in the middle of its blocks, one of metaformers at its narrowest in its MLPs; where
there is no attention, smaller kernels, or pooling for convolving, make mixing cheaper. The first blocks of our stages
are always there and have no importance to add up, so every stage is narrowed, and mixes more cheaply, in turn, and the
search's accuracy says where that loses least. Resolutions are not slimmed: there is a largest network of each.
"""

from collections.abc import Mapping
from dataclasses import replace
from itertools import product
from typing import TypeVar

import numpy as np

from nas.errors import UsageError
from search_spaces.candidate import Block, Candidate
from search_spaces.mbconv import MBConvSpace
from search_spaces.metaformer import MetaformerSpace
from search_spaces.metaformer_parts import ATTENTION
from search_spaces.space import RESOLUTION, Genes, SearchSpace

Stage = tuple[Block | None, ...]
ValueT = TypeVar("ValueT")


class SlimmingActions:
    """The actions in one space.

    Args:
        space: Of inverted residuals or of metaformers.
        importance: Of each block that may be left out, by the name of its part.

    Raises:
        UsageError: The space is of another family.
    """

    def __init__(self, space: SearchSpace, importance: Mapping[str, float]):
        if not isinstance(space, MBConvSpace | MetaformerSpace):
            raise UsageError(
                f"slimming of {space.name!r}, whose family is {space.preset.family!r}; allowed: mbconv, metaformer"
            )
        self.space, self._importance = space, importance

    def starts(self) -> Genes:
        """Return the largest network at each resolution in each precision, ``(n, num_genes)``."""
        rows = np.stack([self.space.largest(precision) for precision in self.space.precisions])
        sides = range(len(self.space.resolutions))[::-1]
        rows = np.repeat(rows, len(sides), axis=0)
        rows[:, RESOLUTION] = np.tile(sides, len(self.space.precisions))
        return self.space.canonical(rows)

    def smaller(self, row: Genes) -> Genes:
        """Return what each action makes of a row ``(num_genes,)``, ``(actions, num_genes)``."""
        candidate, stages = self.space.candidate(row), range(len(self.space.preset.stages))
        shallower = (self._shallower(candidate, stage) for stage in self._droppable(candidate))
        made = [
            next((one for one in shallower if one is not None), None),
            *(self._cheaper(candidate, stage) for stage in stages),
            *(self._narrower(candidate, stage) for stage in stages),
        ]
        rows = [self.space.genes(one) for one in dict.fromkeys(made) if one is not None]
        return np.array(rows, np.int8).reshape(-1, self.space.num_genes)

    def _droppable(self, candidate: Candidate) -> list[int]:
        """Return the stages by the importance of their last block, the least first."""
        last = [f"block_{number}_{_depth(stage) - 1}" for number, stage in enumerate(candidate.blocks)]
        return sorted(range(len(last)), key=lambda stage: self._importance.get(last[stage], np.inf))

    def _shallower(self, candidate: Candidate, stage: int) -> Candidate | None:
        blocks = candidate.blocks[stage]
        less = [depth for depth in self.space.preset.stages[stage].depths if depth < _depth(blocks)]
        if not less:
            return None
        kept = tuple(block if index < max(less) else None for index, block in enumerate(blocks))
        return self._valid(_with_stage(candidate, stage, kept))

    def _cheaper(self, candidate: Candidate, stage: int) -> Candidate | None:
        """Return smaller kernels in a stage; attention in one block less, then pooling for convolving."""
        blocks = candidate.blocks[stage]
        if isinstance(self.space, MBConvSpace):
            kernels = self.space.preset.kernels
            changed = tuple(block and replace(block, kernel=_below(kernels, block.kernel)) for block in blocks)
        else:
            mixers = self.space.preset.mixers
            fewer = self._less_attention(candidate, mixers[-1])
            if fewer is not None:
                return fewer
            changed = tuple(
                replace(block, mixer=_below(mixers, block.mixer)) if block and block.mixer in mixers else block
                for block in blocks
            )
        return None if changed == blocks else _with_stage(candidate, stage, changed)

    def _less_attention(self, candidate: Candidate, mixer: str) -> Candidate | None:
        """Return the first block with attention mixing otherwise, in the last stage, the only one that has any."""
        blocks = candidate.blocks[-1]
        first = next((index for index, block in enumerate(blocks) if block and block.mixer == ATTENTION), None)
        if first is None:
            return None
        local = tuple(
            replace(block, mixer=mixer) if block and index == first else block for index, block in enumerate(blocks)
        )
        return self._valid(_with_stage(candidate, len(candidate.blocks) - 1, local))

    def _narrower(self, candidate: Candidate, stage: int) -> Candidate | None:
        blocks = candidate.blocks[stage]
        if isinstance(self.space, MBConvSpace):
            positions = [one for one in self.space.block_positions if one.stage == stage]
            changed = tuple(
                block and _narrowed(self.space, position.in_width, block)
                for position, block in zip(positions, blocks, strict=True)
            )
        else:
            preset = self.space.preset
            less = [
                one
                for one in preset.widths
                if preset.stage_out(stage, one) < preset.stage_out(stage, candidate.widths[stage])
            ]
            if less:
                widths = tuple(max(less) if at == stage else one for at, one in enumerate(candidate.widths))
                return replace(candidate, widths=widths)
            changed = tuple(block and replace(block, expand=_below(preset.expands, block.expand)) for block in blocks)
        return None if changed == blocks else _with_stage(candidate, stage, changed)

    def _valid(self, candidate: Candidate) -> Candidate | None:
        """Return the candidate if the space has it: numbers of blocks with attention depend on the depth."""
        try:
            self.space.check(candidate)
        except UsageError:
            return None
        return candidate


def _narrowed(space: MBConvSpace, in_width: int, block: Block) -> Block:
    """Return a block of the next smaller middle width, or itself at the smallest."""
    preset = space.preset
    middle = preset.middle(in_width, block.expand, block.keep)
    spelled = {
        preset.middle(in_width, expand, keep): (expand, keep) for expand, keep in product(preset.expands, preset.keeps)
    }
    less = [width for width in spelled if width < middle]
    if not less:
        return block
    expand, keep = spelled[max(less)]
    return replace(block, expand=expand, keep=keep)


def _below(menu: tuple[ValueT, ...], value: ValueT) -> ValueT:
    """Return the choice before a value, or the value if it is the first."""
    return menu[max(0, menu.index(value) - 1)]


def _depth(stage: Stage) -> int:
    return sum(block is not None for block in stage)


def _with_stage(candidate: Candidate, stage: int, blocks: Stage) -> Candidate:
    return replace(candidate, blocks=tuple(blocks if at == stage else own for at, own in enumerate(candidate.blocks)))
