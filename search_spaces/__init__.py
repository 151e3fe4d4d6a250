"""What can be chosen: genes, sampling, mutation, encoding; one file a family, one TOML a preset."""

from search_spaces.block_tables import BlockChoice, BlockPosition
from search_spaces.bottleneck import BottleneckSpace
from search_spaces.bottleneck_preset import BottleneckPreset, read_bottleneck_preset
from search_spaces.candidate import Block, Candidate
from search_spaces.catalogue import (
    get_bottleneck_space,
    get_space,
    list_bottleneck_spaces,
    list_spaces,
    preset_path,
)
from search_spaces.mbconv import MBConvSpace
from search_spaces.preset import Preset, preset_from_dict, read_preset
from search_spaces.space import Genes, SearchSpace

__all__ = [
    "Block",
    "BlockChoice",
    "BlockPosition",
    "BottleneckPreset",
    "BottleneckSpace",
    "Candidate",
    "Genes",
    "MBConvSpace",
    "Preset",
    "SearchSpace",
    "get_bottleneck_space",
    "get_space",
    "list_bottleneck_spaces",
    "list_spaces",
    "preset_from_dict",
    "preset_path",
    "read_bottleneck_preset",
    "read_preset",
]
