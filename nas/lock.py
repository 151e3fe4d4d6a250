"""One process at a time: a lock file that its holder's death releases."""

import fcntl
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.errors import NasError
from nas.writing import writing

POLL_SECONDS = 0.2
MOST_DIGITS = 20  # of a process


@contextmanager
def exclusive(
    path: Path,
    busy: str,
    error: type[NasError],
    *,
    wait_seconds: float = 0.0,
    note: Callable[[str], None] | None = None,
) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs; the system releases it however the process ends.

    Args:
        path: Made if it is not there, and left behind: removing it would let two in. A folder is locked itself, which
            needs no right to write in it, and does not say who holds it.
        busy: What another holder is at, such as ``device 'cpu' is being measured``.
        error: What to raise then.
        wait_seconds: How long to wait for the other holder before that.
        note: Told, once, that there is something to wait for.

    Raises:
        NasError: Another process holds it; of type ``error``, and the message names that process where it can.
        OutputError: The lock file cannot be written.
    """
    is_folder = path.is_dir()
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_RDONLY if is_folder else os.O_RDWR | os.O_CREAT, 0o666)
    try:
        until, told = time.monotonic() + wait_seconds, False
        while not _taken(path, file, is_folder):
            holder = "" if is_folder else os.pread(file, MOST_DIGITS, 0).decode().strip()
            held = f"{busy} by process {holder or 'unknown'}"
            if time.monotonic() >= until:
                raise error(f"{held}; wait for it to end, then run this again")
            if note is not None and not told:
                note(f"{held}; waiting for it to end, for {wait_seconds:.0f} s at most")
                told = True
            time.sleep(POLL_SECONDS)
        yield
    finally:
        os.close(file)


def _taken(path: Path, file: int, is_folder: bool) -> bool:
    """Take the lock if it is free, and write down who holds it."""
    with writing(path):
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        if not is_folder:
            os.ftruncate(file, 0)
            os.pwrite(file, str(os.getpid()).encode(), 0)
    return True
