"""Device ``cpu`` runs what it lists, as it says."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from tiny_space import tiny_space

from latency_tables import FULL, get_device
from latency_tables import device as devices
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.onnxruntime_cpu import OnnxRuntimeCpu
from latency_tables.reference_net import REFERENCE_VERSION, reference_model
from latency_tables.ssh_runner import Far
from nas.errors import DeviceError, FileFormatError, UsageError

SPACE = tiny_space()
QUICK = replace(FULL, min_rounds=3, max_rounds=3, warm_seconds=0.01, settle_seconds=0.05, value_seconds=0.002)


def test_an_unknown_device_is_answered_with_what_there_is() -> None:
    with pytest.raises(UsageError, match=r"unknown device 'cpuu'; there is: .*cpu.*\. Did you mean 'cpu'\?"):
        get_device("cpuu")


def test_int8_is_listed_only_if_it_runs_as_an_integer_kernel(monkeypatch: pytest.MonkeyPatch) -> None:
    assert OnnxRuntimeCpu().precisions[0] == "fp32"
    monkeypatch.setattr(OnnxRuntimeCpu, "integer_kernels", lambda self, model: {"Conv": 0})
    assert OnnxRuntimeCpu().precisions == ("fp32",)


@pytest.mark.parametrize("failure", [RuntimeError, type("NotImplemented", (Exception,), {})])
def test_int8_is_not_listed_where_its_kernel_is_missing_when_run(
    monkeypatch: pytest.MonkeyPatch, failure: type[Exception]
) -> None:
    run_session = onnxruntime.InferenceSession.run

    def run(self: onnxruntime.InferenceSession, names: None, feed: dict[str, np.ndarray]) -> list[np.ndarray]:
        if feed["input"].min() < 255:  # of the probe for floats
            return list(run_session(self, names, feed))
        raise failure("Could not find an implementation for QLinearConv(10)")

    monkeypatch.setattr(onnxruntime.InferenceSession, "run", run)
    assert OnnxRuntimeCpu().precisions == ("fp32",)


def test_a_model_that_fails_when_run_is_one_line() -> None:
    model = reference_model()
    del model.graph.node[:]
    shape = onnx.helper.make_tensor("shape", onnx.TensorProto.INT64, [1], [7])  # fits no input of the reference net
    model.graph.initializer.append(shape)
    model.graph.node.append(onnx.helper.make_node("Reshape", ["input", "shape"], [model.graph.output[0].name]))
    del model.graph.output[0].type.tensor_type.shape.dim[:]
    model.graph.output[0].type.tensor_type.shape.dim.add().dim_value = 7
    with pytest.raises(DeviceError, match=r"^model: onnxruntime .* cannot run it: [^\n]+$"):
        OnnxRuntimeCpu().load(model.SerializeToString()).run(1)


def test_its_description_pins_what_latency_depends_on() -> None:
    found = OnnxRuntimeCpu().describe()
    assert (found["threads"], found["batch"], found["spinning"]) == (1, 1, False)
    assert found["runtime_version"] == onnxruntime.__version__ and found["reference_version"] == REFERENCE_VERSION


def test_the_reference_net_is_frozen() -> None:
    assert OnnxRuntimeCpu().describe()["reference_sha256"] == "416e41e5a7e64acc"


def test_it_measures_a_file(tmp_path: Path) -> None:
    path = tmp_path / "model.onnx"
    path.write_bytes(timing_model(SPACE, SPACE.smallest(), Images(1, 3)))
    device = OnnxRuntimeCpu()
    found = device.measure_many({"a": path.read_bytes()}, plan=QUICK)["a"]
    assert 0 < found.min_ms <= found.latency_ms < 50 and found.rounds <= 3
    assert found.ci_low_ms <= found.latency_ms <= found.ci_high_ms


def test_every_precision_on_its_menu_runs_every_convolution_in_it(tmp_path: Path) -> None:
    device = OnnxRuntimeCpu()
    for precision in device.precisions:
        saved = tmp_path / f"{precision}.onnx"
        device.session(timing_model(SPACE, SPACE.largest(precision), Images(1, 3)), save_optimized=saved)
        kinds = [node.op_type for node in onnx.load(saved).graph.node]
        integer = sum(kind == "QLinearConv" for kind in kinds)
        assert integer == (2 + 3 * 4 if precision == "int8" else 0)


def test_a_model_it_cannot_load_is_one_line(tmp_path: Path) -> None:
    with pytest.raises(DeviceError, match=r"^model: onnxruntime .* cannot load it: [^\n]+$"):
        OnnxRuntimeCpu().load(b"nonsense")
    with pytest.raises(DeviceError, match=r"absent\.onnx: onnxruntime .* cannot load it"):
        OnnxRuntimeCpu().session(tmp_path / "absent.onnx")
    with pytest.raises(FileFormatError, match=r"absent\.onnx: cannot be read"):
        OnnxRuntimeCpu().measure(tmp_path / "absent.onnx")


def test_only_float_inputs_can_be_timed() -> None:
    model = reference_model()
    cast = onnx.helper.make_node("Cast", ["ints"], ["input"], to=onnx.TensorProto.FLOAT)
    shape = [dimension.dim_value for dimension in model.graph.input[0].type.tensor_type.shape.dim]
    del model.graph.input[:]
    model.graph.input.append(onnx.helper.make_tensor_value_info("ints", onnx.TensorProto.INT64, shape))
    model.graph.node.insert(0, cast)
    with pytest.raises(DeviceError, match=r"input 'ints' is a tensor\(int64\); only float inputs can be timed"):
        OnnxRuntimeCpu().load(model.SerializeToString())


def test_timing_models_do_not_touch_torchs_random_numbers() -> None:
    import torch

    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    first = timing_model(SPACE, SPACE.smallest(), Images(1, 3))
    assert torch.equal(torch.rand(3), expected)
    assert timing_model(SPACE, SPACE.smallest(), Images(1, 3)) == first
    assert np.isfinite(
        OnnxRuntimeCpu().session(first).run(None, {"input": np.ones((1, 1, 12, 12), np.float32)})[0]
    ).all()


def test_who_measures_this_machine_through_ssh_has_it_alone_too(monkeypatch: pytest.MonkeyPatch) -> None:
    device, far, request = OnnxRuntimeCpu(), Far(""), {"op": "lock"}
    folder = str(devices.machine_lock())
    monkeypatch.setattr("latency_tables.ssh_runner.tempfile.gettempdir", lambda: folder)
    device.wait_seconds = 0.0
    assert far.lock(request) == {"locked": True}
    with pytest.raises(DeviceError, match=r"this machine is being measured, from elsewhere .*; wait for it to end"):
        device.measure_many({"a": reference_model().SerializeToString()}, plan=QUICK)
    far.unlock(request)
    with device.exclusively():
        assert far.lock(request) == {"locked": False}
