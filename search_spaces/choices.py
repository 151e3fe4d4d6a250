"""Whether a space has what a candidate chooses."""

from collections.abc import Sequence

from nas.errors import UsageError
from search_spaces.candidate import Block, Candidate
from search_spaces.preset import Preset


def check_stages(candidate: Candidate, preset: Preset) -> None:
    """Check what is chosen in every family: the space itself, the resolution, and the depths.

    Raises:
        UsageError: The preset lacks a choice.
    """
    if candidate.space != preset.name:
        raise UsageError(f"candidate of space {candidate.space!r}; allowed: {preset.name!r}")
    choice_index(candidate.resolution, preset.resolutions, "resolution")
    shape, allowed_shape = [len(stage) for stage in candidate.blocks], [max(stage.depths) for stage in preset.stages]
    if shape != allowed_shape:
        raise UsageError(f"candidate: stages of {shape} blocks; allowed: {allowed_shape}, null for one left out")
    for stage, (blocks, allowed) in enumerate(zip(candidate.blocks, preset.stages, strict=True)):
        depth = depth_of(blocks)
        if None in blocks[:depth]:
            raise UsageError(f"candidate: stage {stage} lacks a block before one it has; allowed: the last ones")
        choice_index(depth, allowed.depths, f"depth of stage {stage}")


def check_unmixed(name: str, block: Block) -> None:
    """Check that a block of a space with one way to mix pixels names none.

    Raises:
        UsageError: It does.
    """
    if block.mixer:
        raise UsageError(f"{name}: mixer {block.mixer!r}; allowed: none")


def depth_of(stage: Sequence[Block | None]) -> int:
    """Return how many blocks of a stage are there."""
    return sum(block is not None for block in stage)


def choice_index(value: object, allowed: Sequence[object], what: str) -> int:
    """Return where ``value`` stands among the ``allowed``.

    Raises:
        UsageError: It does not; the message begins with ``what``.
    """
    if value not in allowed:
        raise UsageError(f"{what} {value!r}; allowed: {', '.join(map(str, allowed))}")
    return list(allowed).index(value)
