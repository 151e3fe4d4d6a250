"""Foreign pickles: what is allowed comes out as it went in, and nothing of a hostile one is executed."""

import collections
import datetime
import io
import os
import pickle
import pickletools
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nas.errors import FileFormatError
from nasbench.foreign import read_pickle, read_torch

PLAIN = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text() | st.binary(),
    lambda inner: (
        st.lists(inner)
        | st.dictionaries(st.text(), inner)
        | st.tuples(inner, inner)
        | st.tuples(inner, inner, inner, inner)
    ),
    max_leaves=8,
)


def pickled(path: Path, value: object, protocol: int) -> Path:
    path.write_bytes(pickle.dumps(value, protocol))
    return path


@given(value=PLAIN, protocol=st.integers(0, pickle.HIGHEST_PROTOCOL))
def test_plain_values_come_out_as_they_went_in(
    value: object, protocol: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    assert read_pickle(pickled(tmp_path_factory.getbasetemp() / "plain.pickle", value, protocol)) == value


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
def test_arrays_come_out_as_they_went_in(protocol: int, tmp_path: Path) -> None:
    values = {
        "floats": np.arange(6.0).reshape(2, 3),
        "fortran": np.asfortranarray(np.arange(6).reshape(2, 3)),
        "big": np.arange(3, dtype=">i4"),
        "empty": np.zeros((0, 2), np.float32),
        "text": np.array(["ab", "c"]),
        "scalar": np.float32(2.5),
        "sets": ({1, 2}, frozenset([3])),
        "ordered": collections.OrderedDict([("a", 1)]),
    }
    values["again"] = values["floats"]
    found = read_pickle(pickled(tmp_path / "arrays.pickle", values, protocol))
    assert found["again"] is found["floats"] and found["sets"] == values["sets"] and found["ordered"] == {"a": 1}
    for name in ("floats", "fortran", "big", "empty", "text", "scalar"):
        np.testing.assert_array_equal(found[name], values[name])


class Hostile:
    """Pickled, it asks for ``function(*arguments)``."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.asked = (function, arguments)

    def __reduce__(self) -> tuple[object, tuple[object, ...]]:
        return self.asked  # type: ignore[return-value]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("function", [os.system, subprocess.call, eval, exec, __import__, getattr, print])
def test_a_call_is_refused_and_not_made(function: object, protocol: int, tmp_path: Path) -> None:
    path = pickled(tmp_path / "hostile.pickle", [Hostile(function, f"touch {tmp_path}/made")], protocol)
    with pytest.raises(FileFormatError, match=r"hostile\.pickle: pickle refused: it asks for '[\w .]+'; allowed: bu"):
        read_pickle(path)
    assert not (tmp_path / "made").exists()


def test_values_of_other_types_are_refused(tmp_path: Path) -> None:
    for value in (datetime.date(2020, 1, 1), complex(1, 2), Path("a"), collections.Counter("ab"), range(3), Hostile):
        with pytest.raises(FileFormatError, match="pickle refused: it asks for"):
            read_pickle(pickled(tmp_path / "other.pickle", value, 4))


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (np.array([{}, []], object), "an array of type 'O8?'"),
        (np.zeros(2, [("a", "f4")]), "an array of type 'V4'"),
        (np.array(["2020-01-01"], "M8[D]"), "an array of type 'M8'"),
        (np.ndarray, "it holds 'numpy.ndarray'"),
    ],
)
def test_arrays_of_other_things_are_refused(value: object, message: str, tmp_path: Path) -> None:
    with pytest.raises(FileFormatError, match=f"pickle refused: {message}"):
        read_pickle(pickled(tmp_path / "array.pickle", value, 4))


@pytest.mark.parametrize(
    ("program", "message"),
    [
        (b"", "not a whole pickle"),
        (b".", "not a whole pickle"),
        (b"\x80\x04]", "not a whole pickle"),
        (b"]q\xff", "not a whole pickle"),
        (b"h\x05.", "not a whole pickle"),
        (b"e.", "not a whole pickle"),
        (b"}(K\x01u.", "not a whole pickle"),
        (b"K\x01K\x02a.", "a int where a list must be"),
        (b"K\x01)R.", "a int where a name must be"),
        (b"]}b.", "a list where a pending must be"),
        (b"P0\n.", "opcode PERSID"),
        (b"c__main__\nx\n)\x81.", "it asks for '__main__.x'"),
        (b"cnumpy\ndtype\n(X\x02\x00\x00\x00f8tR(K\x03X\x01\x00\x00\x00<K\x01NNtb.", "an array of records"),
        (b"(lp0\n" + b"\x8a\xff" + b"\x01" * 10, "not a whole pickle"),
        (b"c_codecs\nencode\n(K\x07K\x01tR.", "an array from a int"),
        (b"cnumpy.core.multiarray\n_reconstruct\n)R(K\x01(K\x02tNI00\nC\x01atb.", "an array without a type"),
        (b"cnumpy.core.numeric\n_frombuffer\n(C\x01aK\x01(tX\x01\x00\x00\x00Ct R.", "not a whole pickle"),
    ],
)
def test_a_program_that_makes_no_sense_is_refused(program: bytes, message: str, tmp_path: Path) -> None:
    path = tmp_path / "program.pickle"
    path.write_bytes(program)
    with pytest.raises(FileFormatError, match=rf"^[^\n]*program\.pickle: [^\n]*{message}[^\n]*$"):
        read_pickle(path)


def test_a_deep_one_is_read_without_recursion(tmp_path: Path) -> None:
    path = tmp_path / "deep.pickle"
    path.write_bytes(b"]" * 100_000 + b"a" * 99_999 + b".")
    assert isinstance(read_pickle(path), list)


@given(data=st.data())
def test_no_change_of_a_byte_does_anything_but_read_or_refuse(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    whole = bytearray(pickle.dumps({"a": np.arange(4.0), "b": [1, "x", (2, 3)]}, 2))
    for _ in range(3):
        whole[data.draw(st.integers(0, len(whole) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.pickle"
    path.write_bytes(bytes(whole))
    try:
        read_pickle(path)
    except FileFormatError as error:
        assert "changed.pickle" in str(error) and "\n" not in str(error)


def test_every_opcode_that_is_known_exists() -> None:
    from nasbench.foreign import CONSTANTS, LITERALS, TUPLES

    names = {opcode.name for opcode in pickletools.opcodes}
    assert {*LITERALS, *CONSTANTS, *TUPLES} <= names


def test_torch_s_files_are_read_and_hostile_ones_refused(tmp_path: Path) -> None:
    torch.save({"a": [1, 2], "t": torch.ones(2), "n": np.arange(3.0)}, tmp_path / "good.pt")
    found = read_torch(tmp_path / "good.pt")
    assert found["a"] == [1, 2] and found["t"].tolist() == [1, 1] and found["n"].tolist() == [0, 1, 2]
    torch.save([Hostile(os.system, f"touch {tmp_path}/made")], tmp_path / "hostile.pt")
    with pytest.raises(FileFormatError, match=r"^[^\n]*hostile\.pt: refused: [^\n]+; allowed: containers, tensors"):
        read_torch(tmp_path / "hostile.pt")
    assert not (tmp_path / "made").exists()
    buffer = io.BytesIO()
    torch.save([1], buffer)
    (tmp_path / "cut.pt").write_bytes(buffer.getvalue()[:-30])
    with pytest.raises(FileFormatError, match=r"cut\.pt: refused"):
        read_torch(tmp_path / "cut.pt")
    with pytest.raises(FileFormatError, match=r"absent\.pt: cannot be read"):
        read_torch(tmp_path / "absent.pt")
