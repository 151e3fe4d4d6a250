"""Device ``openvino`` runs what it lists, as it says, and says what became of its hints."""

import onnx
import pytest

pytest.importorskip("openvino")

from latency_tables import get_device
from latency_tables.reference_net import reference_model
from nas.errors import DeviceError


def test_its_description_has_what_was_asked_for_and_what_was_done() -> None:
    found = get_device("openvino").describe()
    assert found["runtime"] == "openvino" and found["runtime_version"] and found["threads"] == 1
    assert found["pinned"]["INFERENCE_PRECISION_HINT"] == found["effective"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert found["pinned"] == found["effective"] and found["executed_float"] == "fp32"


def test_another_runtime_on_the_same_machine_is_another_device_and_not_measured_at_once() -> None:
    cpu, openvino = get_device("cpu"), get_device("openvino")
    assert cpu.fingerprint != openvino.fingerprint and cpu.occupies == openvino.occupies


def test_only_float_inputs_can_be_timed() -> None:
    model = reference_model()
    cast = onnx.helper.make_node("Cast", ["ints"], ["input"], to=onnx.TensorProto.FLOAT)
    del model.graph.input[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info("ints", onnx.TensorProto.INT64, [1, 3, 28, 28]))
    model.graph.node.insert(0, cast)
    with pytest.raises(DeviceError, match=r"input 'ints' is a i64; only float inputs can be timed"):
        get_device("openvino").load(model.SerializeToString())
