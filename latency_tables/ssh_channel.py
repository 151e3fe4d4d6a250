"""One connection to the runner on the other machine: a request out, one line back, within limits of time and size.

The ssh process is the connection: it lives as long as the channel, and when it goes, so does what it started over
there. Whatever ends it is told in one line with the machine's name and the mend.
"""

import contextlib
import hashlib
import json
import os
import selectors
import subprocess
import time
import weakref
from collections.abc import Mapping
from typing import IO, Any

from latency_tables.ssh_answers import Answer, failure, opened, parsed
from latency_tables.ssh_command import CONNECT_SECONDS, SshHost, runner_source
from nas.errors import DeviceError

START_SECONDS = CONNECT_SECONDS + 75.0  # the slowest board starts Python and imports its runtime in that time
SLOWEST_BYTES = 20_000.0  # a second, of an upload
MAX_LINE = 2**16
MAX_ERRORS = 4096  # bytes of standard error that are kept
CHUNK = 2**16
END_SECONDS = 5.0

REFUSALS = (  # what ssh says: what it means, and the mend
    ("host identification has changed", "its host key is not the one in known_hosts; find out why before you trust it"),
    ("host key verification failed", "its host key is not in known_hosts; enter it once with ssh and compare the key"),
    ("permission denied", "it lets nobody in without a password; set up a key, load it with ssh-add or name its file"),
    ("too many authentication failures", "too many keys were offered; name the file of the right one"),
)


class ConnectionCut(DeviceError):
    """The connection ended, and may come back."""


