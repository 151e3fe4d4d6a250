"""The view of a running search: a table on a terminal, plain lines elsewhere, nothing when quiet."""

import io

import numpy as np
import pytest
from rich.console import Console

from nas.cli import search_view
from nas.cli.progress import progress_on
from nas.cli.search_view import SearchView, picture
from nas.search import Scored, search
from nas.search.testing import ToySpace, toy_problem

SPACE = ToySpace()


def watched(quiet: bool) -> None:
    with progress_on(quiet) as display:
        view = SearchView(display)

        def seen(evaluated: int, front: Scored) -> None:
            view.front(front)
            view.listen("search", evaluated, 300)

        search(toy_problem(SPACE), budget=300, progress=seen)
        view.listen("verify", 1, 1)


def test_plain_lines_say_the_front_and_the_rate(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(search_view, "SECONDS", 0.0)
    watched(quiet=False)
    printed = capsys.readouterr()
    assert printed.out == ""
    assert "search: 300 of 300, 0 s, front of " in printed.err and " a second" in printed.err


def test_quiet_says_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    watched(quiet=True)
    assert capsys.readouterr() == ("", "")


def test_a_terminal_shows_the_front_below_the_bars(monkeypatch: pytest.MonkeyPatch) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    terminal = Terminal()
    monkeypatch.setattr("sys.stderr", terminal)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(search_view, "SECONDS", 0.0)
    watched(quiet=False)
    assert "accuracy %" in terminal.getvalue() and "front of" in terminal.getvalue()


def test_the_picture_has_both_ends_of_the_front() -> None:
    front = search(toy_problem(SPACE), budget=500).front
    text = io.StringIO()
    Console(file=text, width=80).print(picture(front))
    for end in (0, -1):
        assert f"{front.scores['latency_ms'][end]:.4f}" in text.getvalue()
    assert text.getvalue().count("\n") <= 8 + search_view.ROWS
    assert np.all(np.diff(front.scores["latency_ms"]) > 0)
