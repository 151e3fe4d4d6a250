"""Headless Chromium on a leash: started with an empty profile, spoken with over a pipe, gone when this process is.

With ``--remote-debugging-pipe`` Chromium reads commands of the DevTools protocol from descriptor 3 and answers on 4.
When the pipe closes, also because this process was killed, it ends by itself; the shell that started it then removes
its profile.
"""

import contextlib
import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from typing import Any

from latency_tables.browser.pipe import Pipe
from nas.errors import DeviceError

VARIABLE = "HWNAS_CHROMIUM"
PROGRAMS = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
FLAGS = (
    "--headless", "--remote-debugging-pipe", "--no-first-run", "--disable-gpu", "--disable-quic", "--disable-sync",
    "--disable-extensions", "--disable-background-networking", "--disable-component-update", "--disable-dev-shm-usage",
    "--disable-breakpad", "--mute-audio", "--host-resolver-rules=MAP * ~NOTFOUND, EXCLUDE 127.0.0.1",
)  # fmt: skip
SOCKET = "/org.chromium.Chromium.XXXXXX/SingletonSocket"  # that it makes in TMPDIR
MOST_SOCKET = 103  # characters of a socket's path, on Linux 107
LAUNCHER = 'profile=$1; shift; "$@" 3<&0 4>&1 </dev/null >/dev/null; rm -rf -- "$profile"'
START_SECONDS, END_SECONDS, POLL_SECONDS = 60.0, 10.0, 0.02


def find_chromium() -> str:
    """Return the program: ``$HWNAS_CHROMIUM``, else the first of ``PROGRAMS`` that is on the path.

    Raises:
        DeviceError: There is none; the message says what to install.
    """
    override = os.environ.get(VARIABLE)
    for name in [override] if override else PROGRAMS:
        if program := shutil.which(name):
            return program
    sought = f"${VARIABLE} is {override!r}, which is no program" if override else f"sought: {', '.join(PROGRAMS)}"
    raise DeviceError(
        f"device 'browser': no Chromium was found ({sought}); install it (Debian: apt-get install chromium), "
        f"or set ${VARIABLE} to its program"
    )


