"""A network by its name: timm's, torchvision's, or what a function of one's own builds; its weights from a file.

``nas prune`` and ``nas quantize`` take any of these. A weights file may hold a pruned network: layers take the widths
of its tensors (``nas.compression.widths``), so what ``nas prune`` wrote is loaded by the name it was made from.
"""

import difflib
import hashlib
import importlib
import importlib.util
import inspect
import sys
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.parameter import is_lazy

from nas.compression.widths import load_widths
from nas.errors import FileFormatError, NasError, UsageError
from nas.files import is_file

RANDOM = "random"
"""As ``weights``: none, the network as it is initialised (seed 0)."""

_IMAGENET_MEAN, _IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_RESOLUTION = 224
_INCEPTIONS = {"googlenet": ("aux1", "aux2"), "inception_v3": ("AuxLogits",)}
"""Networks of torchvision with heads of which only a training from nothing has a use; they are left out."""
_NESTED = ("state_dict", "model", "model_state_dict")  # where checkpoints of training scripts keep the weights
_FORMS = (
    "a name of timm or torchvision (timm:NAME and torchvision:NAME say which), module:function or file.py:function "
    "that builds one"
)


@dataclass(frozen=True, eq=False)
class LoadedModel:
    """A network that was found, and the images it takes.

    Attributes:
        network: In evaluation mode.
        name: As it was asked for.
        channels: Of its images.
        resolution: Height and width in pixels that it was made for; None where nothing says.
        mean: Per channel, of images in [0, 1], that it expects to be subtracted; None: those of its data.
        std: Per channel, likewise.
    """

    network: nn.Module
    name: str
    channels: int
    resolution: int | None = None
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None


def load_model(name: str, *, weights: str | Path | None = None, classes: int | None = None) -> LoadedModel:
    """Return the network of that name.

    Args:
        name: Of timm or torchvision (``timm:`` or ``torchvision:`` before it where both have it; else timm's), or
            ``module:function``, or ``file.py:function``, called with ``classes`` if it takes that.
        weights: A file: safetensors, or a state dict of torch (read without pickle's code). ``RANDOM``: none. None:
            the published ones, downloaded, or those that the function gave its network.
        classes: Outputs of a classifier; None leaves the network's own number.

    Raises:
        UsageError: No such network, or its weights cannot be had, or the published ones are of another number of
            classes; the message lists what may be named.
        FileFormatError: The file does not hold the weights of this network.
    """
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        found = _find(name, published=weights is None, classes=classes)
    if weights not in (None, RANDOM):
        path = Path(str(weights))
        load_widths(found.network, read_weights(path), path)
    found.network.eval()
    return found


