"""What the parts of factorised networks cost.

A stage is a list of convolutions. Those over one pixel and over several are charged multiply-adds, with channels also
rounded up to the vector width; depthwise ones the elements that they look at, apart for every kernel; all of them what
they write, and their weights. Sums and squeeze-and-excitation are passes of their own.
"""

from collections import Counter
from dataclasses import dataclass
from math import log

from latency_tables.costs import Amounts, PartCosts, Step, convolution, padded
from latency_tables.table import Part
from search_spaces import FactorisedSpace, PartChoice
from search_spaces.factorised_parts import PlainHeadChoice, StageChoice
from search_spaces.factorised_preset import CSP, INVERTED


@dataclass(frozen=True)
class Convolution:
    """One convolution of a stage: channels, kernel, pixels of input and output, and what waits meanwhile.

    Attributes:
        inside: Channels of its input.
        out: Of its output.
        before: Pixels of its input.
        pixels: Of its output.
        kernel: Side of the kernel.
        depthwise: Whether each channel has a kernel of its own.
        waits: Elements alive beside its input and output.
        beside: Whether it is off the way from input to output.
        adds: Whether its output is added to another tensor.
    """

    inside: int
    out: int
    before: int
    pixels: int
    kernel: int = 1
    depthwise: bool = False
    waits: int = 0
    beside: bool = False
    adds: bool = False

    def step(self) -> Step:
        """Return it as a step."""
        return convolution(
            self.inside, self.out, pixels=self.pixels, before=self.before, kernel=self.kernel,
            groups=self.inside if self.depthwise else 1, waits=self.waits, beside=self.beside,
        )  # fmt: skip

    def amounts(self) -> Amounts:
        """Return what it computes and moves."""
        looked, written = self.pixels * self.kernel**2, self.pixels * self.out
        found = {"convolutions": 1.0, "elements": written / 1e5, "residual elements": self.adds * written / 1e5}
        if self.depthwise:
            return {**found, f"depthwise {self.kernel}": looked * self.out / 1e5}
        name = "pointwise" if self.kernel == 1 else "spatial"
        weights = self.inside * self.out * self.kernel**2
        return {
            **found,
            f"{name} macs": looked * self.inside * self.out / 1e6,
            f"{name} padded macs": looked * padded(self.inside) * padded(self.out) / 1e6,
            "weights": weights / 1e5,
        }


class FactorisedCosts(PartCosts):
    """The costs of one factorised space."""

    space: FactorisedSpace

    def amounts(self, part: Part) -> Amounts:
        if isinstance(part.choice, StageChoice):
            total: Counter[str] = Counter()
            for one in self._convolutions(part, part.choice):
                total.update(one.amounts())
            squeezed = part.choice.layers * (part.choice.kind == "mbconv_se")
            _, after = self._pixels(part)
            elements = squeezed * after * part.choice.middle / 1e5
            return {**total, "stage": 1.0, "squeezes": float(squeezed), "squeezed elements": elements}
        if part.name == "stem":
            pixels, width = self._stem_pixels(part), self.space.preset.stem_width
            macs = 9 * pixels * self.images.channels * width
            return {"stem": 1.0, "stem macs": macs / 1e6, "stem elements": pixels * width / 1e5}
        channels, side = self.entering(part)
        return {
            "head": 1.0,
            "head pooled elements": side**2 * channels / 1e4,
            "head macs": channels * self.images.classes / 1e6,
        }

    def steps(self, part: Part) -> list[Step]:
        if isinstance(part.choice, StageChoice):
            return [one.step() for one in self._convolutions(part, part.choice)]
        if part.name == "stem":
            width, pixels = self.space.preset.stem_width, self._stem_pixels(part)
            return [convolution(self.images.channels, width, pixels=pixels, before=part.resolution**2, kernel=3)]
        channels, side = self.entering(part)
        return [Step(side**2 * channels + channels), convolution(channels, self.images.classes, pixels=1, before=1)]

    def _convolutions(self, part: Part, choice: StageChoice) -> list[Convolution]:
        """Return the convolutions of a stage in the order in which they run."""
        before, after = self._pixels(part)
        if choice.kind == CSP:
            return self._crossed(choice, before, after)
        found: list[Convolution] = []
        enters = choice.in_width
        for index in range(choice.layers):
            adds = index > 0
            if choice.kind in INVERTED:
                found += self._inverted(choice, enters, before, after, adds)
            else:
                found += _residual(choice, enters, before, after, adds=adds)
            before, enters = after, choice.out_width
        return found

    def _inverted(self, choice: StageChoice, enters: int, before: int, after: int, adds: bool) -> list[Convolution]:
        middle, waits = choice.middle, before * enters if adds else 0
        found = [
            Convolution(enters, middle, before, before),
            Convolution(middle, middle, before, after, choice.kernel, depthwise=True, waits=waits),
        ]
        if choice.kind == "mbconv_se":
            squeezed, alive = self.space.preset.squeezed(middle), after * middle + waits
            found += [
                Convolution(middle, squeezed, 1, 1, waits=alive, beside=True),
                Convolution(squeezed, middle, 1, 1, waits=alive, beside=True),
            ]
        return [*found, Convolution(middle, choice.out_width, after, after, waits=waits, adds=adds)]

    def _crossed(self, choice: StageChoice, before: int, after: int) -> list[Convolution]:
        out, half = choice.out_width, choice.out_width // 2
        aside = after * half
        found = [
            Convolution(choice.in_width, out, before, after, 3),
            Convolution(out, half, after, after, beside=True),
            Convolution(out, half, after, after, waits=aside),
        ]
        for _ in range(choice.layers):
            found += _residual(choice, half, after, after, adds=True, out=half, waits=aside)
        joined = Convolution(half, out, after, after, waits=aside, adds=True)
        return [*found, joined, Convolution(half, out, after, after, waits=after * out, beside=True)]

    def counts(self, part: Part) -> Amounts:
        if not isinstance(part.choice, StageChoice):
            return {part.name: 1.0}
        choice, stage = part.choice, part.number - 1
        return {
            f"{choice.kind} {choice.kernel}": 1.0,
            f"layers in stage {stage}": float(choice.layers),
            f"stage at {part.resolution} px": 1.0,
            f"width in stage {stage}": choice.out_width / self.space.preset.stages[stage].width,
        }

    def _pixels(self, part: Part) -> tuple[int, int]:
        """Return the pixels of the map that enters a stage and of the one that leaves it."""
        size = self.space.feature_size
        return size(part.resolution, part.number - 1) ** 2, size(part.resolution, part.number) ** 2

    def _stem_pixels(self, part: Part) -> int:
        return self.space.feature_size(part.resolution, 0) ** 2

    def entering(self, part: Part) -> tuple[int, int]:
        assert isinstance(part.choice, StageChoice | PlainHeadChoice)
        return part.choice.in_width, self.space.feature_size(part.resolution, part.number - 1)

    def worth(self, part: int, choice: PartChoice) -> float:
        return choice.layers * log(choice.middle * choice.out_width) if isinstance(choice, StageChoice) else 0.0


def _residual(
    choice: StageChoice, enters: int, before: int, after: int, *, adds: bool, out: int = 0, waits: int = 0
) -> list[Convolution]:
    """Return the two convolutions of a ResNet-like layer; ``waits`` is alive all along."""
    first = choice.kernel if choice.kind == "kxkx" else 1
    second = waits + (before * enters if adds else 0)
    return [
        Convolution(enters, choice.middle, before, before, first, waits=waits),
        Convolution(choice.middle, out or choice.out_width, before, after, choice.kernel, waits=second, adds=adds),
    ]
