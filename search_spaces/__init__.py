"""What can be chosen: genes, sampling, mutation, encoding; one file a family, one TOML a preset."""

from search_spaces.block_tables import BlockChoice, BlockPosition
from search_spaces.bottleneck import BottleneckSpace
from search_spaces.bottleneck_preset import BottleneckPreset
from search_spaces.candidate import Block, Candidate
from search_spaces.catalogue import get_space, list_spaces, preset_path
from search_spaces.factorised import FactorisedSpace
from search_spaces.factorised_preset import FactorisedPreset
from search_spaces.families import make_space, preset_from_dict, read_preset
from search_spaces.mbconv import MBConvSpace
from search_spaces.mbconv_preset import MBConvPreset, MBConvStage
from search_spaces.metaformer import MetaformerSpace
from search_spaces.metaformer_preset import MetaformerPreset
from search_spaces.precisions import FLOATS, as_written, device_menu
from search_spaces.preset import Preset, Stage
from search_spaces.space import Genes, PartChoice, SearchSpace

__all__ = [
    "FLOATS",
    "Block",
    "BlockChoice",
    "BlockPosition",
    "BottleneckPreset",
    "BottleneckSpace",
    "Candidate",
    "FactorisedPreset",
    "FactorisedSpace",
    "Genes",
    "MBConvPreset",
    "MBConvSpace",
    "MBConvStage",
    "MetaformerPreset",
    "MetaformerSpace",
    "PartChoice",
    "Preset",
    "SearchSpace",
    "Stage",
    "as_written",
    "device_menu",
    "get_space",
    "list_spaces",
    "make_space",
    "preset_from_dict",
    "preset_path",
    "read_preset",
]