class Chromium:
    """One browser with one page. Several threads may use it, one after the other.

    Args:
        program: What to start.
        url: What the page shows.

    Raises:
        DeviceError: It does not start, or the page does not load.
    """

    def __init__(self, program: str, url: str) -> None:
        self._lock = threading.RLock()
        self._program, self._last_id, self._session = program, 0, ""
        self._profile = _make_profile()
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (closed by close)
        sandbox = ["--no-sandbox"] if os.geteuid() == 0 else []  # Chromium's sandbox refuses to run as root
        command = [program, *FLAGS, *sandbox, f"--user-data-dir={self._profile}", "about:blank"]
        self._process = subprocess.Popen(
            ["/bin/sh", "-c", LAUNCHER, "sh", self._profile, *command],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors,
            env={**os.environ, "TMPDIR": self._profile},
            start_new_session=True,  # an interrupt from the keyboard is ours to handle
        )  # fmt: skip
        assert self._process.stdin is not None and self._process.stdout is not None
        self._pipe = Pipe(self._process.stdout, self._process.stdin)
        self.closed = False
        try:
            self.version = str(self.call("Browser.getVersion", seconds=START_SECONDS).get("product", "unknown"))
            self._show(url)
        except RuntimeError as error:
            raise self._failed(f"shows no page: {error}") from error
        except BaseException:
            self.close()
            raise

    def evaluate(self, expression: str, *, seconds: float) -> Any:
        """Evaluate JavaScript in the page and return its value, of which a promise is awaited, as JSON.

        Args:
            expression: The script.
            seconds: How long it may take; then the browser is closed.

        Raises:
            RuntimeError: The script threw, or the browser refuses it; one line, untrusted.
            DeviceError: The browser ended, crashed or took too long.
        """
        script = {"expression": expression, "awaitPromise": True, "returnByValue": True}
        reply = self.call("Runtime.evaluate", script, seconds=seconds)
        if (thrown := reply.get("exceptionDetails")) is not None:
            exception = thrown.get("exception", {})
            raise RuntimeError(_one_line(exception.get("description") or exception.get("value") or thrown.get("text")))
        return reply.get("result", {}).get("value")

    def call(self, method: str, params: dict[str, Any] | None = None, *, seconds: float) -> dict[str, Any]:
        """Send one command of the DevTools protocol and return its result; raises as ``evaluate`` does."""
        with self._lock:
            if self.closed:
                raise DeviceError("device 'browser': its browser is closed; load the model again")
            self._last_id += 1
            command = {"id": self._last_id, "method": method, "params": params or {}}
            if self._session:
                command["sessionId"] = self._session
            try:
                self._pipe.send(command)
                reply = self._reply(self._last_id, time.monotonic() + seconds)
            except TimeoutError as error:
                raise self._failed(f"did not answer in {seconds:g} s") from error
            except OSError as error:
                raise self._failed(f"ended; it wrote: {self._last_words()}") from error
            except ValueError as error:
                raise self._failed(f"speaks no DevTools ({_one_line(error)})") from error
        result = reply.get("result")
        if not isinstance(result, dict):
            raise RuntimeError(_one_line(reply.get("error")))
        return result

    @property
    def pid(self) -> int:
        """The process that started the browser; its session has no other members than that and the browser's own."""
        return self._process.pid

    def close(self) -> None:
        """End the browser, by force where it does not end by itself, and remove its profile."""
        with self._lock:
            if self.closed:
                return
            self.closed = True
            self._pipe.close()
            try:
                self._process.wait(END_SECONDS)
            except subprocess.TimeoutExpired:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(self._process.pid, signal.SIGKILL)
                self._process.wait()
            self._errors.close()
            shutil.rmtree(self._profile, ignore_errors=True)

    def _show(self, url: str) -> None:
        """Open a page and wait until it is there."""
        target = self.call("Target.createTarget", {"url": url}, seconds=START_SECONDS)["targetId"]
        attach = {"targetId": target, "flatten": True}
        self._session = self.call("Target.attachToTarget", attach, seconds=START_SECONDS)["sessionId"]
        self.call("Inspector.enable", seconds=START_SECONDS)  # tells of a crash
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            with contextlib.suppress(RuntimeError):  # while the empty page gives way to this one
                if self.evaluate("document.readyState + location.href", seconds=START_SECONDS) == f"complete{url}":
                    return
            time.sleep(POLL_SECONDS)
        raise self._failed(f"did not show its page in {START_SECONDS:g} s")

    def _reply(self, number: int, deadline: float) -> dict[str, Any]:
        """Return the reply to one command; what else the browser has to say is dropped, but for a crash."""
        while True:
            message = self._pipe.receive(deadline)
            if message.get("id") == number:
                return message
            if message.get("method") == "Inspector.targetCrashed":
                raise self._failed("lost its page, which crashed (a page that runs out of memory does)")

    def _last_words(self) -> str:
        """Return the last line that the browser wrote to its standard error."""
        self._errors.seek(0)
        return _one_line(self._errors.read().decode(errors="replace").strip().rpartition("\n")[2])

    def _failed(self, what: str) -> DeviceError:
        """Close the browser and return the error."""
        self.close()
        return DeviceError(f"device 'browser': {self._program} {what}")


def _make_profile() -> str:
    """Make an empty folder whose path leaves room for a socket in it: Chromium aborts where there is none."""
    profile = tempfile.mkdtemp(prefix="hwnas-browser-")
    if len(profile + SOCKET) <= MOST_SOCKET:
        return profile
    os.rmdir(profile)
    return tempfile.mkdtemp(prefix="hwnas-browser-", dir="/tmp")


def _one_line(text: Any) -> str:
    """Return the first line of untrusted text, of bounded length and without control characters."""
    lines = str(text if text is not None else "").strip().splitlines()
    return "".join(character for character in (lines[0] if lines else "nothing") if character.isprintable())[:300]
