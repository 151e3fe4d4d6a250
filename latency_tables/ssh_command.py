"""How the other machine is called: the system's OpenSSH client, as an argument list that leaves nothing to chance.

The host's key must be in the person's or the machine's ``known_hosts``, or in the one file that is named instead;
nothing is asked for, neither agent, display, ports nor Kerberos tickets are forwarded, and no other connection is
shared. ``OPTIONS`` come before the person's ``~/.ssh/config``, which cannot loosen them, and which names, ports, keys
and jumps come from. What it says of those, such as a ``ProxyCommand``, is executed. OpenSSH 8.5 or newer has all of
them. The one string that a shell over there reads is the bootstrap below, quoted: it reads the runner from its
standard input, checks its hash, and runs it without writing it anywhere.
"""

import hashlib
import json
import os
import re
import shlex
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path

from nas.errors import UsageError

HOST = re.compile(r"(\w[\w.+-]*@)?[A-Za-z0-9:][\w.:%-]*", re.ASCII)
CONNECT_SECONDS = 15
ALIVE_SECONDS, ALIVE_COUNT = 5, 3  # a connection that is silent for so long is cut
OPTIONS = {
    "BatchMode": "yes",
    "StrictHostKeyChecking": "yes",
    "KnownHostsCommand": "none",
    "VerifyHostKeyDNS": "no",
    "NoHostAuthenticationForLocalhost": "no",
    "UpdateHostKeys": "no",
    "ConnectTimeout": str(CONNECT_SECONDS),
    "ServerAliveInterval": str(ALIVE_SECONDS),
    "ServerAliveCountMax": str(ALIVE_COUNT),
    "ClearAllForwardings": "yes",
    "ForwardAgent": "no",
    "ForwardX11": "no",
    "GSSAPIDelegateCredentials": "no",
    "PermitLocalCommand": "no",
    "RemoteCommand": "none",
    "ControlMaster": "no",
    "ControlPath": "none",
    "LogLevel": "ERROR",
}
RUNNER = ("fingerprint", "ssh_runner")  # of this package, in the order in which they are run over there
BOOTSTRAP = (
    "import sys;sys.version_info>=(3,9)or sys.exit('Python 3.9 or newer is needed');"
    "import hashlib,json,types;sys.path[:]=filter(None,sys.path);"
    "s=sys.stdin.buffer.read({size});"
    "hashlib.sha256(s).hexdigest()=='{sha256}'or sys.exit('the runner arrived with another sha256');"
    "f,r=json.loads(s);m=types.ModuleType('latency_tables.fingerprint');sys.modules[m.__name__]=m;"
    "exec(compile(f,'fingerprint.py','exec'),m.__dict__);exec(compile(r,'ssh_runner.py','exec'))"
)


@dataclass(frozen=True)
class SshHost:
    """Where the other machine is and how it is entered.

    Attributes:
        host: As one types it after ``ssh``: ``pi@raspberrypi``, or a name from ``~/.ssh/config``.
        port: None for what ``~/.ssh/config`` says, or 22.
        identity: The file of a private key, None for the agent and the usual files.
        known_hosts: The one file of host keys, None for the person's own and the machine's.
        python: The interpreter over there, which has the runtime.

    Raises:
        UsageError: One of these cannot be one.
    """

    host: str
    port: int | None = None
    identity: Path | None = None
    known_hosts: Path | None = None
    python: str = "python3"

    def __post_init__(self) -> None:
        if not HOST.fullmatch(self.host):
            raise UsageError(f"host {self.host!r} is none; allowed: as after `ssh`, such as pi@raspberrypi")
        if self.port is not None and not 0 < self.port < 2**16:
            raise UsageError(f"port {self.port} of {self.host}; allowed: 1 to 65535")
        if not self.python or not self.python.isprintable():
            raise UsageError(f"python {self.python!r} of {self.host} is none; name the interpreter over there")
        for name, path in self._paths().items():
            if not path.is_file():
                raise UsageError(f"{name} {path} of {self.host} is not a file; name one, or leave it out")

    def command(self) -> list[str]:
        """Return the arguments that start the bootstrap over there."""
        options = [argument for name, value in OPTIONS.items() for argument in ("-o", f"{name}={value}")]
        # Paths go through the environment: ssh splits and expands what stands in an option, but not a variable's value.
        options += [argument for name in self._paths() for argument in ("-o", f"{name}=${{{_variable(name)}}}")]
        options += ["-o", "IdentitiesOnly=yes"] if self.identity else []
        options += ["-o", "GlobalKnownHostsFile=none"] if self.known_hosts else []
        options += ["-p", str(self.port)] if self.port else []
        return ["ssh", "-T", *options, "--", self.host, self._remote()]

    def environment(self) -> dict[str, str]:
        """Return the environment that ``command`` needs."""
        paths = {_variable(name): str(path.absolute()) for name, path in self._paths().items()}
        return {**os.environ, **paths}

    def _paths(self) -> dict[str, Path]:
        paths = {"IdentityFile": self.identity, "UserKnownHostsFile": self.known_hosts}
        return {name: Path(os.path.expanduser(path)) for name, path in paths.items() if path is not None}

    def _remote(self) -> str:
        source = runner_source()
        code = BOOTSTRAP.format(size=len(source), sha256=hashlib.sha256(source).hexdigest())
        python = self.python.removeprefix("~/")  # commands start in the home folder, and a quoted ~ is not expanded
        return f"exec {shlex.quote(f'./{python}' if python != self.python else python)} -c {shlex.quote(code)}"


@cache
def runner_source() -> bytes:
    """Return what is sent before the first request: the sources of ``RUNNER``, as JSON."""
    return json.dumps([files(__package__).joinpath(f"{name}.py").read_text() for name in RUNNER]).encode()


def _variable(option: str) -> str:
    return f"HWNAS_SSH_{option.upper()}"
