"""What the parts of metaformers cost.

Convolutions and linear layers are charged multiply-adds, on feature maps and on tokens apart, with channels also
rounded up to the vector width, and the elements that they write. Pooling, what softmax makes and the turning of a map
into tokens are passes of their own.
"""

from math import log

from latency_tables.costs import Amounts, PartCosts, Step, convolution, padded
from latency_tables.table import Part
from search_spaces import MetaformerSpace, PartChoice
from search_spaces.metaformer_parts import ATTENTION, FormerChoice, FormerHeadChoice, FormerStemChoice


class MetaformerCosts(PartCosts):
    """The costs of one space of metaformers."""

    space: MetaformerSpace

    def amounts(self, part: Part) -> Amounts:
        if isinstance(part.choice, FormerStemChoice):
            return self._stem(part, part.choice)
        if isinstance(part.choice, FormerChoice):
            return self._block(part, part.choice)
        assert isinstance(part.choice, FormerHeadChoice)
        width, side = self.entering(part)
        return {
            "head": 1.0,
            "head elements": side**2 * width / 1e4,
            "flattened elements": part.choice.flattens * side**2 * width / 1e4,
            "head macs": width * self.images.classes / 1e5,
        }

    def _stem(self, part: Part, choice: FormerStemChoice) -> Amounts:
        inside, width = choice.width // 2, choice.width
        first = (-(-part.resolution // 2)) ** 2
        second = self.space.feature_size(part.resolution, 0) ** 2
        return {
            "stem": 1.0,
            "stem first macs": 9 * first * self.images.channels * inside / 1e5,
            "stem macs": 9 * second * inside * width / 1e5,
            "stem elements": (first * inside + second * width) / 1e4,
        }

    def _block(self, part: Part, choice: FormerChoice) -> Amounts:
        embeds = self.space.index_of[part.number - 1] == 0 and self.space.stage_of[part.number - 1] > 0
        pixels, width, hidden = self._pixels(part), choice.width, choice.hidden
        embedding = 9 * pixels * choice.in_width if embeds else 0
        common = {
            "embedding": float(embeds),
            "embedding macs": embedding * width / 1e5,
            "embedding padded macs": embedding * padded(width) / 1e5,
            "residual elements": 2 * pixels * width / 1e4,
            "activation elements": pixels * hidden / 1e4,
        }
        mlp = {
            "macs": 2 * pixels * width * hidden / 1e5,
            "padded macs": 2 * pixels * padded(width) * padded(hidden) / 1e5,
        }
        if choice.mixer == ATTENTION:
            common["flattened elements"] = choice.flattens * pixels * width / 1e4
            tokens = {f"token {name}": amount for name, amount in mlp.items()}
            return {**common, **tokens, **self._attention(pixels, width)}
        return {**common, **mlp, choice.mixer: 1.0, f"{choice.mixer} elements": pixels * width / 1e4}

    def _attention(self, tokens: int, width: int) -> Amounts:
        preset = self.space.preset
        inside = preset.heads * (2 * preset.key_width + 2 * preset.value_width)
        return {
            "attention": 1.0,
            "attention macs": tokens * width * inside / 1e5,
            "attention elements": tokens * inside / 1e4,
            "score macs": tokens**2 * preset.heads * (preset.key_width + preset.value_width) / 1e5,
            "score elements": tokens**2 * preset.heads / 1e4,
        }

    def steps(self, part: Part) -> list[Step]:
        choice = part.choice
        if isinstance(choice, FormerStemChoice):
            inside, first = choice.width // 2, (-(-part.resolution // 2)) ** 2
            second = self.space.feature_size(part.resolution, 0) ** 2
            return [
                convolution(self.images.channels, inside, pixels=first, before=part.resolution**2, kernel=3),
                convolution(inside, choice.width, pixels=second, before=first, kernel=3),
            ]
        if isinstance(choice, FormerChoice):
            return self._block_steps(part, choice)
        assert isinstance(choice, FormerHeadChoice)
        width, side = self.entering(part)
        return [
            *[Step(2 * side**2 * width)] * choice.flattens,
            Step(2 * side**2 * width, floats=2 * width),
            Step(side**2 * width + width),
            convolution(width, self.images.classes, pixels=1, before=1),
        ]

    def _block_steps(self, part: Part, choice: FormerChoice) -> list[Step]:
        pixels, width, hidden = self._pixels(part), choice.width, choice.hidden
        _, side = self.entering(part)
        waits, steps = pixels * width, []
        if self.space.index_of[part.number - 1] == 0 and self.space.stage_of[part.number - 1] > 0:
            steps.append(convolution(choice.in_width, width, pixels=pixels, before=side**2, kernel=3))
        token = choice.mixer == ATTENTION
        if token:
            steps += [Step(2 * waits)] * choice.flattens + self._attention_steps(pixels, width)
            steps.append(Step(2 * waits, floats=2 * width))
        elif choice.mixer == "pool":
            steps.append(Step(3 * waits, constants=2 * width))
        else:
            steps.append(convolution(width, width, pixels=pixels, before=pixels, kernel=3, groups=width))
        return [
            *steps,
            convolution(width, hidden, pixels=pixels, before=pixels, waits=waits if token else 0),
            convolution(hidden, width, pixels=pixels, before=pixels, waits=waits),
        ]

    def _attention_steps(self, tokens: int, width: int) -> list[Step]:
        """Return norm, queries, keys and values, their split, scores, mixing, projection; the input waits for a sum."""
        preset = self.space.preset
        waits, scores = tokens * width, tokens**2 * preset.heads
        values, keys = tokens * preset.heads * preset.value_width, tokens * preset.heads * preset.key_width
        three = 2 * keys + values
        return [
            Step(2 * waits, floats=2 * width),
            convolution(width, three // tokens, pixels=tokens, before=tokens, waits=waits),
            Step(waits + 2 * three),
            Step(waits + three + scores, macs=scores * preset.key_width, constants=scores),
            Step(waits + scores + 2 * values, macs=scores * preset.value_width),
            Step(waits + 2 * values),
            convolution(values // tokens, width, pixels=tokens, before=tokens, waits=waits),
        ]

    def counts(self, part: Part) -> Amounts:
        if not isinstance(part.choice, FormerChoice):
            return {part.name: 1.0}
        stage, choice = self.space.stage_of[part.number - 1], part.choice
        return {
            f"stage {stage}": 1.0,
            choice.mixer: 1.0,
            f"block at {part.resolution} px": 1.0,
            f"width in stage {stage}": choice.width / self.space.preset.stages[stage].width,
            f"expand in stage {stage}": choice.hidden / choice.width / max(self.space.preset.expands),
        }

    def entering(self, part: Part) -> tuple[int, int]:
        choice = part.choice
        assert isinstance(choice, FormerChoice | FormerHeadChoice)
        width = choice.in_width if isinstance(choice, FormerChoice) else choice.width
        return width, self.space.feature_size(part.resolution, part.number - 1)

    def _pixels(self, part: Part) -> int:
        """Return the pixels of the map that a block puts out."""
        return self.space.feature_size(part.resolution, part.number) ** 2

    def worth(self, part: int, choice: PartChoice) -> float:
        return log(choice.width * choice.hidden) if isinstance(choice, FormerChoice) else 0.0
