"""The idx format of MNIST's kin: a magic number, the sides, the bytes; plain or gzipped.

Specified at https://yann.lecun.com/exdb/mnist: two zero bytes, a type code (8: unsigned byte), the number of sides,
each side as a big-endian 32-bit integer, then the values, last side fastest. Only unsigned bytes are read here.
"""

import gzip
import struct
import zlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from nas.errors import FileFormatError
from nas.files import read_bytes, write_bytes

_UNSIGNED_BYTE = 8


def read_idx(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8]:
    """Read an idx file of unsigned bytes, which must have ``shape``.

    Raises:
        FileFormatError: The file is absent, is not idx, has another shape, or ends too early or too late.
    """
    data = read_bytes(path)
    if data[:2] == b"\x1f\x8b":
        data = _gunzip(path, data)
    header = 4 + 4 * len(shape)
    magic = bytes((0, 0, _UNSIGNED_BYTE, len(shape)))
    if data[:4] != magic:
        raise FileFormatError(f"{path}: starts with {data[:4].hex()}, not with idx's {magic.hex()}; fetch it again")
    if len(data) < header:
        raise FileFormatError(f"{path}: cut short after {len(data)} bytes, within its header; fetch it again")
    found = struct.unpack(f">{len(shape)}I", data[4:header])
    if found != shape:
        raise FileFormatError(f"{path}: shape {found}; allowed: {shape}")
    count = int(np.prod(shape))
    if len(data) - header != count:
        raise FileFormatError(f"{path}: {len(data) - header} values for shape {shape}, not {count}; fetch it again")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape).copy()


def write_idx(path: Path, array: NDArray[np.uint8]) -> None:
    """Write unsigned bytes as gzipped idx, the same bytes every time."""
    header = bytes((0, 0, _UNSIGNED_BYTE, array.ndim)) + struct.pack(f">{array.ndim}I", *array.shape)
    write_bytes(path, gzip.compress(header + np.ascontiguousarray(array, np.uint8).tobytes(), 9, mtime=0))


def _gunzip(path: Path, data: bytes) -> bytes:
    try:
        return gzip.decompress(data)
    except (EOFError, OSError, zlib.error) as error:
        raise FileFormatError(f"{path}: cannot be unpacked ({error}); fetch it again") from error
