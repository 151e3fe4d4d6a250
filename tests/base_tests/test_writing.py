"""Files are whole or absent, or grow by whole lines, whatever ends the writer."""

import os
import resource
import signal
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from nas import files
from nas.errors import OutputError


def test_a_failing_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="half way"), files.atomic_path(path) as temporary:
        temporary.write_text("ne")
        raise RuntimeError("half way")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_what_killed_writes_of_a_file_left_is_removed_by_its_next_write(tmp_path: Path) -> None:
    old, fresh, foreign = (
        tmp_path / name for name in (f".a.json.{'0' * 12}.part", f".a.json.{'1' * 12}.part", ".b.part")
    )
    for path in (old, fresh, foreign):
        path.touch()
    for path in (old, foreign):
        os.utime(path, (0, 0))
    files.write_bytes(tmp_path / "a.json", b"new")
    assert {path.name for path in tmp_path.iterdir()} == {"a.json", fresh.name, foreign.name}  # fresh: of a live writer


def test_a_full_disk_is_one_line_and_leaves_the_old_file(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    path.write_text("old")
    with pytest.raises(OutputError, match=r"a\.json: cannot be written \(No space left"), files.atomic_path(path):
        raise OSError(28, "No space left on device")
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["a.json"]


def test_a_killed_writer_leaves_the_old_file_whole(tmp_path: Path) -> None:
    path = tmp_path / "a.bin"
    path.write_bytes(b"old")
    code = (
        "import pathlib, sys; from nas.files import atomic_path\n"
        "with atomic_path(pathlib.Path(sys.argv[1])) as temporary:\n"
        "    temporary.write_bytes(b'new' * 1000)\n"
        "    print('written', flush=True)\n"
        "    sys.stdin.read()\n"
    )
    writer = subprocess.Popen(
        [sys.executable, "-c", code, str(path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert writer.stdout is not None and writer.stdin is not None
    assert writer.stdout.readline() == "written\n"
    writer.send_signal(signal.SIGKILL)
    assert writer.wait() == -signal.SIGKILL
    writer.stdin.close()
    writer.stdout.close()
    assert path.read_bytes() == b"old"


def test_missing_folders_are_made(tmp_path: Path) -> None:
    files.write_bytes(tmp_path / "a/b/c.bin", b"x")
    assert (tmp_path / "a/b/c.bin").read_bytes() == b"x"


@pytest.mark.parametrize("mask", [0o022, 0o077])
def test_a_new_file_has_the_permissions_of_any_new_file(tmp_path: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        files.write_bytes(tmp_path / "a", b"")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o666 & ~mask


def test_an_overwritten_file_keeps_its_permissions(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"")
    (tmp_path / "a").chmod(0o640)
    files.write_bytes(tmp_path / "a", b"x")
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o640


def test_a_link_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "link").symlink_to("there/a")
    files.write_bytes(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "there/a").read_bytes() == b"x"


def test_a_folder_or_device_is_never_replaced(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path, tmp_path / "pipe", Path("/dev/null")):
        with pytest.raises(OutputError, match=r"cannot be written \(not a regular file\)"):
            files.write_bytes(path, b"x")
    assert stat.S_ISCHR(os.stat("/dev/null").st_mode)


def test_a_path_under_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("x")
    with pytest.raises(OutputError, match=r"cannot be written .*; mend it or name another place"):
        files.write_bytes(tmp_path / "a/b", b"x")


def test_appended_lines_stay_and_the_header_comes_once(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.csv"
    files.append_lines(path, "a,b", ["1,2"])
    files.append_lines(path, "a,b", iter(["3,4", "5,6"]))
    assert path.read_text() == "a,b\n1,2\n3,4\n5,6\n"


@pytest.mark.parametrize(
    ("torn", "kept"), [("", "a,b\n"), ("a,", "a,b\n"), ("a,b\n1,2\n3", "a,b\n1,2\n"), ("a,b\n", "a,b\n")]
)
def test_a_line_cut_short_is_dropped_before_the_next(tmp_path: Path, torn: str, kept: str) -> None:
    path = tmp_path / "a.csv"
    path.write_text(torn)
    files.append_lines(path, "a,b", [])
    assert path.read_text() == kept
    path.write_text(torn)
    files.append_lines(path, "a,b", ["7,8"])
    assert path.read_text() == kept + "7,8\n"


def test_appending_to_a_full_disk_is_one_line_and_keeps_what_was_there(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    files.append_lines(path, "a,b", ["1,2"])
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20, hard))
    try:
        with pytest.raises(OutputError, match=r"a\.csv: cannot be written \(File too large\); mend it"):
            files.append_lines(path, "a,b", ["3,4"] * 100)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    files.append_lines(path, "a,b", ["5,6"])
    lines = path.read_text().splitlines()
    assert lines[:2] == ["a,b", "1,2"] and lines[-1] == "5,6" and set(lines[2:-1]) <= {"3,4"}


@pytest.mark.parametrize("name", ["file/a.csv", ".", "pipe"])
def test_what_cannot_be_appended_to_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / "file").write_text("x")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(OutputError, match=r"cannot be written \(.*\); mend it or name another place"):
        files.append_lines(tmp_path / name, "a,b", ["1,2"])


def test_a_folder_that_cannot_be_made_is_one_line() -> None:
    with pytest.raises(OutputError, match=r"^/proc/nope/a\.csv: cannot be written \(No such file or directory\)"):
        files.append_lines(Path("/proc/nope/a.csv"), "a,b", ["1,2"])
