"""What device ``browser`` serves: to loopback alone, isolated, and only what it was given."""

from collections.abc import Iterator
from http.client import HTTPResponse
from urllib.error import HTTPError
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest

from latency_tables.browser.server import LoopbackServer


@pytest.fixture
def server() -> Iterator[LoopbackServer]:
    opened = LoopbackServer({"page.html": b"<p>", "page.mjs": b"export {}", "run.wasm": b"\0asm"})
    yield opened
    opened.close()


def get(url: str) -> HTTPResponse:
    return urlopen(url, timeout=10)


def test_pages_are_isolated_and_typed(server: LoopbackServer) -> None:
    kinds = {"page.html": "text/html", "page.mjs": "text/javascript", "run.wasm": "application/wasm"}
    for name, kind in kinds.items():
        with get(server.url(name)) as answer:
            assert answer.headers["Content-Type"] == kind
            assert answer.headers["Cross-Origin-Opener-Policy"] == "same-origin"
            assert answer.headers["Cross-Origin-Embedder-Policy"] == "require-corp"


def test_it_listens_on_loopback_under_a_secret(server: LoopbackServer) -> None:
    parts = urlsplit(server.url("page.html"))
    assert parts.hostname == "127.0.0.1" and len(parts.path.split("/")[1]) >= 20
    for path in ("/", "/page.html", f"{parts.path}/../../etc/passwd", f"{parts.path}x"):
        with pytest.raises(HTTPError, match="404"):
            get(f"http://{parts.netloc}{path}")


def test_what_is_offered_is_there_for_a_while(server: LoopbackServer) -> None:
    with server.offered(b"weights") as url, get(url) as answer:
        assert answer.read() == b"weights"
    with pytest.raises(HTTPError, match="404"):
        get(url)


def test_nobody_answers_after_the_end() -> None:
    server = LoopbackServer({"page.html": b""})
    server.close()
    with pytest.raises(OSError, match="refused"):
        get(server.url("page.html"))
