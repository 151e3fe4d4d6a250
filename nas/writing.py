"""Writes that a kill or a full disk cannot spoil: whole files moved into place, and files that grow by whole lines."""

import contextlib
import glob
import os
import secrets
import stat
import time
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import BinaryIO

from nas.errors import OutputError

STALE_SECONDS = 3600.0  # a temporary file that old is of a write that was killed


@contextlib.contextmanager
def atomic_path(path: Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path``; move it there, synced, when the block ends without an error.

    The file has the permissions that ``open(path, "w")`` would leave it with, and a link is written through. Temporary
    files that writes of ``path`` left when they were killed, an hour ago or earlier, are removed.

    Raises:
        OutputError: The system refuses a write, here or in the block; nothing is left behind.
    """
    target = Path(os.path.realpath(path))
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(6)}.part")
    try:
        with writing(path):
            if target.exists() and not target.is_file():
                raise OSError(None, "not a regular file")
            target.parent.mkdir(parents=True, exist_ok=True)
            _remove_stale(target)
            os.close(os.open(temporary, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o666))  # the kernel applies the umask
            mode = stat.S_IMODE((target if target.exists() else temporary).stat().st_mode)
            yield temporary
            _sync(temporary)
            temporary.chmod(mode)
            temporary.replace(target)
            _sync(target.parent)
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()


def _remove_stale(target: Path) -> None:
    for left in target.parent.glob(f".{glob.escape(target.name)}.{'?' * 12}.part"):
        with contextlib.suppress(OSError):  # its writer lives and has just moved it, or another removes it too
            if time.time() - left.stat().st_mtime > STALE_SECONDS:
                left.unlink()


@contextlib.contextmanager
def writing(path: Path) -> Iterator[None]:
    """Run a block that writes ``path``.

    Raises:
        OutputError: The system refuses; the message names ``path`` and the system's reason.
    """
    try:
        yield
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}); mend it or name another place"
        ) from error


def _sync(path: Path) -> None:
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def append_lines(path: Path, header: str, lines: Iterable[str]) -> None:
    """Append lines to a text file that only grows, and sync it; what was there stays.

    A file that is new or empty begins with ``header``. A last line that the end of a process or a full disk cut short
    is dropped first, also where there is nothing to append. One process at a time.

    Args:
        path: The file; missing folders are made.
        header: Its first line.
        lines: Without their line ends.

    Raises:
        OutputError: The system refuses; the lines are then there in part, and whole ones stay.
    """
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "ab+") as file:
            kept = _whole_lines(file)
            file.truncate(kept)
            file.write("".join(f"{line}\n" for line in ([] if kept else [header]) + list(lines)).encode())
            file.flush()
            os.fsync(file.fileno())
        if not kept:
            _sync(path.parent)


def _whole_lines(file: BinaryIO) -> int:
    """Return how many bytes of a file are whole lines; the position is lost."""
    size = file.seek(0, os.SEEK_END)
    file.seek(max(0, size - 1))
    if file.read() in (b"", b"\n"):
        return size
    file.seek(0)
    return file.read().rfind(b"\n") + 1
