"""One process at a time: a lock file that its holder's death releases."""

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from nas.errors import NasError


@contextmanager
def exclusive(path: Path, busy: str, error: type[NasError]) -> Iterator[None]:
    """Hold the lock file ``path`` while the block runs; the system releases it however the process ends.

    Args:
        path: Made if it is not there, and left behind: removing it would let two in.
        busy: What another holder is at, such as ``device 'cpu' is being measured``.
        error: What to raise then.

    Raises:
        NasError: Another process holds it; of type ``error``, and the message names that process.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with open(path, "a+", encoding="utf-8") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as held:
            file.seek(0)
            holder = file.read().strip() or "unknown"
            raise error(f"{busy} by process {holder}; wait for it to end, then run this again") from held
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield
