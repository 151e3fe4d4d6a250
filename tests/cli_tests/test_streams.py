"""Output that cannot be written, or is not there, ends in a line or in silence, never in a traceback."""

import os
import signal
import subprocess
import sys

import pytest

from nas.cli.interrupt import interrupted_by_sigterm, kept_after_interrupt
from nas.cli.main import main

NAS = f"{sys.executable} -c 'import sys; from nas.cli.main import main; sys.exit(main())'"


def shell(line: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["bash", "-c", line], capture_output=True, text=True, env={**os.environ, **environment}, timeout=60
    )


@pytest.mark.parametrize("words", ["spaces", "spaces --json", "--version", "--help"])
def test_a_full_disk_is_one_line(words: str) -> None:
    run = shell(f"{NAS} {words} > /dev/full")
    assert run.returncode == 1
    assert run.stderr.startswith("error: ") and "No space left" in run.stderr and run.stderr.count("\n") == 1


def test_a_reader_that_has_had_enough_is_no_error() -> None:
    run = shell(f"set -o pipefail; {NAS} spaces | true")
    assert (run.returncode, run.stderr) in [(1, ""), (0, "")]  # by who is first


@pytest.mark.parametrize("closed", [">&-", "2>&-"])
def test_closed_streams_are_no_error(closed: str) -> None:
    run = shell(f"{NAS} spaces {closed}")
    assert (run.returncode, run.stderr) == (0, "")


def test_a_terminal_without_the_characters_gets_others() -> None:
    run = shell(f"{NAS} spaces nosuch\u2192", PYTHONIOENCODING="ascii:strict")
    assert run.returncode == 2 and "Traceback" not in run.stderr


def test_sigterm_is_an_interrupt() -> None:
    with pytest.raises(KeyboardInterrupt), interrupted_by_sigterm():
        os.kill(os.getpid(), signal.SIGTERM)
        signal.pause()
    assert signal.getsignal(signal.SIGTERM) == signal.SIG_DFL


def test_an_interrupt_where_nothing_is_kept_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupt(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("nas.cli.spaces.print_table", interrupt)
    assert main(["spaces"]) == 130
    assert capsys.readouterr().err == "interrupted\n"


def test_an_interrupt_says_what_is_kept(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def interrupt(*_: object, **__: object) -> None:
        with kept_after_interrupt(lambda: "kept: nothing"):
            raise KeyboardInterrupt

    monkeypatch.setattr("nas.cli.spaces.print_table", interrupt)
    assert main(["spaces"]) == 130
    assert capsys.readouterr().err == "interrupted; kept: nothing\n"
