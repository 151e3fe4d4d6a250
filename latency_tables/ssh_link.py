"""A link to another machine that outlives its connections: one that is cut is opened again, a few times."""

import itertools
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from latency_tables.ssh_answers import Answer, failure, loaded, locked
from latency_tables.ssh_channel import MAX_LINE, Channel, ConnectionCut
from latency_tables.ssh_command import SshHost
from latency_tables.ssh_runner import MAX_DATA
from nas.errors import DeviceError

T = TypeVar("T")

PAUSES = (1.0, 3.0, 10.0)  # seconds before a connection that was cut is tried again
ANSWER_SECONDS = 300.0
WARM_AGAIN = 10  # inferences of a model that was loaded again
LOCK_SECONDS = 1.0  # between two tries to have the other machine alone


class SshLink:
    """The runner on another machine, asked one thing at a time, from any thread.

    Args:
        host: The other machine.
        runtime: What runs the models over there.
        threads: Threads that an inference may use.
        options: What else the runtime is told.

    Attributes:
        machine: What is over there, as ``ssh_answers.opened`` returns it.

    Raises:
        DeviceError: The machine cannot be entered, or lacks what the runner needs.
    """

    def __init__(self, host: SshHost, *, runtime: str, threads: int, options: Mapping[str, Any]) -> None:
        self.host, self._runtime, self._threads, self._options = host, runtime, threads, options
        self._one_at_a_time = threading.RLock()
        self._keys = itertools.count()
        self._unused: list[str] = []
        self._wait_seconds: float | None = None  # for the lock of the other machine; None while it is not held
        self._channel: Channel | None = self._connected()
        self.machine = self._channel.machine
        self.runner = f"{runtime} {self.machine['runtime_version']} on {host.host}"

    def ask(
        self,
        request: Mapping[str, Any],
        check: Callable[[Answer], T],
        *,
        data: bytes = b"",
        model: "FarModel | None" = None,
        max_line: int = MAX_LINE,
    ) -> T:
        """Ask one thing and return what ``check`` makes of the answer.

        Args:
            request: ``op`` and what belongs to it.
            check: Looks at the answer, as those of ``ssh_answers`` do.
            data: The bytes that go with the request.
            model: What it is about; loaded again over there if the connection was cut meanwhile.
            max_line: How many bytes the answer may have.

        Raises:
            DeviceError: It failed over there, the answer is refused, or the connection was cut too often.
        """

        def attempt(channel: Channel) -> T:
            if model is not None and model.channel is not channel:
                self._upload(channel, model, warm=WARM_AGAIN)
            about = {} if model is None else {"key": model.key}
            return self._answered(channel, {**request, **about}, check, data=data, max_line=max_line)

        return self._retrying(attempt)

    def loaded(self, content: bytes) -> "FarModel":
        """Load a serialised ONNX model over there."""
        if len(content) > MAX_DATA:
            raise DeviceError(f"model: {len(content)} bytes; allowed over ssh: {MAX_DATA}")
        model = FarModel(str(next(self._keys)), content)
        weakref.finalize(model, self._unused.append, model.key)
        self._retrying(lambda channel: self._upload(channel, model, warm=0))
        return model

    def lock(self, wait_seconds: float, note: Callable[[str], None] | None) -> None:
        """Have the other machine alone, also over later connections, until ``unlock``.

        Raises:
            DeviceError: Somebody else measures it for longer than ``wait_seconds``.
        """
        self._retrying(lambda channel: self._take(channel, wait_seconds, note))
        self._wait_seconds = wait_seconds

    def unlock(self) -> None:
        """Let others have the other machine."""
        self._wait_seconds = None
        if self._channel is not None:  # a connection that was cut holds nothing
            self.ask({"op": "unlock"}, locked)

    def close(self) -> None:
        """Leave the other machine, where nothing stays behind; what is asked later enters it again."""
        if self._channel is not None:
            self._channel.close()
        self._channel = None

    def _retrying(self, attempt: Callable[[Channel], T]) -> T:
        with self._one_at_a_time:
            for pause in (*PAUSES, None):
                try:
                    self._channel = self._channel or self._again()
                    return attempt(self._channel)
                except ConnectionCut as cut:
                    self.close()
                    if pause is None:
                        raise DeviceError(
                            f"{cut}; {len(PAUSES)} tries before this one ended alike; see that the machine stays up "
                            "and has memory enough, then run this again"
                        ) from cut
                    time.sleep(pause)
                except DeviceError:
                    if self._channel is not None and self._channel.is_closed:
                        self._channel = None  # its answer was late or refused
                    raise
                except BaseException:  # an interrupt leaves an answer that nobody waits for
                    self.close()
                    raise
        raise AssertionError("the last attempt returns or raises")

    def _connected(self) -> Channel:
        return Channel(self.host, runtime=self._runtime, threads=self._threads, options=self._options)

    def _again(self) -> Channel:
        """Enter the machine again, see that it is the same one, and have it alone if it was had alone."""
        channel = self._connected()
        if channel.machine != self.machine:
            channel.close()
            raise DeviceError(f"{self.host.host}: another machine or runtime answers than before; run this again")
        if self._wait_seconds is not None:
            self._take(channel, self._wait_seconds, None)
        return channel

    def _take(self, channel: Channel, wait_seconds: float, note: Callable[[str], None] | None) -> None:
        until, busy = time.monotonic() + wait_seconds, f"{self.host.host} is being measured from elsewhere"
        while not self._answered(channel, {"op": "lock"}, locked):
            if time.monotonic() >= until:
                raise DeviceError(f"{busy}; wait for it to end, then run this again")
            if note is not None:
                note(f"{busy}; waiting for it to end, for {wait_seconds:.0f} s at most")
                note = None
            time.sleep(LOCK_SECONDS)

    def _upload(self, channel: Channel, model: "FarModel", *, warm: int) -> None:
        """Load a model over there, and drop those that nobody here has any more."""
        unused = [self._unused.pop() for _ in range(len(self._unused))]
        request = {"op": "load", "key": model.key, "drop": unused, "warm": warm}
        self._answered(channel, request, lambda answer: loaded(answer, key=model.key), data=model.content)
        model.channel = channel

    def _answered(
        self,
        channel: Channel,
        request: Mapping[str, Any],
        check: Callable[[Answer], T],
        *,
        data: bytes = b"",
        max_line: int = MAX_LINE,
    ) -> T:
        answer = channel.ask(request, data, seconds=ANSWER_SECONDS, max_line=max_line)
        try:
            if problem := failure(answer):
                raise DeviceError(f"model: {self.runner} cannot {request['op']} it: {problem[1]}")
            return check(answer)
        except ValueError as error:
            raise channel.refused(error) from error


class FarModel:
    """A model that is loaded over there.

    Attributes:
        key: Its name over there.
        content: The serialised ONNX model, to load it again after a cut.
        channel: Over which it was loaded.
    """

    def __init__(self, key: str, content: bytes) -> None:
        self.key, self.content = key, content
        self.channel: Channel | None = None
