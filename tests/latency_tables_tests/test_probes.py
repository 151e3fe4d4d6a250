"""The probes tell arithmetic that is right from arithmetic that looks right."""

from collections.abc import Mapping

import numpy as np
import pytest
from onnx import load_from_string

from latency_tables import get_device, local
from latency_tables.onnxruntime_cpu import OnnxRuntimeCpu
from latency_tables.probes import executed_float, int8_form
from nas.compression import HOST, Session
from nas.errors import DeviceError
from search_spaces import FLOATS


class Rounding:
    """A session that keeps ``places`` binary places of its inputs, as tf32, fp16 and bf16 do."""

    def __init__(self, model: bytes, places: int) -> None:
        self.session, self.places = HOST.session(model), places

    def run(self, names: None, feed: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        fraction, exponent = np.frexp(feed["input"])
        rounded = np.ldexp(np.rint(fraction * 2 ** (self.places + 1)) / 2 ** (self.places + 1), exponent)
        return list(self.session.run(names, {"input": rounded.astype(np.float32)}))


class Saturating:
    """A session whose sums of products of 8-bit activations end at the largest number of 16 bits."""

    def __init__(self, model: bytes) -> None:
        self.session = HOST.session(model)
        tensors = {tensor.name: tensor for tensor in load_from_string(model).graph.initializer}
        self.weights_top = max(np.frombuffer(tensors["weight"].raw_data, np.int8))

    def run(self, names: None, feed: Mapping[str, np.ndarray], /) -> list[np.ndarray]:
        pair = 2 * float(feed["input"].max()) * float(self.weights_top)
        return [min(1.0, (2**15 - 1) / pair) * output for output in self.session.run(names, feed)]


@pytest.mark.parametrize(("places", "name"), [(23, "fp32"), (10, "fp16"), (7, "bf16"), (3, None)])
def test_floats_are_known_by_what_they_round_away(places: int, name: str | None) -> None:
    assert executed_float(lambda model: Rounding(model, places)) == name
    assert name is None or name in FLOATS


def test_products_of_matrices_in_less_than_convolutions_count() -> None:
    lowered = {"fp16": 10, "bf16": 7}
    for name, places in lowered.items():
        found = executed_float(lambda model, at=places: Rounding(model, at if b"MatMul" in model else 23))
        assert found == name


def test_kernels_that_saturate_get_weights_of_seven_bits() -> None:
    assert int8_form(HOST.session, lambda model: {"Conv": 1}, "x86_64") in ("u8s8", "u8s7")
    assert int8_form(Saturating, lambda model: {"Conv": 1}, "x86_64") == "u8s7"


def test_arm_wants_both_operands_signed() -> None:
    assert int8_form(HOST.session, lambda model: {"Conv": 1}, "aarch64") == "s8s8"


def test_integers_that_are_computed_in_floats_are_none() -> None:
    assert int8_form(HOST.session, lambda model: {"Conv": 0}, "x86_64") is None


def test_a_device_that_computes_nonsense_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    def session(self: OnnxRuntimeCpu, model: bytes) -> Session:
        return Rounding(model, 3)

    monkeypatch.setattr(OnnxRuntimeCpu, "session", session)
    with pytest.raises(
        DeviceError, match=r"device 'cpu': onnxruntime .* computes convolutions or products of floats wrongly here"
    ):
        get_device("cpu").describe()


def test_a_runtime_that_is_not_installed_is_answered_with_the_line_that_installs_it() -> None:
    with pytest.raises(DeviceError, match=r"^device 'x' needs no_such_runtime, .*: pip install no_such_runtime"):
        local.installed_version("x", "no_such_runtime")
