"""A PostgreSQL of a test's own: a temporary cluster on a unix socket, of a user who is not root."""

import contextlib
import getpass
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


def binaries() -> Path | None:
    """Return the folder of ``initdb`` and ``postgres``; None where there is none."""
    found = shutil.which("initdb")
    places = [Path(found).parent] if found else sorted(Path("/usr/lib/postgresql").glob("*/bin"))
    return places[-1] if places else None


@contextlib.contextmanager
def postgres() -> Iterator[str]:
    """Yield the URL of an empty database, and stop its server after the block; skip where there is no PostgreSQL."""
    pytest.importorskip("psycopg")
    folder = binaries()
    if folder is None:
        pytest.skip("PostgreSQL is not installed")
    user = "postgres" if os.geteuid() == 0 else getpass.getuser()  # it refuses to run as root
    with tempfile.TemporaryDirectory(prefix="hwnas-pg-") as home:
        if os.geteuid() == 0:
            shutil.chown(home, user)
        owner = {"user": user, "cwd": home, "check": True, "stdout": subprocess.DEVNULL, "timeout": 60}
        if os.geteuid() != 0:
            del owner["user"]
        data = f"{home}/data"
        subprocess.run([folder / "initdb", "-D", data, "-U", "nas", "-A", "trust", "--no-sync"], **owner)
        options = f"-F -k {home} -c listen_addresses="
        subprocess.run([folder / "pg_ctl", "-D", data, "-w", "-l", f"{home}/log", "-o", options, "start"], **owner)
        try:
            yield f"postgresql://nas@/postgres?host={home}"
        finally:
            subprocess.run([folder / "pg_ctl", "-D", data, "-w", "-m", "immediate", "stop"], **owner)
