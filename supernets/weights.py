"""A supernet as a file: safetensors whose header says which space, images and training the weights belong to."""

import hashlib
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from nas.errors import FileFormatError, UsageError
from nas.files import is_folder, read_tensors, write_tensors
from nas.registry import unknown_name
from search_spaces import get_space, make_space, preset_from_dict
from supernets.families import make_supernet
from supernets.supernet import ImageInfo, Supernet

SCHEMA, SCHEMA_VERSION = "supernet", 1
FILE_NAME = "supernet.safetensors"
CLASSIFIER = "head.classifier."  # in the names of tensors that belong to the classes
PRETRAINED = Path(__file__).parent / "pretrained"


def list_supernets() -> list[str]:
    """Return the names of the supernets that ship with trained weights."""
    return sorted(path.parent.name for path in PRETRAINED.glob(f"*/{FILE_NAME}"))


def supernet_folder(name: str | Path) -> Path:
    """Return the folder of a shipped supernet, or of a path to a supernet's file or folder.

    Raises:
        UsageError: It is neither; the message lists the shipped ones.
    """
    path = Path(name)
    if str(name) in list_supernets():
        return PRETRAINED / str(name)
    if path.suffix == ".safetensors":
        return path.parent
    if is_folder(path):
        return path
    raise unknown_name(
        "supernet", str(name), [*list_supernets(), "a folder that `nas train` or `nas import-ofa` wrote"]
    )


def get_supernet(name: str | Path, pretrained: bool = True) -> Supernet:
    """Return a supernet in evaluation mode.

    Args:
        name: A shipped supernet, or the folder or file that ``nas train`` wrote; without ``pretrained``, a space.
        pretrained: Whether to load weights; otherwise they are random (seed 0) and the classes are numbered.

    Raises:
        UsageError: Nothing has that name.
        FileFormatError: The file is damaged or does not fit its preset.
    """
    if pretrained:
        path = Path(name)
        return load_supernet(path if path.suffix == ".safetensors" else supernet_folder(name) / FILE_NAME)
    space = get_space(name)
    preset = space.preset
    classes = tuple(str(number) for number in range(preset.classes))
    images = ImageInfo("none", classes, (0.5,) * preset.channels, (0.5,) * preset.channels)
    return make_supernet(space, images).eval()


def save_supernet(supernet: Supernet, path: Path, training: dict[str, Any]) -> None:
    """Write a supernet; ``training`` (JSON) says how it was trained."""
    info = {"preset": supernet.space.preset.to_dict(), "images": asdict(supernet.info), "training": training}
    write_tensors(path, supernet.state_dict(), SCHEMA, SCHEMA_VERSION, info)


def load_supernet(path: Path) -> Supernet:
    """Read a supernet that ``save_supernet`` wrote.

    Raises:
        FileFormatError: The file is missing, damaged, or its tensors do not fit its preset.
    """
    tensors, info = read_tensors(path, SCHEMA, SCHEMA_VERSION)
    try:
        images = ImageInfo(
            info["images"]["dataset"], *(tuple(info["images"][name]) for name in ("classes", "mean", "std"))
        )
        supernet = make_supernet(make_space(preset_from_dict(info["preset"], str(path))), images)
    except (KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{path}: its header does not describe a supernet ({error})") from error
    load_tensors(supernet, tensors, path)
    return supernet.eval()


def take_trained(supernet: Supernet, trained: Supernet) -> None:
    """Copy the weights of another supernet of the same space; those of the classifier only if its classes are the same.

    Raises:
        UsageError: It is of another space, or for images of other channels; the message names the first tensor.
    """
    own, found = supernet.state_dict(), trained.state_dict()
    if trained.info.classes != supernet.info.classes:
        found = {name: tensor for name, tensor in found.items() if CLASSIFIER not in name}
    for name in own:
        if name not in found and CLASSIFIER not in name:
            raise UsageError(f"begin with a supernet of space {trained.space.name}: it has no {name}")
        if name in found and found[name].shape != own[name].shape:
            raise UsageError(
                f"begin with a supernet of space {trained.space.name}: its {name} has shape "
                f"{tuple(found[name].shape)}; allowed: {tuple(own[name].shape)}, as of space {supernet.space.name}"
            )
    supernet.load_state_dict(own | found)


def weights_digest(module: torch.nn.Module) -> str:
    """Return twelve hexadecimal digits that change whenever a tensor of ``module`` does."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()[:12]


def load_tensors(module: torch.nn.Module, tensors: dict[str, torch.Tensor], path: Path) -> None:
    """Load ``tensors`` into ``module``.

    Raises:
        FileFormatError: A tensor is missing, unknown, of the wrong shape or not finite; the message names it.
    """
    expected = module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        if name not in tensors or name not in expected:
            raise FileFormatError(f"{path}: tensor {name} is {'missing' if name in expected else 'unknown'}")
        if tensors[name].shape != expected[name].shape:
            raise FileFormatError(
                f"{path}: tensor {name} has shape {tuple(tensors[name].shape)}; allowed: {tuple(expected[name].shape)}"
            )
        if not torch.isfinite(tensors[name]).all():
            raise FileFormatError(f"{path}: tensor {name} holds NaN or infinity")
    module.load_state_dict(tensors)
