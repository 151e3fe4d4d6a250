"""Where onnxruntime-web is: an npm package that a person installs; nothing of it ships with this one."""

import json
import os
from dataclasses import dataclass
from pathlib import Path

from nas.errors import DeviceError, FileFormatError
from nas.files import cache_dir, is_file, read_bytes

NAME = "onnxruntime-web"
VARIABLE = "HWNAS_ORT_WEB"
LIBRARY, GLUE, BINARY = "ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm"
FILES = (LIBRARY, GLUE, BINARY)
"""What the page loads, of the package's ``dist``: the WebAssembly build alone, with SIMD and threads."""


@dataclass(frozen=True)
class OrtWeb:
    """An installed onnxruntime-web.

    Attributes:
        folder: The package's ``dist``.
        version: As its ``package.json`` has it.
    """

    folder: Path
    version: str


def find_package() -> OrtWeb:
    """Find the npm package: in ``$HWNAS_ORT_WEB``, else in ``./node_modules``, else in the cache.

    Raises:
        DeviceError: It is nowhere, or not whole; the message has the line that installs it.
    """
    override, installed = os.environ.get(VARIABLE), cache_dir() / "npm"
    places = [Path(override)] if override else [Path("node_modules", NAME), installed / "node_modules" / NAME]
    install = f"npm install --prefix {installed} {NAME}"
    for place in places:
        if is_file(place / "package.json"):
            return _opened(place, install)
    sought = " and ".join(str(place) for place in places)
    unset = f", with ${VARIABLE} unset" if override else f", or set ${VARIABLE} to its folder"
    raise DeviceError(f"device 'browser': the npm package {NAME} is not in {sought}; install it: {install}{unset}")


def _opened(place: Path, install: str) -> OrtWeb:
    try:
        manifest = json.loads(read_bytes(place / "package.json"))
        if not isinstance(manifest, dict) or manifest.get("name") != NAME:
            raise ValueError(f"its package.json is not of {NAME}")
        missing = [name for name in FILES if not is_file(place / "dist" / name)]
        if missing:
            raise ValueError(f"its dist lacks {', '.join(missing)}")
        return OrtWeb(place.resolve() / "dist", str(manifest.get("version", "unknown")))
    except (ValueError, FileFormatError) as error:
        raise DeviceError(f"device 'browser': {place} cannot be used ({error}); install it again: {install}") from error
