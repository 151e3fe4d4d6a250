"""A folder that is whole or absent: filled under another name beside its place, then moved there."""

import contextlib
import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

from nas.errors import OutputError
from nas.files import check_new_folder


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder beside ``path``; move it to ``path`` when the block ends without an error.

    Raises:
        UsageError: ``path`` exists and is not an empty folder.
        OutputError: Its parent cannot be written.
    """
    path = check_new_folder(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = Path(tempfile.mkdtemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part"))
    except OSError as error:
        raise OutputError(f"output {path} cannot be written ({error.strerror}); name another with --out") from error
    try:
        yield temporary
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o777 & ~umask)
        os.replace(temporary, check_new_folder(path))
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
