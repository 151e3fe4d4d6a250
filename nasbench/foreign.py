"""Reads foreign pickles without running them: numbers, texts, builtin containers and numpy arrays, nothing else.

A pickle is a program for a machine with a stack; loading one may call anything that can be imported. Here the program
is only looked at, opcode by opcode (``pickletools``, which executes nothing), on a stack of our own. A global name in
it is a key into ``CALLS``, whose few functions build arrays from checked bytes; nothing is ever imported by name.
"""

import pickletools
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from nas.errors import FileFormatError
from nas.files import read_bytes

DTYPE = re.compile(r"[<>|=]?([?biufc]\d{0,2}|[SU]\d{1,4})")
NUMPY = ("numpy.core.multiarray", "numpy._core.multiarray")  # as versions before and after 2 spell it
BUFFERS = ("numpy.core.numeric", "numpy._core.numeric")


class Refused(ValueError):
    """What makes a pickle one that is not read."""


@dataclass(eq=False)
class _Name:
    """A global name that may be called or stand as an argument."""

    name: str


@dataclass(eq=False)
class _Pending:
    """An array or type whose state comes later, with the memo's keys that hold it until then."""

    build: Callable[[Any], Any]
    keys: list[int] = field(default_factory=list)


def read_pickle(path: Path) -> Any:
    """Return what a pickle of numbers, texts, builtin containers and numpy arrays holds.

    Raises:
        FileFormatError: The file is missing or damaged, or asks for anything else; nothing of it is executed.
    """
    try:
        return _Machine().run(read_bytes(path))
    except Refused as error:
        raise FileFormatError(f"{path}: pickle refused: {error}; allowed: builtin containers, numpy arrays") from error
    except (ValueError, TypeError, IndexError, KeyError, struct.error, MemoryError, OverflowError) as error:
        raise FileFormatError(f"{path}: not a whole pickle ({error!r:.120}); fetch it again") from error


