"""An HTTP server on loopback with the isolation headers: without them a page has a coarse clock and no threads."""

import secrets
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import PurePosixPath
from typing import Any

HEADERS = {
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Embedder-Policy": "require-corp",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}
TYPES = {".html": "text/html", ".mjs": "text/javascript", ".wasm": "application/wasm"}
SOCKET_SECONDS = 60.0


class LoopbackServer:
    """Serves what it is given, from memory, under an address that other users of the machine cannot guess.

    Args:
        files: Name to content; the ending of the name decides the type.
    """

    def __init__(self, files: Mapping[str, bytes]) -> None:
        self._server = _Server(("127.0.0.1", 0), _Handler)
        self._root = f"/{secrets.token_urlsafe(16)}/"
        self._server.contents = {self._root + name: content for name, content in files.items()}
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.1}, daemon=True)
        self._thread.start()

    def url(self, name: str) -> str:
        """Return the address of one of the files."""
        return f"http://127.0.0.1:{self._server.server_address[1]}{self._root}{name}"

    @contextmanager
    def offered(self, content: bytes) -> Iterator[str]:
        """Serve ``content`` while the block runs; yields its address."""
        name = secrets.token_urlsafe(8)
        self._server.contents[self._root + name] = content
        try:
            yield self.url(name)
        finally:
            del self._server.contents[self._root + name]

    def close(self) -> None:
        """Stop serving and free the port."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    contents: dict[str, bytes]

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Stay silent: a browser that went away is reported by who asked it for something."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server
    timeout = SOCKET_SECONDS
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        content = self.server.contents.get(self.path)
        self.send_response(404 if content is None else 200)
        for name, value in HEADERS.items():
            self.send_header(name, value)
        kind = TYPES.get(PurePosixPath(self.path).suffix, "application/octet-stream")
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(content or b"")))
        self.end_headers()
        self.wfile.write(content or b"")

    def log_message(self, format: str, *args: Any) -> None:
        """Stay silent: standard error is the person's."""
