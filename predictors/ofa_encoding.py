"""How once-for-all's released accuracy predictors encode a network, by family (the code that its authors released).

Inverted residuals: one-hot kernels of all blocks, one-hot expands, one-hot resolution. Bottlenecks: one-hot resolution,
the stem's depth, the widths of stem and stages, the expand of each block, which is our keep. Blocks left out are all
zeros. Which resolutions the inputs stand for is the choice of the notebooks that came with the predictors.
"""

from collections.abc import Callable
from dataclasses import dataclass

from nas.errors import UsageError
from search_spaces import MBConvSpace, SearchSpace


@dataclass(frozen=True)
class OFAEncoding:
    """The encoding of one family.

    Attributes:
        inputs: Resolutions that the predictor has inputs for, pixels.
        trained: The range in which what it answers makes sense, pixels.
        places: From a space to its features by name, other than resolutions: their place among OFA's.
        first_resolution: From a space to the place of the first resolution.
    """

    inputs: tuple[int, ...]
    trained: tuple[int, int]
    places: Callable[[SearchSpace], dict[str, int]]
    first_resolution: Callable[[SearchSpace], int]


def encoding_of(space: SearchSpace) -> OFAEncoding:
    """Return the encoding of a space's family.

    Raises:
        UsageError: Once-for-all has released no predictor for that family.
    """
    family = space.preset.family
    if family not in ENCODINGS:
        known = ", ".join(ENCODINGS)
        raise UsageError(f"space {space.name!r} of family {family!r} for once-for-all's predictors; allowed: {known}")
    return ENCODINGS[family]


def _mbconv_places(space: SearchSpace) -> dict[str, int]:
    """Return the places of kernels, then of middle widths in ascending order, which stand for expands."""
    assert isinstance(space, MBConvSpace)
    kernels, expands = len(space.preset.kernels), len(space.preset.expands)
    places: dict[str, int] = {}
    for number, position in enumerate(space.block_positions):
        choices = space.block_choices(number)
        middles = sorted({choice.middle for choice in choices})[:expands]
        kernel = {f"{position.name}.kernel={kernel}": at for at, kernel in enumerate(space.preset.kernels)}
        middle = {f"{position.name}.middle={middle}": at for at, middle in enumerate(middles)}
        places |= {name: kernels * number + at for name, at in kernel.items()}
        places |= {name: (kernels * space.num_blocks) + expands * number + at for name, at in middle.items()}
    return places


def _mbconv_first_resolution(space: SearchSpace) -> int:
    assert isinstance(space, MBConvSpace)
    return (len(space.preset.kernels) + len(space.preset.expands)) * space.num_blocks


def _bottleneck_places(space: SearchSpace) -> dict[str, int]:
    """Return the places of all features but precisions: in our order, after the resolutions."""
    ours = [name for name in space.feature_names if "precision=" not in name and not name.startswith("resolution=")]
    return {name: len(BOTTLENECK_INPUTS) + at for at, name in enumerate(ours)}


BOTTLENECK_INPUTS = (128, 144, 160, 176, 192, 224, 240, 256)
ENCODINGS = {
    "mbconv": OFAEncoding(tuple(range(112, 225, 16)), (160, 224), _mbconv_places, _mbconv_first_resolution),
    "bottleneck": OFAEncoding(BOTTLENECK_INPUTS, (128, 224), _bottleneck_places, lambda space: 0),
}
