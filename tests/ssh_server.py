"""An OpenSSH server on loopback with keys of its own, for the tests of the ``ssh`` runtime."""

import atexit
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from getpass import getuser
from pathlib import Path
from typing import Any

import pytest

from latency_tables.ssh import SshDevice
from latency_tables.ssh_command import SshHost

SSHD = shutil.which("sshd", path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")
MARK = "HWNAS_TEST_MARK"
CONFIG = """
ListenAddress 127.0.0.1
Port {port}
HostKey {folder}/host_key
AuthorizedKeysFile {folder}/user_key.pub
PidFile none
StrictModes no
UsePAM no
PasswordAuthentication no
KbdInteractiveAuthentication no
SetEnv {mark}={token} TMPDIR={folder}/tmp OMP_NUM_THREADS=1
"""


@dataclass(frozen=True)
class SshServer:
    """A running server; ``folder`` holds its keys, and ``tmp`` in it is where its guests keep temporary files."""

    folder: Path
    port: int
    token: str
    pid: int

    def host(self, **others: Any) -> SshHost:
        """Return how this machine is entered through the server, but for ``others``."""
        host = SshHost(
            host=f"{getuser()}@127.0.0.1",
            port=self.port,
            identity=self.folder / "user_key",
            known_hosts=self.folder / "known_hosts",
            python=sys.executable,
        )
        return replace(host, **others)

    def device(self, name: str = "ssh", *, inner: str = "onnxruntime", threads: int = 1, **others: Any) -> SshDevice:
        """Return this machine as a device, entered through the server."""
        return SshDevice(name, self.host(**others), inner=inner, threads=threads)

    def python(self, name: str, script: str) -> str:
        """Write an executable in the place of the interpreter over there; return its path."""
        path = self.folder / name
        path.write_text(script)
        path.chmod(0o700)
        return str(path)

    def guests(self) -> list[int]:
        """Return the processes that were started through the server."""
        mark, found = f"{MARK}={self.token}".encode(), []
        for path in Path("/proc").glob("[0-9]*/environ"):
            try:
                if mark in path.read_bytes().split(b"\0"):
                    found.append(int(path.parent.name))
            except OSError:
                continue
        return found

    def temporary(self) -> list[str]:
        """Return what its guests left in their folder for temporary files."""
        return sorted(path.name for path in (self.folder / "tmp").glob("hwnas-*"))

    def cut(self) -> None:
        """Kill the processes that serve connections, as if a cable were pulled."""
        children = Path(f"/proc/{self.pid}/task/{self.pid}/children").read_text().split()
        for child in children:
            os.kill(int(child), signal.SIGKILL)

    def is_left(self) -> bool:
        """Return whether, within some seconds, no process and no file of a guest is there any more."""
        return eventually(lambda: not self.guests() and not self.temporary())


def eventually(condition: Callable[[], bool], seconds: float = 20.0) -> bool:
    """Return whether ``condition`` came true in time."""
    until = time.monotonic() + seconds
    while not condition() and time.monotonic() < until:
        time.sleep(0.05)
    return condition()


def new_key(path: Path) -> str:
    """Make a key pair without a pass phrase; return the public one without its comment."""
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "test", "-f", str(path)], check=True)
    return " ".join(path.with_suffix(".pub").read_text().split()[:2])


@cache
def shared_server() -> SshServer:
    """Return a server that runs until the tests end."""
    stack = ExitStack()
    atexit.register(stack.close)
    return stack.enter_context(running_server())


@contextmanager
def running_server() -> Iterator[SshServer]:
    """Run a server while the block runs."""
    if SSHD is None or shutil.which("ssh") is None or not Path("/proc/self/environ").exists():
        pytest.skip("no OpenSSH server and client here")
    if os.getuid() == 0:
        os.makedirs("/run/sshd", exist_ok=True)  # where root's server locks its unprivileged part up
    folder = Path(tempfile.mkdtemp(prefix="hwnas-sshd-"))
    (folder / "tmp").mkdir()
    host_key = new_key(folder / "host_key")
    new_key(folder / "user_key")
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    (folder / "known_hosts").write_text(f"[127.0.0.1]:{port} {host_key}\n")
    token = secrets.token_hex(8)
    (folder / "config").write_text(CONFIG.format(port=port, folder=folder, mark=MARK, token=token))
    with open(folder / "log", "wb") as log:
        process = subprocess.Popen([SSHD, "-D", "-e", "-f", str(folder / "config")], stderr=log)
    try:
        listening = eventually(lambda: b"listening" in (folder / "log").read_bytes())
        assert listening, (folder / "log").read_text()
        yield SshServer(folder, port, token, process.pid)
    finally:
        process.terminate()
        process.wait()
        shutil.rmtree(folder)
