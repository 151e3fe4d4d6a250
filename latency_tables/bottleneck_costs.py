"""What the parts of bottleneck networks cost.

Convolutions are charged multiply-adds, those over 1x1 and over 3x3 pixels apart, with channels also rounded up to the
vector width, the elements that they write, and their weights, which are many where the maps are small. The shortcut of
a stage's first block, its pooling, and the sum are passes of their own.
"""

from math import log

from latency_tables.costs import Amounts, PartCosts, Step, convolution, padded
from latency_tables.table import Part
from search_spaces import BottleneckSpace, PartChoice
from search_spaces.bottleneck_parts import BottleneckChoice, HeadChoice, StemChoice


class BottleneckCosts(PartCosts):
    """The costs of one space of bottleneck blocks."""

    space: BottleneckSpace

    def amounts(self, part: Part) -> Amounts:
        if isinstance(part.choice, StemChoice):
            return self._stem(part, part.choice)
        if isinstance(part.choice, BottleneckChoice):
            return self._block(part, part.choice)
        channels, side = self.entering(part)
        return {
            "head": 1.0,
            "head pooled elements": side**2 * channels / 1e4,
            "head macs": channels * self.images.classes / 1e6,
        }

    def _stem(self, part: Part, choice: StemChoice) -> Amounts:
        pixels, inside, width = (-(-part.resolution // 2)) ** 2, choice.inside, choice.width
        return {
            "stem": 1.0,
            "stem first macs": 9 * pixels * self.images.channels * inside / 1e6,
            "stem macs": 9 * pixels * inside * (choice.depth * inside + width) / 1e6,
            "stem elements": pixels * ((1 + choice.depth) * inside + width) / 1e5,
            "stem residual elements": choice.depth * pixels * inside / 1e5,
            "stem pooled elements": pixels * width / 1e5,
        }

    def _block(self, part: Part, choice: BottleneckChoice) -> Amounts:
        index, stride = self._place(part)
        enters, middle, out = choice.in_width, choice.middle, choice.out_width
        _, side = self.entering(part)
        before, after = side**2, (-(-side // stride)) ** 2
        shortcut = enters * out if index == 0 else 0
        pointwise = before * enters * middle + after * (middle * out + shortcut)
        aligned = before * padded(enters) * padded(middle) + after * (padded(middle) * padded(out) + shortcut)
        strided = "strided spatial" if stride > 1 else "spatial"
        return {
            "block": 1.0,
            "shortcut": 1.0 if shortcut else 0.0,
            "pointwise macs": pointwise / 1e6,
            "pointwise padded macs": aligned / 1e6,
            f"{strided} macs": 9 * after * middle**2 / 1e6,
            f"{strided} padded macs": 9 * after * padded(middle) ** 2 / 1e6,
            "elements": ((before + after) * middle + after * out * (2 if shortcut else 1)) / 1e5,
            "weights": (enters * middle + 9 * middle**2 + middle * out + shortcut) / 1e5,
            "residual elements": after * out / 1e5,
            "pooled elements": before * enters / 1e5 if stride > 1 else 0.0,
        }

    def steps(self, part: Part) -> list[Step]:
        if isinstance(part.choice, StemChoice):
            return self._stem_steps(part, part.choice)
        if isinstance(part.choice, BottleneckChoice):
            return self._block_steps(part, part.choice)
        channels, side = self.entering(part)
        return [
            Step(side**2 * channels + channels),
            convolution(channels, self.images.classes, pixels=1, before=1),
        ]

    def _stem_steps(self, part: Part, choice: StemChoice) -> list[Step]:
        pixels, inside, width = (-(-part.resolution // 2)) ** 2, choice.inside, choice.width
        after = self.space.feature_size(part.resolution, 0) ** 2
        return [
            convolution(self.images.channels, inside, pixels=pixels, before=part.resolution**2, kernel=3),
            *[convolution(inside, inside, pixels=pixels, before=pixels, kernel=3)] * choice.depth,
            convolution(inside, width, pixels=pixels, before=pixels, kernel=3),
            Step((pixels + after) * width),
        ]

    def _block_steps(self, part: Part, choice: BottleneckChoice) -> list[Step]:
        index, stride = self._place(part)
        enters, middle, out = choice.in_width, choice.middle, choice.out_width
        _, side = self.entering(part)
        before, after = side**2, (-(-side // stride)) ** 2
        waits, wrote = before * enters, after * out
        steps = [
            convolution(enters, middle, pixels=before, before=before),
            convolution(middle, middle, pixels=after, before=before, kernel=3, waits=waits),
            convolution(middle, out, pixels=after, before=after, waits=waits),
        ]
        if stride > 1:
            steps.append(Step(waits + after * enters + wrote))
        if index == 0:
            steps.append(convolution(enters, out, pixels=after, before=after, waits=wrote, beside=True))
        return steps

    def counts(self, part: Part) -> Amounts:
        if isinstance(part.choice, StemChoice):
            return {"stem": 1.0, "stem optional": float(part.choice.depth)}
        if not isinstance(part.choice, BottleneckChoice):
            return {part.name: 1.0}
        stage, choice = self.space.stage_of[part.number - 1], part.choice
        return {
            f"stage {stage}": 1.0,
            f"block at {part.resolution} px": 1.0,
            f"width in stage {stage}": choice.out_width / self.space.preset.stages[stage].width,
            f"keep in stage {stage}": choice.middle / choice.out_width,
        }

    def _place(self, part: Part) -> tuple[int, int]:
        """Return the index of a block in its stage, and its stride."""
        index, stage = (int(of[part.number - 1]) for of in (self.space.index_of, self.space.stage_of))
        return index, 1 if index else self.space.preset.stages[stage].stride

    def entering(self, part: Part) -> tuple[int, int]:
        assert isinstance(part.choice, BottleneckChoice | HeadChoice)
        return part.choice.in_width, self.space.feature_size(part.resolution, part.number - 1)

    def worth(self, part: int, choice: PartChoice) -> float:
        return log(choice.middle * choice.out_width) if isinstance(choice, BottleneckChoice) else 0.0
