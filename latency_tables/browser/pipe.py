"""Messages over a pair of pipes: JSON that ends in a null byte, each with a time limit."""

import contextlib
import json
import os
import selectors
import time
from typing import IO, Any

MAX_BYTES = 2**28  # of a message; the outputs of a batch are far below
CHUNK_BYTES = 2**16


class Pipe:
    """One end of the conversation.

    Args:
        incoming: Read from, unbuffered by this class.
        outgoing: Written to.
    """

    def __init__(self, incoming: IO[bytes], outgoing: IO[bytes]) -> None:
        self._incoming, self._outgoing = incoming, outgoing
        self._buffer = bytearray()
        self._selector = selectors.DefaultSelector()
        self._selector.register(incoming, selectors.EVENT_READ)

    def send(self, message: dict[str, Any]) -> None:
        """Write one message.

        Raises:
            OSError: Nobody reads any more.
        """
        self._outgoing.write(json.dumps(message).encode() + b"\0")
        self._outgoing.flush()

    def receive(self, deadline: float) -> dict[str, Any]:
        """Return the next message.

        Args:
            deadline: Until when to wait, of ``time.monotonic``.

        Raises:
            TimeoutError: None came.
            OSError: Nobody writes any more.
            ValueError: It is too long or no JSON object.
        """
        searched = 0
        while (end := self._buffer.find(b"\0", searched)) < 0:
            searched = len(self._buffer)
            if searched > MAX_BYTES:
                raise ValueError(f"a message above {MAX_BYTES} bytes")
            if not self._selector.select(max(0.0, deadline - time.monotonic())):
                raise TimeoutError
            chunk = os.read(self._incoming.fileno(), CHUNK_BYTES)
            if not chunk:
                raise OSError("the pipe is closed")
            self._buffer += chunk
        message = json.loads(self._buffer[:end])
        del self._buffer[: end + 1]
        if not isinstance(message, dict):
            raise ValueError("a message that is no JSON object")
        return message

    def close(self) -> None:
        """Close both pipes, which the other side notices."""
        self._selector.close()
        for pipe in (self._incoming, self._outgoing):
            with contextlib.suppress(OSError):
                pipe.close()