def read_torch(path: Path) -> Any:
    """Return the containers, tensors and numpy arrays of a file that ``torch.save`` wrote, by torch's own such reader.

    Raises:
        FileFormatError: The file is missing or damaged, or asks for anything else; nothing of it is executed.
    """
    import torch

    read_bytes(path)  # says what is wrong with the path
    arrays = [np.ndarray, np.dtype, np._core.multiarray._reconstruct, np._core.multiarray.scalar]  # type: ignore[attr-defined]
    kinds = [type(np.dtype(code)) for code in ("f4", "f8", "i4", "i8", "b1")]
    try:
        with torch.serialization.safe_globals([*arrays, *kinds]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch's reader raises whatever its parts do
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise FileFormatError(f"{path}: refused: {reason:.160}; allowed: containers, tensors, numpy arrays") from error


class _Machine:
    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.outer: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def run(self, data: bytes) -> Any:
        for opcode, argument, _ in pickletools.genops(data):
            if opcode.name == "STOP":
                return _finished(self.stack.pop())
            self._step(opcode.name, argument)
        raise Refused("it has no end")

    def _step(self, name: str, argument: Any) -> None:
        if name in LITERALS:
            self.stack.append(argument)
        elif name in CONSTANTS:
            self.stack.append(CONSTANTS[name]())
        elif name in TUPLES:
            start = len(self.stack) - TUPLES[name]
            self.stack[start:] = [tuple(self.stack[start:])]
        elif name in ("PROTO", "FRAME"):
            pass
        elif name == "MARK":
            self.outer.append(self.stack)
            self.stack = []
        elif handler := getattr(self, f"_{name.lower()}", None):
            handler(argument)
        else:
            raise Refused(f"opcode {name}")

    def _since_mark(self) -> list[Any]:
        items, self.stack = self.stack, self.outer.pop()
        return items

    def _tuple(self, _: Any) -> None:
        items = tuple(self._since_mark())
        self.stack.append(items)

    def _list(self, _: Any) -> None:
        items = self._since_mark()
        self.stack.append(items)

    def _dict(self, _: Any) -> None:
        items = _pairs(self._since_mark())
        self.stack.append(items)

    def _frozenset(self, _: Any) -> None:
        items = frozenset(self._since_mark())
        self.stack.append(items)

    def _append(self, _: Any) -> None:
        item = self.stack.pop()
        _of(list, self.stack[-1]).append(item)

    def _appends(self, _: Any) -> None:
        items = self._since_mark()
        _of(list, self.stack[-1]).extend(items)

    def _setitem(self, _: Any) -> None:
        value, key = self.stack.pop(), self.stack.pop()
        _of(dict, self.stack[-1])[key] = value

    def _setitems(self, _: Any) -> None:
        pairs = _pairs(self._since_mark())
        _of(dict, self.stack[-1]).update(pairs)

    def _additems(self, _: Any) -> None:
        items = self._since_mark()
        _of(set, self.stack[-1]).update(items)

    def _put(self, key: Any) -> None:
        self.memo[int(key)] = self.stack[-1]
        if isinstance(self.stack[-1], _Pending):
            self.stack[-1].keys.append(int(key))

    _binput = _long_binput = _put

    def _memoize(self, _: Any) -> None:
        self._put(len(self.memo))

    def _get(self, key: Any) -> None:
        self.stack.append(self.memo[int(key)])

    _binget = _long_binget = _get

    def _global(self, argument: str) -> None:
        self.stack.append(_named(".".join(argument.split(" ", 1))))

    def _stack_global(self, _: Any) -> None:
        name, module = self.stack.pop(), self.stack.pop()
        self.stack.append(_named(f"{module}.{name}"))

    def _reduce(self, _: Any) -> None:
        arguments, function = self.stack.pop(), self.stack.pop()
        self.stack.append(CALLS[_of(_Name, function).name](*_of(tuple, arguments)))

    def _build(self, _: Any) -> None:
        state, target = self.stack.pop(), _of(_Pending, self.stack[-1])
        self.stack[-1] = value = target.build(state)
        for key in target.keys:
            self.memo[key] = value


def _named(name: str) -> _Name:
    if name not in CALLS and name not in ("numpy.ndarray", "numpy.dtype"):
        raise Refused(f"it asks for {name!r:.80}")
    return _Name(name)


def _of(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise Refused(f"a {type(value).__name__.strip('_').lower()} where a {kind.__name__.strip('_').lower()} must be")
    return value


def _pairs(items: list[Any]) -> dict[Any, Any]:
    return dict(zip(items[::2], items[1::2], strict=True))


def _finished(value: Any) -> Any:
    if isinstance(value, _Name):
        raise Refused(f"it holds {value.name!r}")
    return value.build(None) if isinstance(value, _Pending) else value


def _dtype(code: Any, *_: Any) -> _Pending:
    text = _bytes(code).decode()
    if not DTYPE.fullmatch(text):
        raise Refused(f"an array of type {text[:40]!r}")

    def build(state: Any) -> np.dtype[Any]:
        if state is not None and any(part is not None for part in state[2:5]):
            raise Refused("an array of records")
        return np.dtype(text) if state is None else np.dtype(text).newbyteorder(state[1])

    return _Pending(build)


def _array(raw: Any, dtype: Any, shape: Any, order: str) -> np.ndarray:
    return np.frombuffer(_bytes(raw), _type(dtype)).reshape(_of(tuple, shape), order=order[:1]).copy("K")  # type: ignore[call-overload]


def _reconstruct(*_: Any) -> _Pending:
    def build(state: Any) -> np.ndarray:
        _, shape, dtype, fortran, raw = _of(tuple, state)
        return _array(raw, dtype, shape, "F" if fortran else "C")

    return _Pending(build)


def _scalar(dtype: Any, raw: Any) -> Any:
    return np.frombuffer(_bytes(raw), _type(dtype))[0].item()


def _type(dtype: Any) -> np.dtype[Any]:
    found: np.dtype[Any] = _finished(dtype)
    if not isinstance(found, np.dtype):
        raise Refused("an array without a type")
    return found


def _bytes(value: Any) -> bytes:
    if isinstance(value, str):  # of a pickle by Python 2, or of type codes
        return value.encode("latin-1")
    if not isinstance(value, bytes | bytearray):
        raise Refused(f"an array from a {type(value).__name__.strip('_').lower()}")
    return bytes(value)


LITERALS = frozenset(
    (
        *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
        *("STRING", "BINSTRING", "SHORT_BINSTRING", "UNICODE", "SHORT_BINUNICODE", "BINUNICODE", "BINUNICODE8"),
        *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8", "BYTEARRAY8"),
    )
)
CONSTANTS: dict[str, Callable[[], Any]] = {
    "NONE": lambda: None,
    "NEWTRUE": lambda: True,
    "NEWFALSE": lambda: False,
    "EMPTY_LIST": list,
    "EMPTY_TUPLE": tuple,
    "EMPTY_DICT": dict,
    "EMPTY_SET": set,
}
TUPLES = {"TUPLE1": 1, "TUPLE2": 2, "TUPLE3": 3}
CALLS: dict[str, Callable[..., Any]] = {
    "numpy.dtype": _dtype,
    "_codecs.encode": lambda text, _: _bytes(text),
    "collections.OrderedDict": dict,
    **{f"{module}.{kind.__name__}": kind for module in ("builtins", "__builtin__") for kind in (set, frozenset)},
    **{f"{module}.bytes": lambda: b"" for module in ("builtins", "__builtin__")},  # how old protocols spell none
    **{f"{module}._reconstruct": _reconstruct for module in NUMPY},
    **{f"{module}.scalar": _scalar for module in NUMPY},
    **{f"{module}._frombuffer": _array for module in BUFFERS},
}
