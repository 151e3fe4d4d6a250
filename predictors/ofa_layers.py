"""The layers of a perceptron that once-for-all released, from a torch file or an ``.npz`` with the same arrays.

Two spellings are out: ``0.weight``, ``2.weight`` … and ``layers.0.0.weight``, ``layers.1.0.weight`` …, the latter with
``base_acc`` in the place of the last bias. In an ``.npz`` the dots may be underscores.
"""

import re
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.errors import FileFormatError
from nas.files import read_bytes
from supernets.ofa import read_checkpoint

Layer = tuple[NDArray[np.float32], NDArray[np.float32]]

BASE = "base_acc"
NAME = re.compile(r"(?:layers[._])?(\d+)(?:[._]0)?[._](weight|bias)")


def read_layers(path: Path) -> list[Layer]:
    """Return the layers in order: weight ``(out, in)`` and bias ``(out,)``; the last has one output.

    Raises:
        FileFormatError: The file is missing or damaged, or holds no such perceptron.
    """
    arrays = _arrays(path)
    numbered: dict[int, dict[str, NDArray[np.float32]]] = {}
    for name, array in arrays.items():
        match = NAME.fullmatch(name)
        if match is None and name != BASE:
            raise FileFormatError(f"{path}: array {name} is of no accuracy predictor; allowed: {NAME.pattern}, {BASE}")
        if match is not None:
            numbered.setdefault(int(match[1]), {})[match[2]] = array
    layers = [numbered[number] for number in sorted(numbered)]
    if layers and BASE in arrays:
        layers[-1].setdefault("bias", arrays[BASE])
    if not layers or any(set(layer) != {"weight", "bias"} for layer in layers):
        raise FileFormatError(f"{path}: not every layer has a weight and a bias; allowed: a released perceptron")
    found = [(layer["weight"], layer["bias"]) for layer in layers]
    _check(path, found)
    return found


def is_predictor(path: Path) -> bool:
    """Return whether a file's names are those of an accuracy predictor rather than of a supernet.

    Raises:
        FileFormatError: The file cannot be read.
    """
    return all(NAME.fullmatch(name) or name == BASE for name in _arrays(path))


def _arrays(path: Path) -> Mapping[str, NDArray[np.float32]]:
    if path.suffix != ".npz":
        return {name: tensor.numpy() for name, tensor in read_checkpoint(path).items()}
    read_bytes(path)  # says what is wrong with the path
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: np.asarray(file[name], np.float32) for name in file.files}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile) as error:
        raise FileFormatError(f"{path}: not an npz file of plain arrays ({error})") from error
    for name, array in arrays.items():
        if not np.isfinite(array).all():
            raise FileFormatError(f"{path}: array {name} holds NaN or infinity")
    return arrays


def _check(path: Path, layers: list[Layer]) -> None:
    width = layers[0][0].shape[-1]
    for number, (weight, bias) in enumerate(layers):
        last = number == len(layers) - 1
        if weight.ndim != 2 or weight.shape[1] != width or bias.shape != weight.shape[:1] or (last and len(bias) != 1):
            raise FileFormatError(
                f"{path}: layer {number} has shapes {weight.shape} and {bias.shape}; allowed: (out, {width}) and (out,)"
                f"{', out 1 in the last' if last else ''}"
            )
        width = len(weight)
