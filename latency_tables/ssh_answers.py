"""What may come back from the other machine. Nothing of it is believed before it has the shape, type and range due.

A checker returns what an answer holds or raises ValueError, whose text the channel puts into the one line that says
whose answer it was.
"""

import base64
import binascii
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from latency_tables.fingerprint import UNKNOWN, describe_cpu
from latency_tables.ssh_runner import VERSION
from nas.files import parse_json

MAX_TEXT = 300
MAX_ITEMS = 64
MAX_CORES = 4096
MAX_KERNELS = 100_000
CLOCK_SLACK = 1.01  # two clocks do not run alike


@dataclass(frozen=True)
class Answer:
    """A line that came back.

    Attributes:
        content: What it holds, parsed and otherwise not looked at.
        passed: The seconds between the question and it, on this machine's clock.
    """

    content: Mapping[str, Any]
    passed: float


def parsed(line: bytes, number: int) -> dict[str, Any]:
    """Return the answer to request ``number``: a JSON object of finite numbers with its id, which is taken out."""
    try:
        found = parse_json(line)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"not JSON of finite numbers ({error}): {line[:60]!r}") from error
    if not isinstance(found, dict) or type(found.get("id")) is not int or found.pop("id") != number:
        raise ValueError(f"not the answer to request {number}: {line[:60]!r}")
    return found


def failure(answer: Answer) -> tuple[str, str] | None:
    """Return the kind and detail of an error, None for any other answer."""
    found = answer.content
    if "error" not in found:
        return None
    _keys(found, ("error", "detail"))
    kind, detail = _text(found["error"], "error"), _text(found["detail"], "detail")
    if kind not in ("missing", "failed"):
        raise ValueError(f"error is {kind!r}; allowed: missing, failed")
    return kind, detail


def opened(answer: Answer) -> dict[str, Any]:
    """Return ``python``, ``runtime_version`` and ``cpu``, the latter with the entries of ``describe_cpu``."""
    found = answer.content
    _keys(found, ("version", "python", "runtime_version", "cpu"))
    if found["version"] != VERSION:
        raise ValueError(f"version is {found['version']!r:.20}; allowed: {VERSION}")
    if not isinstance(found["cpu"], dict):
        raise ValueError("cpu is not an object")
    like = describe_cpu()
    _keys(found["cpu"], tuple(like))
    cpu = {name: _like(found["cpu"][name], name, sample) for name, sample in like.items()}
    return {"cpu": cpu, **{name: _text(found[name], name) for name in ("python", "runtime_version")}}


def locked(answer: Answer) -> bool:
    """Return whether the machine was taken."""
    found = answer.content
    _keys(found, ("locked",))
    if type(found["locked"]) is not bool:
        raise ValueError("locked is neither true nor false")
    return found["locked"]


def loaded(answer: Answer, *, key: str) -> None:
    """Check that it is the model ``key`` that was loaded."""
    found = answer.content
    _keys(found, ("loaded",))
    if found["loaded"] != key:
        raise ValueError(f"loaded is {found['loaded']!r:.40}; allowed: {key!r}")


def kernels(answer: Answer) -> dict[str, int]:
    """Return how many operators of each kind run in integers."""
    found = answer.content
    _keys(found, ("kernels",))
    counts = found["kernels"]
    if not isinstance(counts, dict):
        raise ValueError("kernels is not an object")
    _keys(counts, ("Conv", "Gemm", "MatMul"))
    if not all(type(count) is int and 0 <= count < MAX_KERNELS for count in counts.values()):
        raise ValueError(f"kernels is {counts!r:.80}; allowed: 0 to {MAX_KERNELS} of each")
    return counts


def seconds(answer: Answer, *, count: int) -> list[float]:
    """Return ``count`` positive times, which together are not longer than what passed here meanwhile."""
    found = answer.content
    _keys(found, ("seconds",))
    values = found["seconds"]
    if not isinstance(values, list) or len(values) != count:
        raise ValueError(f"seconds is not a list of {count} numbers")
    for value in values:
        if type(value) not in (int, float) or not (math.isfinite(value) and value > 0):
            raise ValueError(f"seconds holds {value!r:.40}; allowed: positive numbers")
    if sum(values) > answer.passed * CLOCK_SLACK:
        raise ValueError(f"seconds add up to {sum(values):.3g}, while {answer.passed:.3g} passed here")
    return [float(value) for value in values]


def array(answer: Answer, *, batch: int) -> NDArray[np.float32]:
    """Return a finite float32 array whose first axis has ``batch`` entries."""
    found = answer.content
    _keys(found, ("shape", "data"))
    shape, text = found["shape"], found["data"]
    whole = isinstance(shape, list) and 0 < len(shape) <= 4 and all(type(n) is int and n > 0 for n in shape)
    if not whole or shape[0] != batch:
        raise ValueError(f"shape is {shape!r:.40}; allowed: {batch} and up to three more positive sizes")
    try:
        data = base64.b64decode(text, validate=True)
    except (TypeError, ValueError, binascii.Error) as error:
        raise ValueError(f"data is not base64 ({error})") from error
    if len(data) != 4 * math.prod(shape):
        raise ValueError(f"data has {len(data)} bytes; shape {shape} has {4 * math.prod(shape)}")
    values = np.frombuffer(data, "<f4").reshape(shape)
    if not np.isfinite(values).all():
        raise ValueError("data holds numbers that are not finite")
    return values


def _keys(found: Mapping[str, Any], allowed: Sequence[str]) -> None:
    if set(found) != set(allowed):
        raise ValueError(f"its keys are {sorted(found)!r:.200}; allowed: {sorted(allowed)}")


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or len(value) > MAX_TEXT or not value.isprintable():
        raise ValueError(f"{name} is {value!r:.40}; allowed: at most {MAX_TEXT} printable characters")
    return value


def _texts(value: Any, name: str) -> tuple[str, ...]:
    if not isinstance(value, list) or len(value) > MAX_ITEMS:
        raise ValueError(f"{name} is {value!r:.40}; allowed: at most {MAX_ITEMS} texts")
    return tuple(_text(item, name) for item in value)


def _like(value: Any, name: str, sample: Any) -> Any:
    """Return a value of the processor's description, if it is of the kind that this machine's own description has."""
    if isinstance(sample, list):
        return list(_texts(value, name))
    if name == "cores" and value != UNKNOWN:
        if type(value) is not int or not 0 < value <= MAX_CORES:
            raise ValueError(f"cores is {value!r:.40}; allowed: 1 to {MAX_CORES}")
        return value
    return _text(value, name)
