"""What the parts of inverted-residual networks cost.

The amounts are of the graph that runs, chosen by cross-validation on measured networks. Convolutions are charged
multiply-adds and elements moved, with channels also rounded up to the vector width (depthwise kernels have a slow path
where they do not divide by it), apart for each depthwise kernel; batch norms and activations are part of their
convolution, h-swish alone is passes of its own, and so is squeeze-and-excitation; a residual sum is a pass over its
output.
"""

from itertools import pairwise
from math import log, prod

from latency_tables.costs import VECTOR, Amounts, PartCosts, Step, convolution, padded
from latency_tables.table import Part
from search_spaces import BlockChoice, MBConvSpace, PartChoice


class MBConvCosts(PartCosts):
    """The costs of one space of inverted residual blocks."""

    space: MBConvSpace

    def amounts(self, part: Part) -> Amounts:
        if isinstance(part.choice, BlockChoice):
            return self._block(part, part.choice)
        preset = self.space.preset
        if part.name == "stem":
            block = 9 + preset.stem_block_width if preset.stem_block_width else 0
            each = (9 * self.images.channels + block) * preset.stem_width  # for each pixel that the stem puts out
            return {"stem": 1.0, "stem macs": self.space.feature_size(part.resolution, 0) ** 2 * each / 1e5}
        channels, side = self.entering(part)
        macs = side**2 * channels * preset.head_width
        macs += sum(map(prod, pairwise(filter(None, (preset.head_width, preset.head_mix_width, self.images.classes)))))
        return {"head": 1.0, "head macs": macs / 1e5}

    def _block(self, part: Part, choice: BlockChoice) -> Amounts:
        position, middle, kernel = self.space.block_positions[part.number - 1], choice.middle, choice.kernel
        _, side = self.entering(part)
        before, after = side**2, (-(-side // position.stride)) ** 2
        depthwise = after * kernel**2 / 1e5
        residual = 1.0 if position.residual else 0.0
        extras = {}
        if position.se:
            extras["squeeze-excite"] = 1.0
            extras["squeeze-excite elements"] = after * middle / 1e4
        if position.activation == "hswish":  # several passes where ReLU is part of the convolution
            extras["h-swish elements"] = (before + after) * middle / 1e4
        return extras | {
            f"block {kernel}": 1.0,
            "channels": middle / 100,
            "expand macs": before * position.in_width * middle / 1e5,
            "expand padded macs": before * position.in_width * padded(middle) / 1e5,
            "expand elements": before * middle / 1e4,
            f"depthwise {kernel} padded macs": depthwise * padded(middle),
            "depthwise unaligned macs": depthwise * middle if middle % VECTOR else 0.0,
            "project macs": after * middle * position.out_width / 1e5,
            "project elements": after * position.out_width / 1e4,
            "residual": residual,
            "residual elements": residual * after * position.out_width / 1e4,
        }

    def steps(self, part: Part) -> list[Step]:
        if isinstance(part.choice, BlockChoice):
            return self._block_steps(part, part.choice)
        return self._stem_steps(part) if part.name == "stem" else self._head_steps(part)

    def _stem_steps(self, part: Part) -> list[Step]:
        preset, before = self.space.preset, part.resolution**2
        after, width, out = self.space.feature_size(part.resolution, 0) ** 2, preset.stem_width, preset.stem_block_width
        steps = [convolution(self.images.channels, width, pixels=after, before=before, kernel=3)]
        if out:
            waits = after * width if out == width else 0
            steps.append(convolution(width, width, pixels=after, before=after, kernel=3, groups=width))
            steps.append(convolution(width, out, pixels=after, before=after, waits=waits))
        return steps

    def _block_steps(self, part: Part, choice: BlockChoice) -> list[Step]:
        position, middle, kernel = self.space.block_positions[part.number - 1], choice.middle, choice.kernel
        _, side = self.entering(part)
        before, after = side**2, (-(-side // position.stride)) ** 2
        waits = before * position.in_width if position.residual else 0
        steps = [
            convolution(position.in_width, middle, pixels=before, before=before),
            convolution(middle, middle, pixels=after, before=before, kernel=kernel, groups=middle, waits=waits),
        ]
        if position.se:
            squeezed, waits_se = self.space.preset.squeezed(middle), after * middle + waits
            steps += [
                convolution(middle, squeezed, pixels=1, before=1, waits=waits_se, beside=True),
                convolution(squeezed, middle, pixels=1, before=1, waits=waits_se, beside=True),
            ]
        return [*steps, convolution(middle, position.out_width, pixels=after, before=after, waits=waits)]

    def _head_steps(self, part: Part) -> list[Step]:
        preset = self.space.preset
        channels, side = self.entering(part)
        width, mixed = preset.head_width, preset.head_mix_width
        steps = [
            convolution(channels, width, pixels=side**2, before=side**2),
            Step(side**2 * width + width),
        ]
        if mixed:
            steps.append(convolution(width, mixed, pixels=1, before=1, bias=False))
        return [*steps, convolution(mixed or width, self.images.classes, pixels=1, before=1)]

    def counts(self, part: Part) -> Amounts:
        if not isinstance(part.choice, BlockChoice):
            return {part.name: 1.0}
        position = self.space.block_positions[part.number - 1]
        return {
            f"stage {position.stage}": 1.0,
            f"kernel {part.choice.kernel}": 1.0,
            f"block at {part.resolution} px": 1.0,
            f"width in stage {position.stage}": part.choice.middle / (4 * position.in_width),
        }

    def entering(self, part: Part) -> tuple[int, int]:
        positions, block = self.space.block_positions, part.number - 1
        if block < len(positions):
            return positions[block].in_width, self.space.feature_size(part.resolution, block)
        last = self.space.feature_size(part.resolution, len(positions) - 1)
        return positions[-1].out_width, -(-last // positions[-1].stride)

    def worth(self, part: int, choice: PartChoice) -> float:
        return log(choice.middle * choice.kernel) if isinstance(choice, BlockChoice) else 0.0