class Channel:
    """An open connection with the runner at its other end; one thread uses it.

    Args:
        host: The other machine.
        runtime: What runs the models over there.
        threads: How many threads it has.
        options: What else it is told.

    Attributes:
        machine: What it is, as ``ssh_answers.opened`` returns it.

    Raises:
        DeviceError: It cannot be entered, or lacks what the runner needs.
    """

    def __init__(self, host: SshHost, *, runtime: str, threads: int, options: Mapping[str, Any]) -> None:
        self.host, self._number, self._is_open = host, 0, False
        try:
            self._ssh = subprocess.Popen(
                host.command(), env=host.environment(), bufsize=0, start_new_session=True,
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
            )  # fmt: skip
        except FileNotFoundError as error:
            raise DeviceError("ssh is not installed here; install it (apt install openssh-client)") from error
        self.close = weakref.finalize(self, _end, self._ssh)
        self._errors = bytearray()
        request = {"op": "open", "runtime": runtime, "threads": threads, "options": dict(options)}
        answer = self._ask(request, b"", head=runner_source(), limit=START_SECONDS, max_line=MAX_LINE)
        try:
            if problem := failure(answer):
                raise self._unfit(runtime, *problem)
            self.machine = opened(answer)
        except ValueError as error:
            raise self.refused(error) from error
        self._is_open = True

    @property
    def is_closed(self) -> bool:
        """Whether nothing can be asked any more."""
        return not self.close.alive

    def ask(self, request: Mapping[str, Any], data: bytes = b"", *, seconds: float, max_line: int = MAX_LINE) -> Answer:
        """Ask one thing.

        Args:
            request: ``op`` and what belongs to it.
            data: The bytes that go with it.
            seconds: How long the answer may take, besides the upload.
            max_line: How many bytes it may have.

        Returns:
            The answer to it.

        Raises:
            ConnectionCut: The connection ended.
            DeviceError: The answer is late, too long or none.
        """
        return self._ask(request, data, head=b"", limit=seconds, max_line=max_line)

    def refused(self, reason: object) -> DeviceError:
        """Return the error for an answer that is not believed, and close."""
        self._ssh.kill()  # it may have more to say
        self.close()
        return DeviceError(
            f"{self.host.host}: its answer is refused: {reason}; see that nothing over there prints besides the "
            "runner, such as its login"
        )

    def _ask(self, request: Mapping[str, Any], data: bytes, *, head: bytes, limit: float, max_line: int) -> Answer:
        self._number += 1
        size = {"id": self._number, "bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
        message = head + json.dumps({**request, **size}).encode() + b"\n" + data
        start = time.monotonic()
        line = self._exchange(message, limit, max_line, str(request["op"]))
        passed = time.monotonic() - start
        try:
            return Answer(parsed(line, self._number), passed)
        except ValueError as error:
            raise self.refused(error) from error

    def _exchange(self, message: bytes, limit: float, max_line: int, what: str) -> bytes:
        """Send all of ``message`` and return the one line that comes back, in ``limit`` seconds after that."""
        assert self._ssh.stdin and self._ssh.stdout and self._ssh.stderr
        unsent, line, now = memoryview(message), bytearray(), time.monotonic()
        latest = now + limit + len(message) / SLOWEST_BYTES
        until = now + limit
        with selectors.DefaultSelector() as ready:
            ready.register(self._ssh.stdout, selectors.EVENT_READ)
            ready.register(self._ssh.stderr, selectors.EVENT_READ)
            ready.register(self._ssh.stdin, selectors.EVENT_WRITE)
            os.set_blocking(self._ssh.stdin.fileno(), False)
            while unsent or not line.endswith(b"\n"):
                files = [key.fileobj for key, _ in ready.select(max(0.0, until - time.monotonic()))]
                if time.monotonic() >= until:
                    raise self._late(what, limit)
                if self._ssh.stderr in files and not self._keep_errors(self._ssh.stderr):
                    ready.unregister(self._ssh.stderr)
                if self._ssh.stdin in files:
                    unsent = self._send(unsent)
                    until = min(latest, time.monotonic() + limit)
                    if not unsent:
                        ready.unregister(self._ssh.stdin)
                if self._ssh.stdout in files:
                    chunk = os.read(self._ssh.stdout.fileno(), CHUNK)
                    if not chunk:
                        raise self._ended()
                    is_more = line.endswith(b"\n") or b"\n" in chunk[:-1]
                    line += chunk
                    if is_more or len(line) > max_line:
                        reason = f"more than one line, or one of more than {max_line} bytes"
                        raise self.refused(f"{reason}: {bytes(line[:40])!r}")
        return bytes(line)

    def _late(self, what: str, limit: float) -> DeviceError:
        self._ssh.kill()
        self.close()
        return DeviceError(f"{self.host.host}: no answer to {what!r} in {limit:.0f} s; see what it is at")

    def _send(self, unsent: memoryview) -> memoryview:
        assert self._ssh.stdin
        try:
            return unsent[os.write(self._ssh.stdin.fileno(), unsent[:CHUNK]) :]
        except BrokenPipeError:  # standard output ends too, and tells why
            return unsent[len(unsent) :]

    def _keep_errors(self, file: IO[bytes]) -> bool:
        chunk = os.read(file.fileno(), CHUNK)
        self._errors = (self._errors + chunk)[-MAX_ERRORS:]
        return bool(chunk)

    def _ended(self) -> DeviceError:
        """Return why the connection ended."""
        assert self._ssh.stderr
        with contextlib.suppress(subprocess.TimeoutExpired):
            self._ssh.wait(END_SECONDS)
        os.set_blocking(self._ssh.stderr.fileno(), False)
        with contextlib.suppress(BlockingIOError):
            while self._keep_errors(self._ssh.stderr):
                pass
        code, host, python = self._ssh.poll(), self.host.host, self.host.python
        self.close()
        said = self._last_words()
        if self._is_open:  # then it is the runtime over there that said what looks like a refusal
            return ConnectionCut(f"{host}: the connection was cut (ssh: {said}, exit {code})")
        for words, meaning in REFUSALS:
            if code == 255 and words in self._errors.decode(errors="replace").lower():
                return DeviceError(f"{host}: {meaning} (ssh: {said})")
        if code == 255:
            return ConnectionCut(f"{host}: it cannot be reached (ssh: {said}); see that it is on and the name right")
        if code in (126, 127):
            return DeviceError(f"{host}: {python!r} cannot be run there ({said}); name its Python with python = …")
        return DeviceError(f"{host}: {python!r} does not run the runner ({said}, exit {code}); mend that there")

    def _last_words(self) -> str:
        """Return the last line of standard error, printable and short."""
        lines = self._errors.decode(errors="replace").strip().splitlines() or ["nothing said"]
        return "".join(character for character in lines[-1] if character.isprintable())[:200]

    def _unfit(self, runtime: str, kind: str, detail: str) -> DeviceError:
        self.close()
        where = f"{self.host.host}: {self.host.python!r} there"
        if kind == "missing":
            return DeviceError(
                f"{where} lacks {detail}; install it there: {self.host.python} -m pip install {runtime} numpy"
            )
        return DeviceError(f"{where} cannot start {runtime}: {detail}; mend its installation there")


def _end(ssh: "subprocess.Popen[bytes]") -> None:
    """Close the runner's standard input, at which it leaves; make an end of ssh itself if that takes long."""
    with contextlib.suppress(OSError):
        if ssh.stdin:
            ssh.stdin.close()
    try:
        ssh.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        ssh.kill()
        ssh.wait()
    for file in (ssh.stdout, ssh.stderr):
        if file:
            file.close()
