"""What a family's parts cost, in amounts of work: what a latency table is regressed on.

A family says for each part how much it computes and moves; ``features`` adds what is alike in all of them. A new family
is one file with its ``PartCosts``, and a line here under the name of its family of spaces.
"""

from abc import ABC, abstractmethod
from dataclasses import dataclass

from latency_tables.table import Part
from nas.registry import Registry
from search_spaces import PartChoice, SearchSpace

FAMILIES = Registry("family of costs")
FAMILIES.register("mbconv", "latency_tables.mbconv_costs:MBConvCosts", "inverted residual blocks")
FAMILIES.register("bottleneck", "latency_tables.bottleneck_costs:BottleneckCosts", "bottleneck blocks")
FAMILIES.register("metaformer", "latency_tables.metaformer_costs:MetaformerCosts", "blocks on maps, then on tokens")
FAMILIES.register("factorised", "latency_tables.factorised_costs:FactorisedCosts", "one block a stage, repeated")

VECTOR = 16  # channels that the blocked kernels work on at once

Amounts = dict[str, float]


@dataclass(frozen=True)
class Images:
    """What the images ask of a network: channels of its input, classes of its output."""

    channels: int
    classes: int


@dataclass(frozen=True)
class Step:
    """One step of a part for one image: a convolution, a matrix product, a pooling, a change of shape.

    Attributes:
        alive: Elements of activations that are alive while it runs.
        macs: Multiply-adds.
        weights: Elements of its weights.
        biases: Elements of its biases.
        scales: Channels that have a scale of their own in int8.
        constants: Elements of other tensors, which int8 quantizes as a whole.
        floats: Elements of tensors that stay fp32.
        beside: Whether it is off the way from input to output: a shortcut, or squeeze-and-excitation.
    """

    alive: int
    macs: int = 0
    weights: int = 0
    biases: int = 0
    scales: int = 0
    constants: int = 0
    floats: int = 0
    beside: bool = False


def convolution(
    inside: int,
    out: int,
    *,
    pixels: int,
    before: int,
    kernel: int = 1,
    groups: int = 1,
    waits: int = 0,
    bias: bool = True,
    beside: bool = False,
) -> Step:
    """Return the step of a convolution or linear layer, its batch norm folded.

    Args:
        inside: Channels of its input.
        out: Of its output.
        pixels: Of its output.
        before: Of its input.
        kernel: Side of the kernel.
        groups: Groups of channels.
        waits: Elements that are alive beside its input and output.
        bias: Whether it has one.
        beside: As in ``Step``.
    """
    weights = inside // groups * out * kernel**2
    alive = before * inside + pixels * out + waits
    return Step(alive, pixels * weights, weights, out if bias else 0, out, beside=beside)


class PartCosts(ABC):
    """What the parts of one space cost, for some images; amounts are scaled to be of the order of one.

    Args:
        space: The space.
        images: What its networks are for.
    """

    def __init__(self, space: SearchSpace, images: Images):
        self.space = space
        self.images = images

    @abstractmethod
    def amounts(self, part: Part) -> Amounts:
        """Return what a part computes and moves, none negative, by name; each precision has its own of the name."""

    @abstractmethod
    def steps(self, part: Part) -> list[Step]:
        """Return what a part does, step by step: exactly, where ``amounts`` are what time depends on."""

    @abstractmethod
    def counts(self, part: Part) -> Amounts:
        """Return what the corrections of a good table may depend on, few and coarse, likewise by name."""

    @abstractmethod
    def entering(self, part: Part) -> tuple[int, int]:
        """Return the channels and the side in pixels of the tensor that enters a part; not asked of the first."""

    @abstractmethod
    def worth(self, part: int, choice: PartChoice) -> float:
        """Return how much of a network a choice is: a stand-in for what it adds to accuracy, at least 0."""


def part_costs(space: SearchSpace, images: Images) -> PartCosts:
    """Return the costs of the space's family."""
    costs: PartCosts = FAMILIES.get(space.preset.family)(space, images)
    return costs


def padded(channels: int) -> int:
    """Return channels rounded up to the vector width."""
    return -(-channels // VECTOR) * VECTOR
