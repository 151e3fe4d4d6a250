"""Whether a browser can be measured here, and one page for all the tests that need none of their own."""

import functools
import os
from pathlib import Path

import pytest

from latency_tables.browser import Browser
from latency_tables.browser.chromium import find_chromium
from latency_tables.browser.package import VARIABLE, find_package
from latency_tables.browser.page import Page
from nas.errors import DeviceError

try:
    find_chromium()
    os.environ[VARIABLE] = str(find_package().folder.parent)  # tests have a cache of their own
    ABSENT = ""
except DeviceError as _error:
    ABSENT = str(_error)

needs_browser = pytest.mark.skipif(bool(ABSENT), reason=ABSENT)
_one_page = functools.cache(Page)


def shared_browser() -> Browser:
    """Return a fresh device whose page other tests use too."""
    return Browser(open_page=_one_page)


def running(session: int) -> list[str]:
    """Return the processes of a session that are more than a name in the system's table."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            name, _, fields = path.read_text().rpartition(")")
        except OSError:  # it has just ended
            continue
        state, _, _, of = fields.split()[:4]
        if int(of) == session and state not in "ZX":
            found.append(name)
    return found
