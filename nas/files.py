"""Files that are whole or absent: atomic writes, and readers that refuse what does not fit.

Weights are safetensors; everything else is JSON, TOML, CSV or npz without pickle. JSON files carry ``schema`` (what the
file is) and ``schema_version`` (an integer); both are checked when read.
"""

import contextlib
import csv
import hashlib
import io
import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import FileFormatError, UsageError


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there, synced, when the block ends without an error."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o666 & ~_umask())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, schema: str, schema_version: int, content: Mapping[str, Any]) -> None:
    """Write ``content`` as JSON headed by its schema, atomically; NaN and infinity are refused."""
    document = {"schema": schema, "schema_version": schema_version, **content}
    write_bytes(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path, schema: str, schema_version: int) -> dict[str, Any]:
    """Read a JSON file written by ``write_json``.

    Raises:
        FileFormatError: The file is missing, is not JSON, or is of another schema or version.
    """
    try:
        document = json.loads(read_bytes(path))
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as error:
        raise FileFormatError(f"{path}: not a JSON file ({error})") from error
    found = (document.get("schema"), document.get("schema_version")) if isinstance(document, dict) else (None, None)
    if found != (schema, schema_version):
        raise FileFormatError(
            f"{path}: schema {found[0]!r} version {found[1]!r}; allowed: {schema!r} version {schema_version}"
        )
    return dict(document)


def read_bytes(path: Path) -> bytes:
    """Read a whole file, or raise ``FileFormatError`` naming it."""
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise FileFormatError(f"{path}: cannot be read ({error.strerror})") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    return hashlib.sha256(read_bytes(path)).hexdigest()


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file with a header line, atomically."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(columns)
    writer.writerows(rows)
    write_bytes(path, text.getvalue().encode())


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file whose header holds exactly ``columns``, as one dictionary a row.

    Raises:
        FileFormatError: The file is missing, has other columns, or a row is cut short; the message says which.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_bytes(path).decode()), strict=True)
        if reader.fieldnames is None or list(reader.fieldnames) != list(columns):
            raise FileFormatError(f"{path}: columns {reader.fieldnames}; allowed: {list(columns)}")
        rows = list(reader)
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path}: not a CSV file ({error})") from error
    for number, row in enumerate(rows, start=2):
        if None in row or None in row.values():
            raise FileFormatError(f"{path}: line {number} has not {len(columns)} fields")
    return rows


def write_tensors(path: Path, tensors: Mapping[str, Any], schema: str, schema_version: int, info: Mapping[str, Any]) -> None:
    """Write torch tensors as safetensors, atomically, with ``info`` (JSON) and a hash of their bytes in the header."""
    from safetensors.torch import save_file

    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header = {
        "schema": schema,
        "schema_version": str(schema_version),
        "info": json.dumps(info, sort_keys=True, allow_nan=False),
        "sha256": _tensor_hash(contiguous),
    }
    with atomic_path(path) as temporary:
        save_file(contiguous, temporary, metadata=header)


def read_tensors(path: Path, schema: str, schema_version: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what ``write_tensors`` wrote: the tensors and the info.

    Raises:
        FileFormatError: The file is missing, damaged, of another schema, or its bytes do not have the recorded hash.
    """
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="pt") as file:
            header = file.metadata() or {}
            found = (header.get("schema"), header.get("schema_version"))
            if found != (schema, str(schema_version)):
                raise FileFormatError(
                    f"{path}: schema {found[0]!r} version {found[1]!r}; allowed: {schema!r} version {schema_version}"
                )
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
            info = json.loads(header.get("info", ""))
    except (SafetensorError, OSError, json.JSONDecodeError) as error:
        raise FileFormatError(f"{path}: not a readable safetensors file ({error})") from error
    if _tensor_hash(tensors) != header.get("sha256"):
        raise FileFormatError(f"{path}: sha256 of its tensors is not the recorded one; the file is damaged, fetch it again")
    return tensors, dict(info)


def _tensor_hash(tensors: Mapping[str, Any]) -> str:
    digest = hashlib.sha256()
    for name in sorted(tensors):
        array = np.ascontiguousarray(tensors[name].numpy())
        digest.update(f"{name} {array.dtype} {array.shape}".encode())
        digest.update(array.tobytes())
    return digest.hexdigest()


def cache_dir() -> Path:
    """Return the folder for calibrations: ``$HWNAS_CACHE``, else ``hwnas`` in the user's cache directory."""
    override = os.environ.get("HWNAS_CACHE")
    if override:
        return Path(override)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hwnas"


def check_new_folder(path: Path) -> Path:
    """Return ``path`` if it is absent or an empty folder; raise ``UsageError`` otherwise."""
    path = Path(path)
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        raise UsageError(f"output {path} exists and is not an empty folder; name another with --out")
    return path