def read_weights(path: Path) -> dict[str, Tensor]:
    """Read a state dict from a file of safetensors or of torch, without executing anything of it.

    Raises:
        UsageError: There is no such file.
        FileFormatError: It holds no state dict.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    if not is_file(path):
        raise UsageError(f"weights {path}: no such file; allowed: safetensors, a state dict of torch, or {RANDOM!r}")
    try:
        if path.suffix == ".safetensors":
            return dict(load_file(path))
        content = torch.load(path, map_location="cpu", weights_only=True)
    except (SafetensorError, OSError, RuntimeError, ValueError, EOFError) as error:
        raise _not_weights(path, _first_line(error)) from error
    except Exception as error:  # of pickle, which is not imported here
        raise _not_weights(path, f"more than tensors is in it: {_first_line(error)}") from error
    for key in _NESTED:
        if isinstance(content, dict) and isinstance(content.get(key), dict):
            content = content[key]
    tensors = isinstance(content, dict) and all(isinstance(value, Tensor) for value in content.values())
    if not tensors or not content:
        raise _not_weights(path, f"it holds a {type(content).__name__}, not names and tensors")
    return {str(key).removeprefix("module."): value for key, value in content.items()}


def _not_weights(path: Path, reason: str) -> FileFormatError:
    return FileFormatError(f"{path}: not a file of weights ({reason}); allowed: safetensors, or a state dict of torch")


def _find(name: str, *, published: bool, classes: int | None) -> LoadedModel:
    origin, colon, rest = name.partition(":")
    if colon and origin not in _ORIGINS:
        return _from_function(name, classes)
    for known, (find, _) in _ORIGINS.items():
        if origin in (known, name):
            loaded = find(rest if colon else name, published, classes)
            if loaded is not None:
                return replace(loaded, name=name)
    wanted = rest if colon else name
    names = [other for known, (_, names) in _ORIGINS.items() if origin in (known, name) for other in names()]
    near = dict.fromkeys(difflib.get_close_matches(wanted, names, n=3))
    hint = f" Did you mean {' or '.join(near)}?" if near else ""
    raise UsageError(f"unknown model {name!r}; allowed: {_FORMS}.{hint}")


def _from_timm(name: str, published: bool, classes: int | None) -> LoadedModel | None:
    import timm
    from timm.data import resolve_model_data_config

    if not timm.is_model(name):
        return None
    options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
    if published and (config := timm.get_pretrained_cfg(name)) is not None:
        _check_classes(name, config.num_classes, classes)
    try:
        network = timm.create_model(name, pretrained=published, **options)
    except (OSError, RuntimeError) as error:
        raise _not_published(name, error) from error
    images = resolve_model_data_config(network)
    channels, resolution, _ = images["input_size"]
    return LoadedModel(network, name, channels, resolution, tuple(images["mean"]), tuple(images["std"]))


def _from_torchvision(name: str, published: bool, classes: int | None) -> LoadedModel | None:
    from torchvision import models

    if name not in _torchvision_names():
        return None
    best = models.get_model_weights(name).DEFAULT
    if published:
        _check_classes(name, len(best.meta["categories"]), classes)
        try:
            network: nn.Module = models.get_model(name, weights=best, progress=False)
        except (OSError, RuntimeError) as error:
            raise _not_published(name, error) from error
    else:
        options: dict[str, Any] = {} if classes is None else {"num_classes": classes}
        if name in _INCEPTIONS:  # their inputs as the published ones take them
            options |= {"transform_input": True, "init_weights": True}
        network = models.get_model(name, weights=None, **options)
    for head in _INCEPTIONS.get(name, ()):
        setattr(network, head, None)
    if name in _INCEPTIONS:
        network.aux_logits = False  # type: ignore[assignment]
    crop = getattr(best.transforms(), "crop_size", [_RESOLUTION])
    return LoadedModel(network, name, 3, crop[0], _IMAGENET_MEAN, _IMAGENET_STD)


def _check_classes(name: str, known: int, classes: int | None) -> None:
    """Refuse published weights whose head is of no use: an untrained one has nothing that could be kept."""
    if classes not in (None, known):
        raise UsageError(
            f"the published weights of {name} tell {known} classes apart, and the data have {classes}; train it on "
            f"these data and give the file with --weights, or {RANDOM!r}"
        )


def _from_function(name: str, classes: int | None) -> LoadedModel:
    """Call ``module:function`` or ``file.py:function``."""
    place, _, function = name.rpartition(":")
    try:
        build = getattr(_module(place), function)
        takes = inspect.signature(build).parameters
        network = build(**({"classes": classes} if classes is not None and "classes" in takes else {}))
    except NasError:
        raise
    except Exception as error:  # whatever a function of somebody else's raises
        raise UsageError(f"model {name}: {type(error).__name__}: {_first_line(error)}; allowed: {_FORMS}") from error
    if not isinstance(network, nn.Module):
        raise UsageError(f"model {name}: it returned a {type(network).__name__}; allowed: a torch.nn.Module")
    if any(is_lazy(one) for one in (*network.parameters(), *network.buffers())):
        raise UsageError(f"model {name}: it has lazy layers without a size; run it once in the function")
    first = next((layer for layer in network.modules() if isinstance(layer, nn.Conv2d)), None)
    return LoadedModel(network, name, 3 if first is None else first.in_channels)


def _module(place: str) -> Any:
    if not place.endswith(".py"):
        return importlib.import_module(place)
    if not is_file(place):
        raise UsageError(f"model: no file {place}; allowed: {_FORMS}")
    path = Path(place).resolve()
    title = f"_model_{hashlib.sha256(str(path).encode()).hexdigest()[:12]}_{path.stem}"  # timm.py shall not hide timm
    spec = importlib.util.spec_from_file_location(title, place)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[title] = module  # where dataclasses and the like look for it
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[title]
        raise
    return module


def _not_published(name: str, error: Exception) -> UsageError:
    return UsageError(
        f"the published weights of {name} cannot be had ({_first_line(error)}); give a file with --weights, or "
        f"{RANDOM!r}"
    )


def _first_line(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return lines[0].rstrip(".") if lines else type(error).__name__


def _timm_names() -> list[str]:
    import timm

    return list(timm.list_models())


def _torchvision_names() -> list[str]:
    from torchvision import models

    return list(models.list_models(module=models))


_Find = Callable[[str, bool, int | None], LoadedModel | None]
_ORIGINS: dict[str, tuple[_Find, Callable[[], list[str]]]] = {
    "timm": (_from_timm, _timm_names),
    "torchvision": (_from_torchvision, _torchvision_names),
}
