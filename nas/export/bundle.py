"""A bundle: one verified network in a folder, with everything needed to run it, rebuild it and check it.

    model.onnx           the file that was timed and whose accuracy was counted; float images (N, c, r, r) to logits
    weights.safetensors  the same network in fp32, as plain torch
    subnet.json          candidate, preset and images: what the weights belong to and how images are normalised
    report.json          predicted and measured figures, the device, and the SHA-256 of the other three

``load_bundle`` believes nothing: every file must be a regular file of the folder with the recorded hash, the candidate
must be of the preset, and the model may not refer to data outside itself.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import onnx
import torch
from onnx import ModelProto, TensorProto

from nas.compression import Session
from nas.errors import FileFormatError, NasError
from nas.export.folder import new_folder
from nas.files import is_folder, read_bytes, read_json, read_tensors, sha256, write_bytes, write_json, write_tensors
from search_spaces import Candidate, Preset, make_space, preset_from_dict
from supernets import ImageInfo, Subnet, make_subnet
from supernets.weights import load_tensors

MODEL, WEIGHTS, SUBNET, REPORT = "model.onnx", "weights.safetensors", "subnet.json", "report.json"
HASHED = (MODEL, WEIGHTS, SUBNET)
WEIGHTS_SCHEMA = ("subnet-weights", 1)
SUBNET_SCHEMA = ("subnet", 1)
REPORT_SCHEMA = ("bundle-report", 1)


@dataclass(frozen=True, eq=False)
class Bundle:
    """A bundle that was opened and checked.

    Attributes:
        path: Its folder.
        candidate: The network.
        preset: The choices of its space.
        images: Class names and normalisation of the images it is for.
        report: What ``report.json`` says, without its schema and hashes.
        onnx_model: The serialised ONNX model.
        weights: The fp32 weights, by name.
    """

    path: Path
    candidate: Candidate
    preset: Preset
    images: ImageInfo
    report: Mapping[str, Any] = field(repr=False)
    onnx_model: bytes = field(repr=False)
    weights: Mapping[str, torch.Tensor] = field(repr=False)

    @property
    def device_name(self) -> str:
        """The device that it was made for, by its name there.

        Raises:
            FileFormatError: The report does not say.
        """
        device = self.report.get("device")
        name = device.get("name") if isinstance(device, dict) else None
        if not isinstance(name, str):
            raise FileFormatError(f"{self.path / REPORT}: it has no device's name")
        return name

    def model(self) -> Subnet:
        """Return the network as plain torch in fp32, in evaluation mode."""
        subnet = _empty_subnet(self.preset, self.candidate, self.images)
        load_tensors(subnet, dict(self.weights), self.path / WEIGHTS)
        return subnet.eval()

    def session(self, device: str | Path = "cpu") -> Session:
        """Return a session of the exported model, as ``device`` (a name or a profile) is timed.

        It is called as onnxruntime's are: ``session.run(None, {"input": images})`` returns ``[logits]``.

        Raises:
            UsageError: No such device.
            DeviceError: It is not here, or its runtime refuses the model.
        """
        from latency_tables import get_device

        return get_device(device).session(self.onnx_model)


def save_bundle(
    path: str | Path,
    *,
    subnet: Subnet,
    preset: Preset,
    images: ImageInfo,
    model: ModelProto,
    report: Mapping[str, Any],
) -> Path:
    """Write a bundle into the new folder ``path``, whole or not at all.

    Args:
        path: The folder; it must be absent or empty.
        subnet: The network in fp32, batch norms recalibrated.
        preset: The choices of its space.
        images: The images it is for.
        model: The exported graph: the very one that was measured.
        report: JSON; what ``Bundle.report`` returns.

    Returns:
        The folder.

    Raises:
        UsageError: The folder exists and is not empty.
    """
    with new_folder(Path(path)) as folder:
        write_bytes(folder / MODEL, model.SerializeToString())
        write_tensors(folder / WEIGHTS, subnet.state_dict(), *WEIGHTS_SCHEMA, {"candidate": subnet.candidate.id})
        content = {"candidate": subnet.candidate.to_dict(), "preset": preset.to_dict(), "images": asdict(images)}
        write_json(folder / SUBNET, *SUBNET_SCHEMA, content)
        files = {name: sha256(folder / name) for name in HASHED}
        sealed = {"files": files, "report": dict(report)}
        write_json(folder / REPORT, *REPORT_SCHEMA, {**sealed, "sha256": _digest(sealed)})
    return Path(path)


def load_bundle(path: str | Path) -> Bundle:
    """Open a bundle and check all of it.

    Raises:
        FileFormatError: A file is missing, damaged or does not fit the others; the message names it.
    """
    folder = Path(path)
    if not is_folder(folder):
        raise FileFormatError(f"{folder}: no bundle there; allowed: a folder that holds {', '.join((*HASHED, REPORT))}")
    for name in (REPORT, *HASHED):
        if (folder / name).is_symlink():
            raise FileFormatError(f"{folder / name}: a link; allowed: a regular file of the bundle")
    report = _read_report(folder)
    candidate, preset, images = _read_subnet(folder / SUBNET)
    weights, _ = read_tensors(folder / WEIGHTS, *WEIGHTS_SCHEMA)
    load_tensors(_empty_subnet(preset, candidate, images), weights, folder / WEIGHTS)
    model = read_bytes(folder / MODEL)
    _check_model(folder / MODEL, model, candidate, images)
    return Bundle(folder, candidate, preset, images, report, model, weights)


def _read_report(folder: Path) -> dict[str, Any]:
    """Return the report, after checking its own hash and that of the files beside it."""
    path = folder / REPORT
    content = read_json(path, *REPORT_SCHEMA)
    files, report = content.get("files"), content.get("report")
    if not isinstance(files, dict) or not isinstance(report, dict) or set(files) != set(HASHED):
        raise FileFormatError(f"{path}: it lacks the report or the hashes of {', '.join(HASHED)}")
    if content.get("sha256") != _digest({"files": files, "report": report}):
        raise FileFormatError(f"{path}: its content has not the recorded sha256; the file is damaged, fetch it again")
    for name in HASHED:
        found = sha256(folder / name)
        if found != files[name]:
            raise FileFormatError(
                f"{folder / name}: sha256 {found[:12]}… is not {str(files[name])[:12]}… as {REPORT} records; "
                "the file is damaged, fetch it again"
            )
    return report


def _read_subnet(path: Path) -> tuple[Candidate, Preset, ImageInfo]:
    content = read_json(path, *SUBNET_SCHEMA)
    try:
        candidate = Candidate.from_dict(content["candidate"])
        preset = preset_from_dict(content["preset"], str(path))
        fields = content["images"]
        images = ImageInfo(fields["dataset"], *(tuple(fields[key]) for key in ("classes", "mean", "std")))
        space = make_space(preset, sorted(set(candidate.precisions)))
        space.genes(candidate)
    except (KeyError, TypeError, AttributeError) as error:
        raise FileFormatError(f"{path}: it does not describe a network ({type(error).__name__}: {error})") from error
    except NasError as error:
        raise FileFormatError(f"{path}: {error}") from error
    return candidate, preset, images


def _empty_subnet(preset: Preset, candidate: Candidate, images: ImageInfo) -> Subnet:
    space = make_space(preset, sorted(set(candidate.precisions)))
    return make_subnet(space, candidate, channels=images.channels, classes=len(images.classes))


def _check_model(path: Path, model: bytes, candidate: Candidate, images: ImageInfo) -> None:
    try:
        graph = onnx.load_model_from_string(model).graph
        given = [[axis.dim_value for axis in slot.type.tensor_type.shape.dim] for slot in graph.input]
    except Exception as error:  # protobuf's decoding error is private to it
        raise FileFormatError(f"{path}: not an ONNX model ({type(error).__name__})") from error
    if any(tensor.data_location == TensorProto.EXTERNAL for tensor in graph.initializer):
        raise FileFormatError(f"{path}: it keeps weights in another file; allowed: weights inside the model")
    expected = [images.channels, candidate.resolution, candidate.resolution]
    if len(given) != 1 or given[0][1:] != expected:
        raise FileFormatError(f"{path}: its inputs are {given}; allowed: one of (N, {', '.join(map(str, expected))})")


def _digest(content: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(content, sort_keys=True, allow_nan=False).encode()).hexdigest()
