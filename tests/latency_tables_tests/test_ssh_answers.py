"""Answers from another machine are believed only where they have the shape, type and range due."""

import base64
import json
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from latency_tables import ssh_answers
from latency_tables.fingerprint import describe_cpu
from latency_tables.ssh_answers import Answer, parsed
from latency_tables.ssh_runner import VERSION

CPU = describe_cpu()
OPEN = {"version": VERSION, "python": "3.9.2", "runtime_version": "1.19.2", "cpu": CPU}
NUMBERS = base64.b64encode(np.array([1, 2], "<f4").tobytes()).decode()
INFINITE = base64.b64encode(np.array([1, np.inf], "<f4").tobytes()).decode()


def check(name: str, content: dict[str, Any], **limits: Any) -> Any:
    return getattr(ssh_answers, name)(Answer(content, passed=1.0), **limits)


def test_what_is_due_is_returned() -> None:
    assert parsed(b'{"id": 3, "locked": true}\n', 3) == {"locked": True}
    assert check("failure", {"locked": True}) is None
    assert check("failure", {"error": "missing", "detail": "numpy"}) == ("missing", "numpy")
    assert check("opened", OPEN) == {name: OPEN[name] for name in ("python", "runtime_version", "cpu")}
    assert check("seconds", {"seconds": [0.5, 0.25]}, count=2) == [0.5, 0.25]
    assert check("array", {"shape": [1, 2], "data": NUMBERS}, batch=1).tolist() == [[1, 2]]
    assert check("kernels", {"kernels": {"Conv": 1, "Gemm": 0, "MatMul": 0}})["Conv"] == 1


@pytest.mark.parametrize(
    "line",
    [b"", b"{", b"[]", b"3", b'{"id": 2}', b'{"id": true}', b'{"id": 1, "x": NaN}', b'{"id": 1, "x": 1e999}',
     b"\xff\xfe", b'{"id": 1, "x": -Infinity}', b'{"seconds": [1]}', b"[" * 9999],
)  # fmt: skip
def test_lines_that_are_no_answer(line: bytes) -> None:
    with pytest.raises(ValueError, match=r"^(not JSON of finite numbers|not the answer to request 1)"):
        parsed(line, 1)


@pytest.mark.parametrize(
    ("name", "content", "limits", "message"),
    [
        ("failure", {"error": "x", "detail": ""}, {}, "error is 'x'; allowed: missing, failed"),
        ("failure", {"error": "failed", "detail": "x" * 301}, {}, "detail is .*; allowed: at most 300 printable"),
        ("failure", {"error": "failed", "detail": "\x1b[2J"}, {}, "detail is .*; allowed: at most 300 printable"),
        ("failure", {"error": "failed"}, {}, r"its keys are \['error'\]; allowed: \['detail', 'error'\]"),
        ("opened", {**OPEN, "version": 99}, {}, "version is 99; allowed: 1"),
        ("opened", {**OPEN, "host": "pi"}, {}, "its keys are .*'host'"),
        ("opened", {**OPEN, "cpu": {**CPU, "serial": "1"}}, {}, "its keys are .*'serial'"),
        ("opened", {**OPEN, "cpu": []}, {}, "cpu is not an object"),
        ("opened", {**OPEN, "cpu": {**CPU, "isa": ["x"] * 65}}, {}, "isa is .*; allowed: at most 64 texts"),
        ("opened", {**OPEN, "cpu": {**CPU, "governor": 3}}, {}, "governor is 3; allowed"),
        ("opened", {**OPEN, "cpu": {**CPU, "cores": -1}}, {}, "cores is -1; allowed: 1 to 4096"),
        ("locked", {"locked": 1}, {}, "locked is neither true nor false"),
        ("loaded", {"loaded": "2"}, {"key": "1"}, "loaded is '2'; allowed: '1'"),
        ("kernels", {"kernels": 1}, {}, "kernels is not an object"),
        ("kernels", {"kernels": {"Conv": -1, "Gemm": 0, "MatMul": 0}}, {}, "kernels is .*; allowed: 0 to 100000"),
        ("seconds", {"seconds": [0.1]}, {"count": 2}, "seconds is not a list of 2 numbers"),
        ("seconds", {"seconds": [0]}, {"count": 1}, "seconds holds 0; allowed: positive"),
        ("seconds", {"seconds": [True]}, {"count": 1}, "seconds holds True; allowed: positive"),
        ("seconds", {"seconds": ["1"]}, {"count": 1}, "seconds holds '1'; allowed: positive"),
        ("seconds", {"seconds": [0.6, 0.6]}, {"count": 2}, r"seconds add up to 1\.2, while 1 passed here"),
        ("array", {"shape": [2], "data": NUMBERS}, {"batch": 1}, r"shape is \[2\]; allowed: 1 and up to three more"),
        ("array", {"shape": [1, -2], "data": NUMBERS}, {"batch": 1}, r"shape is \[1, -2\]; allowed"),
        ("array", {"shape": [1, 3], "data": NUMBERS}, {"batch": 1}, r"data has 8 bytes; shape \[1, 3\] has 12"),
        ("array", {"shape": [1, 2], "data": "§"}, {"batch": 1}, "data is not base64"),
        ("array", {"shape": [1, 2], "data": 3}, {"batch": 1}, "data is not base64"),
        ("array", {"shape": [1, 2], "data": INFINITE}, {"batch": 1}, "data holds numbers that are not finite"),
    ],
)  # fmt: skip
def test_answers_that_are_not_due(name: str, content: dict[str, Any], limits: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(name, content, **limits)


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=9),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner, max_size=3),
    max_leaves=6,
)
CHECKS: list[tuple[Callable[..., Any], tuple[str, ...], dict[str, Any]]] = [
    (ssh_answers.failure, ("error", "detail"), {}),
    (ssh_answers.opened, tuple(OPEN), {}),
    (ssh_answers.locked, ("locked",), {}),
    (ssh_answers.loaded, ("loaded",), {"key": "1"}),
    (ssh_answers.kernels, ("kernels",), {}),
    (ssh_answers.seconds, ("seconds",), {"count": 1}),
    (ssh_answers.array, ("shape", "data"), {"batch": 1}),
]


@settings(max_examples=30)
@given(data=st.data(), place=st.sampled_from(range(len(CHECKS))))
def test_nothing_but_a_refusal_comes_of_nonsense(data: st.DataObject, place: int) -> None:
    checker, keys, limits = CHECKS[place]
    content = data.draw(st.fixed_dictionaries(dict.fromkeys(keys, JSON)) | st.dictionaries(st.text(max_size=9), JSON))
    try:
        line = json.dumps({**content, "id": 1}).encode()
        checker(Answer(parsed(line, 1), passed=1.0), **limits)
    except ValueError as error:
        assert str(error)
