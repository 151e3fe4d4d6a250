"""A space of bottleneck networks as a TOML file: stage widths, their multipliers, and the choices in them.

schema_version = 1
name = "ofa-resnet50"
family = "bottleneck"
summary = "one line"
resolutions = [128, 160, 192, 224]   # pixels, ascending
channels = 3
classes = 1000
dropout = 0.0
stem_width = 64                      # channels of the stem's output; half as many inside
widths = [0.65, 0.8, 1.0]            # multipliers, chosen apart for the stem's inside, its output, and each stage
keeps = [0.2, 0.25, 0.35]            # channels inside a block as a fraction of its output's
round_to = 8                         # every width is a multiple of this

[batch_norm]                         # may be left out: these are the defaults
eps = 1e-5
momentum = 0.1

[[stage]]                            # one table a stage
width = 256
stride = 1
depths = [2, 3, 4]
"""

from dataclasses import asdict, dataclass
from pathlib import Path

from search_spaces.preset import NAME, SCHEMA_VERSION, Stage, digest_of, make_divisible
from search_spaces.toml_tables import TableReader, read_toml

FAMILY = "bottleneck"


@dataclass(frozen=True)
class BottleneckPreset:
    """A space's choices; see the module for the meaning of each key."""

    name: str
    summary: str
    resolutions: tuple[int, ...]
    channels: int
    classes: int
    dropout: float
    stem_width: int
    widths: tuple[float, ...]
    keeps: tuple[float, ...]
    round_to: int
    stages: tuple[Stage, ...]
    bn_eps: float
    bn_momentum: float

    @property
    def digest(self) -> str:
        """Twelve hexadecimal digits that change whenever a choice changes."""
        return digest_of({**asdict(self), "summary": ""})

    def stem_out(self, width: float) -> int:
        """Return the channels of the stem's output under a multiplier."""
        return make_divisible(self.stem_width * width, self.round_to)

    def stem_inside(self, width: float) -> int:
        """Return the channels inside the stem under a multiplier."""
        return make_divisible(self.stem_out(width) // 2, self.round_to)

    def stage_out(self, stage: int, width: float) -> int:
        """Return the output channels of a stage under a multiplier."""
        return make_divisible(self.stages[stage].width * width, self.round_to)

    def middle(self, out_width: int, keep: float) -> int:
        """Return the channels inside a block of ``out_width`` output channels."""
        return make_divisible(round(out_width * keep), self.round_to)


def read_bottleneck_preset(path: Path) -> BottleneckPreset:
    """Read a preset.

    Raises:
        FileFormatError: The file is no TOML, or a key is missing, unknown or out of range; the message names the key
            and what is allowed.
    """
    reader = TableReader(path, read_toml(path))
    reader.take("schema_version", int, str(SCHEMA_VERSION), lambda value: value == SCHEMA_VERSION)
    reader.take("family", str, repr(FAMILY), lambda value: value == FAMILY)
    norm = reader.table("batch_norm", {})
    preset = BottleneckPreset(
        name=reader.take("name", str, "1 to 64 of A-Z a-z 0-9 . _ -, no dot first", NAME.fullmatch),
        summary=reader.take("summary", str, "a line of text"),
        resolutions=reader.ascending("resolutions", int, "pixels from 32 to 1024", lambda value: 32 <= value <= 1024),
        channels=reader.take("channels", int, "1 or 3", lambda value: value in (1, 3)),
        classes=reader.take("classes", int, "2 or more", lambda value: value >= 2),
        dropout=reader.take("dropout", float, "from 0 to below 1", lambda value: 0 <= value < 1),
        stem_width=reader.take("stem_width", int, "1 to 4096", _width),
        widths=reader.ascending("widths", float, "above 0, at most 4", lambda value: 0 < value <= 4),
        keeps=reader.ascending("keeps", float, "above 0, at most 1", lambda value: 0 < value <= 1),
        round_to=reader.take("round_to", int, "1 to 64", lambda value: 1 <= value <= 64),
        stages=tuple(_stage(table) for table in reader.tables("stage")),
        bn_eps=norm.take("eps", float, "above 0, at most 0.1", lambda value: 0 < value <= 0.1, 1e-5),
        bn_momentum=norm.take("momentum", float, "above 0, at most 1", lambda value: 0 < value <= 1, 0.1),
    )
    for table in (norm, reader):
        table.finish()
    return preset


def _stage(table: TableReader) -> Stage:
    stage = Stage(
        width=table.take("width", int, "1 to 4096", _width),
        stride=table.take("stride", int, "1 or 2", lambda value: value in (1, 2)),
        depths=table.ascending("depths", int, "1 to 16", lambda value: 1 <= value <= 16),
    )
    table.finish()
    return stage


def _width(value: int) -> bool:
    return 1 <= value <= 4096
