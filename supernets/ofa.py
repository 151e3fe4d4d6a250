"""Once-for-all's released supernets, as ours (Cai et al., 2020; github.com/mit-han-lab/once-for-all).

A checkpoint is a state dict, alone or under ``state_dict``, read without running any code in it. OFA numbers blocks
through and spells a tensor in several ways over its releases: ``blocks.1.conv.depth_conv.conv.conv.weight``,
``blocks.1.mobile_inverted_conv.depth_conv.conv.weight``. A kernel transform there multiplies from the left, so that it
is transposed here. Counters of batch norms are no weights and are left out.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor, nn

from nas.errors import FileFormatError, UsageError
from nas.files import is_file
from search_spaces import MBConvSpace, SearchSpace, get_space
from supernets.families import make_supernet
from supernets.supernet import ImageInfo, Supernet

OFA_SPACES = {"mbconv": ("ofa-mbv3", "ofa-mbv3-w1.2", "ofa-proxyless"), "bottleneck": ("ofa-resnet50",)}
"""The shipped spaces of once-for-all's released supernets, by family."""

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
COUNTER, TRANSFORM = "num_batches_tracked", "_matrix"

PARTS = {
    "expand": "inverted_bottleneck",
    "depthwise.se": "depth_conv.se.fc",
    "depthwise": "depth_conv",
    "project": "point_linear",
}
"""Our parts of a block to OFA's; the first that fits counts."""

RESNET_PARTS = {
    "stem.first": "input_stem.0",
    "stem.optional.layer": "input_stem.1.conv",
    "stem.last": "input_stem.2",
    "reduce": "conv1",
    "spatial": "conv2",
    "widen": "conv3",
    "shortcut": "downsample",
    "head.classifier": "classifier.linear",
}
"""Our parts of an elastic ResNet to OFA's."""


def import_ofa(
    checkpoint: str | Path, space: SearchSpace | str | Path | None = None, *, classes: Sequence[str] | None = None
) -> Supernet:
    """Read a supernet that once-for-all released or its code trained.

    Args:
        checkpoint: The file.
        space: The space it is of, or its name or preset; without one, the shipped space of OFA's that fits best.
        classes: Names of the classes in the order of the classifier's outputs; without them, they are numbered.

    Returns:
        The supernet in evaluation mode, for images normalised as ImageNet's are.

    Raises:
        FileFormatError: The file is no checkpoint, or its tensors do not fit the space; the message names every one.
        UsageError: No space has that name, or once-for-all has no networks of its family.
    """
    path = Path(checkpoint)
    found = read_checkpoint(path)
    family = "bottleneck" if any(name.startswith("input_stem.") for name in found) else "mbconv"
    wanted = OFA_SPACES[family] if space is None else (space,)
    spaces = [one if isinstance(one, SearchSpace) else get_space(one) for one in wanted]
    nets = [make_supernet(one, _image_info(path, found, classes)) for one in spaces]
    wrong = [misfits(net, ofa_names(net), found) for net in nets]
    fewest = min(range(len(nets)), key=lambda number: len(wrong[number]))
    if wrong[fewest]:
        raise FileFormatError(f"{path}: not a supernet of space {spaces[fewest].name!r}: {'; '.join(wrong[fewest])}")
    supernet = nets[fewest]
    take_tensors(supernet, ofa_names(supernet), found)
    return supernet.eval()


def take_tensors(supernet: nn.Module, names: Mapping[str, str], found: Mapping[str, Tensor]) -> None:
    """Load ``found`` into ``supernet``; ``names`` leads from OFA's names to ours."""
    tensors = supernet.state_dict()
    for theirs, ours in names.items():
        tensors[ours] = found[theirs].T if theirs.endswith(TRANSFORM) else found[theirs]
    supernet.load_state_dict(tensors)


def read_checkpoint(path: Path) -> dict[str, Tensor]:
    """Return the floating-point tensors of a torch checkpoint under their plain names.

    Raises:
        FileFormatError: It is missing, is no checkpoint of plain tensors, or holds NaN or infinity.
    """
    if not is_file(path):
        raise FileFormatError(f"{path}: there is no such file; once-for-all's authors publish theirs with its code")
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # a damaged file makes the unpickler raise nearly anything
        reason = next(iter((getattr(error, "strerror", None) or str(error)).splitlines()), type(error).__name__)
        raise FileFormatError(f"{path}: not a torch checkpoint of plain tensors ({reason})") from error
    content = content.get("state_dict", content) if isinstance(content, Mapping) else None
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise FileFormatError(f"{path}: holds no state dict; allowed: names to tensors, alone or under 'state_dict'")
    tensors = {plain_name(name): value.float() for name, value in content.items() if not name.endswith(COUNTER)}
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise FileFormatError(f"{path}: tensor {name} holds NaN or infinity")
    return tensors


