"""An output folder is tried before the work, whole or absent after it, and never lost at the last step."""

import os
from pathlib import Path

import pytest

from nas.errors import OutputError, UsageError
from nas.export.folder import new_folder


def fill(folder: Path) -> None:
    (folder / "bundles").mkdir()
    (folder / "result.json").write_text("{}")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


CONTENT = ["bundles", "result.json"]


def test_a_new_folder_appears_whole_with_its_parents(tmp_path: Path) -> None:
    with new_folder(tmp_path / "a" / "b") as folder:
        fill(folder)
        assert not (tmp_path / "a" / "b").exists()
    assert names(tmp_path / "a") == ["b"] and names(tmp_path / "a" / "b") == CONTENT
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "a" / "b").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_where_one_stands_stays_the_folder_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    before = os.stat(tmp_path).st_ino
    with new_folder(Path(".")) as folder:
        fill(folder)
    assert names(Path(".")) == CONTENT and os.stat(tmp_path).st_ino == before


def test_a_link_to_an_empty_folder_is_written_through(tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with new_folder(tmp_path / "link") as folder:
        fill(folder)
    assert (tmp_path / "link").is_symlink() and names(tmp_path / "real") == CONTENT


@pytest.mark.parametrize("error", [KeyboardInterrupt, OSError])
@pytest.mark.parametrize("exists", [True, False])
def test_an_error_leaves_what_was_there(tmp_path: Path, exists: bool, error: type[BaseException]) -> None:
    out = tmp_path / "out" if exists else tmp_path / "a" / "b" / "out"
    if exists:
        out.mkdir()
    with pytest.raises(error), new_folder(out) as folder:
        fill(folder)
        raise error
    assert names(tmp_path) == (["out"] if exists else []) and (not exists or names(out) == [])


def test_what_cannot_be_written_is_said_before_the_work(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    reached = False
    with pytest.raises(OutputError, match=r"file/out cannot be written \(.+\); name another with --out"):  # noqa: SIM117
        with new_folder(tmp_path / "file" / "out"):
            reached = True
    assert not reached and names(tmp_path) == ["file"]


def test_a_folder_in_use_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mine").touch()
    with pytest.raises(UsageError, match="exists and is not an empty folder"), new_folder(tmp_path):
        pass


@pytest.mark.parametrize("exists", [True, False])
def test_what_somebody_else_put_there_meanwhile_loses_nothing(tmp_path: Path, exists: bool) -> None:
    out = tmp_path / "out"
    if exists:
        out.mkdir()
    with pytest.raises(OutputError, match=r"out is not to be had any more .*; all of it is in .+\.part"):  # noqa: SIM117
        with new_folder(out) as folder:
            fill(folder)
            out.mkdir(exist_ok=True)
            (out / "theirs").touch()
    assert names(folder) == CONTENT and (out / "theirs").exists()
