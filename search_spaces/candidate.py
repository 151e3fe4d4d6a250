"""One network of a space, spelled out: frozen, hashable, and the same as JSON."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

from nas.errors import FileFormatError


@dataclass(frozen=True)
class Block:
    """One block.

    Attributes:
        kernel: Side of the depthwise kernel, or of what else the block looks at around a pixel.
        expand: Expanded channels as a multiple of the input channels, before pruning.
        keep: Fraction of the expanded channels that pruning keeps.
        precision: What the block is executed in, such as ``fp32`` or ``int8``.
        mixer: How it mixes pixels, such as ``attention``; empty where the space has one way.
        layers: How often it is repeated.
    """

    kernel: int
    expand: int
    keep: float
    precision: str
    mixer: str = ""
    layers: int = 1

    def to_dict(self) -> dict[str, Any]:
        """Return the block as JSON types."""
        content = asdict(self)
        if not self.mixer:
            del content["mixer"]
        if self.layers == 1:
            del content["layers"]
        return content


@dataclass(frozen=True)
class Candidate:
    """One network: ``blocks`` holds a tuple a stage, with ``None`` for a block left out.

    Attributes:
        space: Name of the search space.
        resolution: Side of the square input, in pixels.
        stem: Precision of the stem.
        blocks: Blocks by stage.
        head: Precision of the head (last convolution and classifier).
        stem_depth: How many of the stem's optional convolutions there are; None where the space has none.
        widths: Multipliers of the stem's and the stages' widths; empty where the space has none.
    """

    space: str
    resolution: int
    stem: str
    blocks: tuple[tuple[Block | None, ...], ...]
    head: str
    stem_depth: int | None = None
    widths: tuple[float, ...] = ()

    def all_blocks(self) -> tuple[Block | None, ...]:
        """Return one entry a block position, in order: ``None`` for a block left out."""
        return tuple(block for stage in self.blocks for block in stage)

    def active_blocks(self) -> tuple[Block, ...]:
        """Return the blocks that are there, in order."""
        return tuple(block for block in self.all_blocks() if block is not None)

    @property
    def precisions(self) -> tuple[str, ...]:
        """Precision of the stem, of every active block in order, and of the head."""
        return (self.stem, *(block.precision for block in self.active_blocks()), self.head)

    @property
    def id(self) -> str:
        """Twelve hexadecimal digits, the same for equal candidates on every machine.

        Two candidates may spell one network (expand 6 keep 1/2, expand 3 keep 1) and have two ids; a space's
        ``candidate`` always returns the canonical one, and ``space.candidate(space.genes(other))`` makes it of another.
        """
        return hashlib.sha256(json.dumps(self.to_dict(), sort_keys=True).encode()).hexdigest()[:12]

    def to_dict(self) -> dict[str, Any]:
        """Return the candidate as JSON types."""
        depth = {} if self.stem_depth is None else {"depth": self.stem_depth}
        return {
            "space": self.space,
            "resolution": self.resolution,
            "stem": {"precision": self.stem, **depth},
            "blocks": [[block and block.to_dict() for block in stage] for stage in self.blocks],
            "head": {"precision": self.head},
            **({"widths": list(self.widths)} if self.widths else {}),
        }

    @classmethod
    def from_dict(cls, content: Mapping[str, Any]) -> "Candidate":
        """Build a candidate from what ``to_dict`` returned.

        Raises:
            FileFormatError: A key is missing or a value is of the wrong type; the message names it.
        """
        try:
            return cls(
                space=_typed(content["space"], str, "space"),
                resolution=_typed(content["resolution"], int, "resolution"),
                stem=_typed(content["stem"]["precision"], str, "stem.precision"),
                blocks=tuple(tuple(_block(block) for block in stage) for stage in content["blocks"]),
                head=_typed(content["head"]["precision"], str, "head.precision"),
                stem_depth=_typed(content["stem"].get("depth"), (int, type(None)), "stem.depth"),
                widths=tuple(float(_typed(width, (int, float), "widths")) for width in content.get("widths", ())),
            )
        except KeyError as error:
            raise FileFormatError(f"candidate: key {error} is missing") from error
        except (TypeError, AttributeError) as error:
            raise FileFormatError(f"candidate: a value is of the wrong type ({error})") from error


def _block(content: Mapping[str, Any] | None) -> Block | None:
    if content is None:
        return None
    unknown = set(content) - {field.name for field in fields(Block)}
    if unknown:
        raise FileFormatError(f"candidate: block has unknown keys {sorted(unknown)}")
    return Block(
        kernel=_typed(content["kernel"], int, "block.kernel"),
        expand=_typed(content["expand"], int, "block.expand"),
        keep=float(_typed(content["keep"], (int, float), "block.keep")),
        precision=_typed(content["precision"], str, "block.precision"),
        mixer=_typed(content.get("mixer", ""), str, "block.mixer"),
        layers=_typed(content.get("layers", 1), int, "block.layers"),
    )


def _typed(value: Any, kind: Any, name: str) -> Any:
    if not isinstance(value, kind) or isinstance(value, bool):
        raise FileFormatError(f"candidate: {name} is {value!r}, of the wrong type")
    return value