def plain_name(name: str) -> str:
    """Return the one spelling of an OFA tensor's name: no doubled ``conv``, ``bn``, ``linear``, no block wrapper."""
    name = re.sub(r"^(blocks\.\d+)\.(?:mobile_inverted_conv|conv)\.", r"\1.", name.removeprefix("module."))
    return re.sub(r"\b(conv|bn|linear)(\.\1)+\.", r"\1.", name)


def ofa_names(supernet: Supernet) -> dict[str, str]:
    """Return OFA's plain name of every tensor of ``supernet``, to ours.

    Raises:
        UsageError: Once-for-all has no networks of its family.
    """
    family = supernet.space.preset.family
    if family not in OFA_SPACES:
        known = ", ".join(OFA_SPACES)
        raise UsageError(
            f"space {supernet.space.name!r} of family {family!r} for once-for-all's networks; allowed: {known}"
        )
    return _resnet_names(supernet) if family == "bottleneck" else _mbconv_names(supernet)


def _mbconv_names(supernet: Supernet) -> dict[str, str]:
    space = supernet.space
    assert isinstance(space, MBConvSpace)
    numbers = {position.name: number for number, position in enumerate(space.block_positions, start=1)}
    ours = [name for name in supernet.state_dict() if not name.endswith(COUNTER)]
    return {_ofa_name(name, space, numbers): name for name in ours}


def _ofa_name(ours: str, space: MBConvSpace, numbers: Mapping[str, int]) -> str:
    part, _, rest = ours.partition(".")
    if part == "stem":
        return f"blocks.0.{_in_block(rest[6:])}" if rest.startswith("block.") else f"first_conv.{rest}"
    if part == "blocks":
        name, _, inside = rest.partition(".")
        return f"blocks.{numbers[name]}.{_in_block(inside)}"
    if rest.startswith("classifier."):
        return f"classifier.linear.{rest.removeprefix('classifier.')}"
    if rest.startswith("mix."):
        return f"feature_mix_layer.conv.{rest.removeprefix('mix.')}"
    return f"{'final_expand_layer' if space.preset.head_mix_width else 'feature_mix_layer'}.{rest}"


def _in_block(ours: str) -> str:
    if ours.startswith("transforms."):
        return f"depth_conv.conv.{ours.removeprefix('transforms.')}{TRANSFORM}"
    part = next(part for part in PARTS if ours.startswith(f"{part}."))
    return PARTS[part] + ours.removeprefix(part)


def _resnet_names(supernet: Supernet) -> dict[str, str]:
    names, blocks = {}, supernet.space.part_names[1:-1]
    for ours in (name for name in supernet.state_dict() if not name.endswith(COUNTER)):
        theirs = ours.removeprefix("largest.")
        for number, block in enumerate(blocks):
            theirs = theirs.replace(f"blocks.{block}.", f"blocks.{number}.")
        for mine, their_part in RESNET_PARTS.items():
            theirs = theirs.replace(f"{mine}.", f"{their_part}.", 1)
        names[plain_name(theirs)] = ours
    return names


def misfits(supernet: nn.Module, names: Mapping[str, str], found: Mapping[str, Tensor]) -> list[str]:
    """Say what keeps ``found`` from being the weights of ``supernet``, whose ``names`` lead from OFA's to ours."""
    own = supernet.state_dict()
    shapes = [
        f"{name} has shape {tuple(found[name].shape)}, allowed {tuple(own[ours].shape)}"
        for name, ours in names.items()
        if name in found and found[name].shape != own[ours].shape
    ]
    return [
        *_listed("missing", (name for name in names if name not in found)),
        *_listed("unexpected", (name for name in found if name not in names)),
        *shapes,
    ]


def _listed(what: str, names: Iterable[str]) -> list[str]:
    return [f"{what} {name}" for name in names]


def _image_info(path: Path, found: Mapping[str, Tensor], classes: Sequence[str] | None) -> ImageInfo:
    """Return what ImageNet's networks are trained on, with as many classes as the classifier has."""
    bias = found.get("classifier.linear.bias")
    if bias is None or bias.ndim != 1:
        raise FileFormatError(f"{path}: missing classifier.linear.bias; allowed: a supernet of once-for-all")
    if classes is not None and len(classes) != len(bias):
        raise FileFormatError(f"{path}: its classifier has {len(bias)} classes, but {len(classes)} are named")
    names = tuple(classes) if classes is not None else tuple(map(str, range(len(bias))))
    return ImageInfo("ImageNet", names, IMAGENET_MEAN, IMAGENET_STD)
