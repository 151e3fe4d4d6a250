"""A folder that is whole or absent: filled under another name first, then moved to its place."""

import contextlib
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path

from nas.errors import NasError, OutputError
from nas.files import check_new_folder


@contextlib.contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """Yield a temporary folder, and make it ``path`` when the block ends without an error.

    It is made at once, so that what takes minutes need not find out at its end that it cannot write. It lies beside
    ``path``, or inside where ``path`` is an empty folder already: that stays the folder it is, a link, a mount point or
    where the shell stands. After an error nothing is left, also of the parents that were made.

    Raises:
        UsageError: ``path`` exists and is not an empty folder.
        OutputError: It cannot be written, or somebody else took its place; the message then says where the content is.
    """
    place = Path(os.path.realpath(check_new_folder(path)))
    home = place if place.is_dir() else place.parent
    temporary = home / f".{place.name}.{secrets.token_hex(6)}.part"
    with contextlib.ExitStack() as undo:
        undo.callback(_remove_empty, [folder for folder in (home, *home.parents) if not folder.exists()])
        try:
            temporary.mkdir(parents=True)
        except OSError as error:
            raise OutputError(f"output {path} cannot be written ({error.strerror}); name another with --out") from error
        undo.callback(shutil.rmtree, temporary, ignore_errors=True)
        yield temporary
        undo.pop_all()
    try:
        _move(temporary, place)
    except (OSError, NasError) as error:
        reason = getattr(error, "strerror", None) or error
        raise OutputError(f"output {path} is not to be had any more ({reason}); all of it is in {temporary}") from error


def _move(temporary: Path, place: Path) -> None:
    """Make ``temporary`` the folder ``place``, or move its content there where it lies inside."""
    if temporary.parent != place:
        os.replace(temporary, check_new_folder(place))
        return
    if others := [child.name for child in place.iterdir() if child != temporary]:
        raise OutputError(f"it holds {others[0]}")
    for child in temporary.iterdir():
        child.rename(place / child.name)
    temporary.rmdir()


def _remove_empty(folders: Sequence[Path]) -> None:
    for folder in folders:
        with contextlib.suppress(OSError):  # somebody else has put something there
            folder.rmdir()
