"""Every error a person can meet is a NasError: one line, and an exit code that says whose fault it is."""

import ast
from pathlib import Path

import pytest

from nas import errors


def subclasses(kind: type) -> set[type]:
    return {kind}.union(*(subclasses(child) for child in kind.__subclasses__()))


def test_the_tree_in_the_docstring_is_the_tree() -> None:
    assert errors.__doc__ is not None
    drawn = {word for word in errors.__doc__.split() if word.endswith("Error") and word.isalpha()}
    assert drawn == {kind.__name__ for kind in subclasses(errors.NasError) if kind.__module__ == "nas.errors"}


@pytest.mark.parametrize(
    ("kind", "code"),
    [
        (errors.NasError, 2),
        (errors.UsageError, 2),
        (errors.InfeasibleError, 2),
        (errors.FileFormatError, 2),
        (errors.DataError, 2),
        (errors.OutputError, 1),
        (errors.DeviceError, 1),
    ],
)
def test_wrong_input_exits_2_and_failed_work_1(kind: type[errors.NasError], code: int) -> None:
    assert kind("x").exit_code == code


def test_a_message_is_one_line_whatever_a_library_put_into_it() -> None:
    assert str(errors.DeviceError("runtime said:\nline two\r\nline three")) == "runtime said: line two line three"


def test_no_module_makes_an_error_outside_the_tree(repository: Path) -> None:
    places = [
        f"{path.relative_to(repository)}:{node.lineno}"
        for package in ("search_spaces", "supernets", "latency_tables", "predictors", "nas", "nasbench")
        for path in sorted((repository / package).rglob("*.py"))
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
        and any(isinstance(base, ast.Name) and base.id in {"Exception", "BaseException"} for base in node.bases)
    ]
    assert [place.split(":")[0] for place in places] == ["nas/errors.py"], places
