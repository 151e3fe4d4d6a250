"""Plain files are whole or absent, and refused with a line that names them when they do not fit."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nas import files
from nas.errors import FileFormatError, UsageError

values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
fields = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r\n"), max_size=8)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


# ---- reading


@pytest.mark.parametrize(
    ("name", "reason"),
    [("missing", "No such file"), (".", "not a regular file"), ("pipe", "not a regular file"), ("a\0b", "null byte")],
)
def test_what_cannot_be_read_is_named(tmp_path: Path, name: str, reason: str) -> None:
    os.mkfifo(tmp_path / "pipe")
    for read in (files.read_bytes, files.sha256):
        with pytest.raises(FileFormatError, match=rf"cannot be read \(.*{reason}"):
            read(tmp_path / name)


def test_a_file_beyond_any_sense_is_not_read(tmp_path: Path) -> None:
    with open(tmp_path / "bomb", "wb") as file:
        file.truncate(files.MAX_BYTES + 1)
    with pytest.raises(FileFormatError, match=r"bomb: 1073741825 bytes; allowed: at most 1073741824"):
        files.read_bytes(tmp_path / "bomb")


def test_sha256_is_that_of_the_content(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"abc")
    assert files.sha256(tmp_path / "a").startswith("ba7816bf8f01cfea")


# ---- JSON


@given(content=st.dictionaries(st.text().filter(lambda k: not k.startswith("schema")), values, max_size=4))
def test_json_comes_back_as_it_was(folder: Path, content: dict[str, object]) -> None:
    files.write_json(folder / "a.json", "thing", 3, content)
    assert files.read_json(folder / "a.json", "thing", 3) == {"schema": "thing", "schema_version": 3, **content}


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "not a JSON file"),
        ('{"schema": "thing", ', "not a JSON file"),
        ("\xff\xfe\x00", "not a JSON file"),
        ("[" * 100_000, "not a JSON file"),
        ("9" * 5000, "not a JSON file"),
        ('{"schema": "thing", "schema_version": 3, "x": NaN}', "NaN is not a finite number"),
        ('{"schema": "thing", "schema_version": 3, "x": 1e999}', "1e999 is not a finite number"),
        ("[]", "schema None version None; allowed: 'thing' version 3"),
        ('{"schema": "other", "schema_version": 3}', "schema 'other' version 3; allowed: 'thing' version 3"),
        ('{"schema": "thing", "schema_version": 4}', "schema 'thing' version 4; allowed: 'thing' version 3"),
    ],
)
def test_json_that_does_not_fit_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "a.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(FileFormatError, match=rf"a\.json: .*{fault}"):
        files.read_json(tmp_path / "a.json", "thing", 3)


def test_json_without_meaning_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        files.write_json(tmp_path / "a.json", "thing", 3, {"x": float("nan")})
    with pytest.raises(ValueError, match="must not hold \\['schema'\\]"):
        files.write_json(tmp_path / "a.json", "thing", 3, {"schema": "mine"})
    assert os.listdir(tmp_path) == []


# ---- CSV


@given(rows=st.lists(st.tuples(fields, fields), max_size=5))
def test_csv_comes_back_as_it_was(folder: Path, rows: list[tuple[str, str]]) -> None:
    files.write_csv(folder / "a.csv", ["a", "b"], rows)
    assert files.read_csv(folder / "a.csv", ["a", "b"]) == [{"a": a, "b": b} for a, b in rows]


@given(number=st.floats(allow_nan=False))
def test_csv_keeps_every_digit(folder: Path, number: float) -> None:
    files.write_csv(folder / "a.csv", ["a", "b"], [(number, None)])
    (row,) = files.read_csv(folder / "a.csv", ["a", "b"])
    assert (float(row["a"]), row["b"]) == (number, "")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", r"columns \[\]; allowed: \['a', 'b'\]"),
        ("a,c\n1,2\n", r"columns \['a', 'c'\]; allowed: \['a', 'b'\]"),
        ("a,b\n1,2\n3\n", "line 3 has 1 fields; allowed: 2"),
        ("a,b\n1,2,3\n", "line 2 has 3 fields; allowed: 2"),
        ("a,b\n1,2.7", "cut short, its last line has no end"),
        ('a,b\n1,"2', "not a CSV file"),
        ("a,b\n\xff,1\n", "not a CSV file"),
    ],
)
def test_csv_that_does_not_fit_is_refused(tmp_path: Path, text: str, fault: str) -> None:
    (tmp_path / "a.csv").write_bytes(text.encode("latin-1"))
    with pytest.raises(FileFormatError, match=rf"a\.csv: {fault}"):
        files.read_csv(tmp_path / "a.csv", ["a", "b"])


def test_csv_that_could_not_be_read_is_not_written(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="every row must have 2 fields"):
        files.write_csv(tmp_path / "a.csv", ["a", "b"], [(1,)])
    with pytest.raises(ValueError, match="must not hold a line end"):
        files.write_csv(tmp_path / "a.csv", ["a", "b"], [("1\n", "2")])


# ---- folders


def test_the_cache_is_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_CACHE", "/somewhere")
    assert files.cache_dir() == Path("/somewhere")
    monkeypatch.delenv("HWNAS_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", "/elsewhere")
    assert files.cache_dir() == Path("/elsewhere/hwnas")
    for unusable in ("", "relative"):
        monkeypatch.setenv("XDG_CACHE_HOME", unusable)
        assert files.cache_dir() == Path.home() / ".cache/hwnas"


def test_an_output_folder_is_new_or_empty(tmp_path: Path) -> None:
    assert files.check_new_folder(tmp_path / "new") == tmp_path / "new"
    assert files.check_new_folder(tmp_path) == tmp_path
    (tmp_path / "file").write_text("")
    (tmp_path / "dangling").symlink_to("nowhere")
    for taken in (tmp_path, tmp_path / "file", tmp_path / "dangling"):
        with pytest.raises(UsageError, match="exists and is not an empty folder; name another with --out"):
            files.check_new_folder(taken)


def test_a_cache_in_nobody_s_home_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HWNAS_CACHE", "~nobody-of-that-name/x")
    with pytest.raises(
        UsageError, match=r"HWNAS_CACHE is ~nobody-of-that-name/x, and that home folder is not known; set"
    ):
        files.cache_dir()


def test_what_is_there_is_told_apart(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    kinds = {
        "": (True, False, True), "file": (True, True, False), "absent": (False, False, False),
        "file/below": (False, False, False),
    }  # fmt: skip
    for name, expected in kinds.items():
        place = tmp_path / name
        assert (files.exists(place), files.is_file(place), files.is_folder(place)) == expected


@pytest.mark.parametrize(("name", "reason"), [("n" * 300, "File name too long"), ("a\0b", "embedded null byte")])
def test_a_place_that_cannot_be_looked_at_is_refused(tmp_path: Path, name: str, reason: str) -> None:
    for look in (files.exists, files.is_file, files.is_folder, files.check_new_folder):
        with pytest.raises(UsageError, match=rf"cannot be looked at \({reason}\); mend it or name another place"):
            look(tmp_path / name)
