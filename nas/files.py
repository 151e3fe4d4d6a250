"""Files that are whole or absent: atomic writes, and readers that refuse what does not fit.

What grows for minutes is appended to instead, in whole synced lines, one that was cut short dropped.

Weights are safetensors; everything else is JSON, TOML, CSV or npz without pickle. JSON and safetensors files carry
``schema`` (what the file is) and ``schema_version`` (an integer); both are checked when read. Equal content gives equal
bytes.
"""

import contextlib
import csv
import hashlib
import io
import json
import math
import os
import stat
import zipfile
import zlib
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

from nas.errors import FileFormatError, UsageError
from nas.writing import append_lines as append_lines
from nas.writing import atomic_path as atomic_path

if TYPE_CHECKING:
    from numpy.typing import NDArray

MAX_BYTES = 2**30  # of a file that is read whole; none of ours comes near


def write_bytes(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path`` atomically."""
    with atomic_path(path) as temporary:
        temporary.write_bytes(data)


def write_json(path: Path, schema: str, schema_version: int, content: Mapping[str, Any]) -> None:
    """Write ``content`` as JSON headed by its schema, atomically; NaN and infinity are refused."""
    if reserved := {"schema", "schema_version"} & content.keys():
        raise ValueError(f"content must not hold {sorted(reserved)}: they are the head of the file")
    document = {"schema": schema, "schema_version": schema_version, **content}
    write_bytes(path, (json.dumps(document, indent=1, allow_nan=False) + "\n").encode())


def read_json(path: Path, schema: str, schema_version: int) -> dict[str, Any]:
    """Read a JSON file written by ``write_json``.

    Raises:
        FileFormatError: The file is missing, is not JSON, holds a number that is not finite, or is of another schema
            or version.
    """
    try:
        document = parse_json(read_bytes(path))
    except (ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: not a JSON file ({error})") from error
    return _check_schema(path, document, schema, schema_version)


def parse_json(text: str | bytes) -> Any:
    """Parse JSON whose numbers are finite; ValueError or RecursionError where it is not that."""

    def finite(literal: str) -> float:
        number = float(literal)
        return number if math.isfinite(number) else refuse(literal)

    def refuse(literal: str) -> NoReturn:
        raise ValueError(f"{literal[:20]} is not a finite number")

    return json.loads(text, parse_float=finite, parse_constant=refuse)


def _check_schema(path: Path, document: Any, schema: str, schema_version: int) -> dict[str, Any]:
    content = document if isinstance(document, dict) else {}
    found = (content.get("schema"), content.get("schema_version"))
    if found != (schema, schema_version):
        raise FileFormatError(
            f"{path}: schema {found[0]!r} version {found[1]!r}; allowed: {schema!r} version {schema_version}"
        )
    return content


def read_bytes(path: Path) -> bytes:
    """Read a whole file.

    Raises:
        FileFormatError: It is missing, not a regular file (a pipe or device would never end), or above ``MAX_BYTES``.
    """
    with _open(path) as file:
        size = os.fstat(file.fileno()).st_size
        if size > MAX_BYTES:
            raise FileFormatError(f"{path}: {size} bytes; allowed: at most {MAX_BYTES}")
        return file.read()


@contextlib.contextmanager
def _open(path: Path) -> Iterator[io.BufferedReader]:
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise FileFormatError(f"{path}: cannot be read (not a regular file)")
        with open(path, "rb") as file:
            yield file
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        raise FileFormatError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error})") from error


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    with _open(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_arrays(path: Path, names: Sequence[str]) -> "dict[str, NDArray[Any]]":
    """Read the arrays of these names from an npz file, without pickle.

    Raises:
        FileFormatError: The file is missing or damaged, or lacks one of them.
    """
    import numpy as np

    data = io.BytesIO(read_bytes(path))
    try:
        with np.load(data, allow_pickle=False) as archive:
            return {name: archive[name] for name in names}
    except (OSError, ValueError, TypeError, KeyError, EOFError, zipfile.BadZipFile, zlib.error) as error:
        reason = " ".join(str(error).split())
        raise FileFormatError(
            f"{path}: not a readable npz file ({reason}); fetch it or install the package again"
        ) from error


def write_csv(path: Path, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    """Write a CSV file with a header line, atomically; None becomes an empty field."""
    table = [[str(field) if field is not None else "" for field in row] for row in (columns, *rows)]
    if any(len(row) != len(columns) for row in table):
        raise ValueError(f"every row must have {len(columns)} fields: {list(columns)}")
    if any(character in field for row in table for field in row for character in "\r\n"):
        raise ValueError("a field must not hold a line end")
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(table)
    write_bytes(path, text.getvalue().encode())


def read_csv(path: Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """Read a CSV file whose header holds exactly ``columns``, as one dictionary a row.

    Raises:
        FileFormatError: The file is missing, has other columns, or is cut short; the message says which.
    """
    try:
        text = read_bytes(path).decode()
        reader = csv.reader(io.StringIO(text), strict=True)
        header = next(reader, [])
        if header != list(columns):
            raise FileFormatError(f"{path}: columns {header}; allowed: {list(columns)}")
        rows = [(reader.line_num, row) for row in reader]
    except (UnicodeDecodeError, csv.Error) as error:
        raise FileFormatError(f"{path}: not a CSV file ({error})") from error
    for number, row in rows:
        if len(row) != len(columns):
            raise FileFormatError(f"{path}: line {number} has {len(row)} fields; allowed: {len(columns)}")
    if not text.endswith("\n"):
        raise FileFormatError(f"{path}: cut short, its last line has no end; fetch or make it again")
    return [dict(zip(columns, row, strict=True)) for _, row in rows]


def write_tensors(
    path: Path, tensors: Mapping[str, Any], schema: str, schema_version: int, info: Mapping[str, Any]
) -> None:
    """Write torch tensors as safetensors, atomically.

    The header's one entry, ``hwnas``, is JSON: ``schema``, ``schema_version``, ``info`` and ``sha256``, the hash of all
    the rest. (One entry, because safetensors writes several in a random order.)
    """
    from safetensors.torch import save

    copies = {name: tensor.detach().cpu().clone().contiguous() for name, tensor in tensors.items()}
    header: dict[str, Any] = {"schema": schema, "schema_version": schema_version, "info": info}
    header["sha256"] = _tensor_hash(header, copies)
    text = json.dumps(header, sort_keys=True, allow_nan=False)
    write_bytes(path, save(copies, metadata={"hwnas": text}))


def read_tensors(path: Path, schema: str, schema_version: int) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read what ``write_tensors`` wrote: the tensors and the info.

    Raises:
        FileFormatError: The file is missing, damaged, of another schema, or not of the recorded hash.
    """
    from safetensors import SafetensorError, safe_open

    with _open(path):
        pass  # says what is wrong with the path; safe_open opens it anew
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            header = _check_schema(path, parse_json(metadata.get("hwnas", "null")), schema, schema_version)
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (safe_open is no mapping)
    except (SafetensorError, OSError, ValueError, RecursionError) as error:
        raise FileFormatError(f"{path}: not a readable safetensors file ({error})") from error
    recorded, info = header.pop("sha256", None), header.get("info")
    if not isinstance(info, dict) or _tensor_hash(header, tensors) != recorded:
        raise FileFormatError(f"{path}: its content has not the recorded sha256; it is damaged, fetch it again")
    return tensors, info


def _tensor_hash(header: Mapping[str, Any], tensors: Mapping[str, Any]) -> str:
    import torch

    digest = hashlib.sha256(json.dumps(header, sort_keys=True, allow_nan=False).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy())
    return digest.hexdigest()


def exists(path: str | Path) -> bool:
    """Tell whether there is anything at ``path``, links followed.

    Raises:
        UsageError: The system will not say, such as of a name that is too long or in a folder that is closed.
    """
    return _mode(path) is not None


def is_file(path: str | Path) -> bool:
    """Tell whether ``path`` is a regular file; raises as ``exists`` does."""
    mode = _mode(path)
    return mode is not None and stat.S_ISREG(mode)


def is_folder(path: str | Path) -> bool:
    """Tell whether ``path`` is a folder; raises as ``exists`` does."""
    mode = _mode(path)
    return mode is not None and stat.S_ISDIR(mode)


def _mode(path: str | Path) -> int | None:
    try:
        return os.stat(path).st_mode
    except (FileNotFoundError, NotADirectoryError):
        return None
    except (OSError, ValueError) as error:  # ValueError: a null byte in the path
        reason = getattr(error, "strerror", None) or error
        raise UsageError(f"{path}: cannot be looked at ({reason}); mend it or name another place") from error


def cache_dir() -> Path:
    """Return the folder for calibrations: ``$HWNAS_CACHE``, else ``hwnas`` in the user's cache directory.

    Raises:
        UsageError: It is in the home folder of somebody whom the system does not know.
    """
    override, base = os.environ.get("HWNAS_CACHE"), os.environ.get("XDG_CACHE_HOME", "")
    try:
        if override:
            return Path(override).expanduser()
        return (Path(base) if os.path.isabs(base) else Path.home() / ".cache") / "hwnas"
    except RuntimeError as error:
        place = f"$HWNAS_CACHE is {override}" if override else "$HWNAS_CACHE is not set"
        raise UsageError(f"{place}, and that home folder is not known; set it to a folder") from error


def check_new_folder(path: Path) -> Path:
    """Return ``path`` if it is absent or an empty folder; raise ``UsageError`` otherwise."""
    path = Path(path)
    try:
        free = not (exists(path) or os.path.islink(path)) or (path.is_dir() and not any(path.iterdir()))
    except OSError as error:
        raise UsageError(f"output {path} cannot be used ({error.strerror}); name another with --out") from error
    if not free:
        raise UsageError(f"output {path} exists and is not an empty folder; name another with --out")
    return path
