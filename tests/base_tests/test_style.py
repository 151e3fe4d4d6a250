"""The rules of style that a machine can check and no linter does."""

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

FOLDERS = (
    "search_spaces",
    "supernets",
    "latency_tables",
    "predictors",
    "nas",
    "nasbench",
    "experiments",
    "tests",
    ".ci",
)
MAX_FILE_LINES = 300
MAX_FUNCTION_LINES = 60


def sources(repository: Path) -> Iterator[Path]:
    for folder in FOLDERS:
        yield from sorted((repository / folder).rglob("*.py"))


def test_files_are_short(repository: Path) -> None:
    lengths = {str(path.relative_to(repository)): len(path.read_text().splitlines()) for path in sources(repository)}
    assert {path: lines for path, lines in lengths.items() if lines > MAX_FILE_LINES} == {}


def test_functions_fit_a_screen(repository: Path) -> None:
    lengths = {
        f"{path.relative_to(repository)}:{node.lineno} {node.name}": (node.end_lineno or 0)
        - node.body[0].lineno
        + 1  # the signature of a command is as long as its options
        for path in sources(repository)
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }
    assert {place: lines for place, lines in lengths.items() if lines > MAX_FUNCTION_LINES} == {}


@pytest.mark.parametrize("folder", FOLDERS)
def test_modules_say_what_they_are(repository: Path, folder: str) -> None:
    paths = sorted((repository / folder).rglob("*.py"))
    assert [str(path) for path in paths if ast.get_docstring(ast.parse(path.read_text())) is None] == []


def test_test_files_have_names_of_their_own(repository: Path) -> None:
    names = [path.name for path in (repository / "tests").rglob("test_*.py")]
    assert sorted(names) == sorted(set(names))
    assert not list((repository / "tests").rglob("__init__.py"))
