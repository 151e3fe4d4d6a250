"""The devices of OpenVINO run what they list, as they say, and say what became of their hints."""

from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
import torch
from tiny_space import tiny_space

pytest.importorskip("openvino")

from latency_tables import get_device, probes
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.openvino_cpu import BF16_ISA, OpenVinoBf16, OpenVinoCpu
from latency_tables.reference_net import reference_model
from nas.compression import activation_ranges, quantize_graph
from nas.errors import DeviceError
from supernets.families import make_subnet
from supernets.graph import to_onnx


def machine(monkeypatch: pytest.MonkeyPatch, isa: list[str]) -> None:
    """Let the processor have these instruction sets."""
    told: dict[str, Any] = {"machine": "x86_64", "isa": isa}
    monkeypatch.setattr(OpenVinoCpu, "machine", lambda self: told)


def bf16_here() -> OpenVinoBf16:
    try:
        return OpenVinoBf16()
    except DeviceError as error:
        pytest.skip(str(error))


def test_its_description_has_what_was_asked_for_and_what_was_done() -> None:
    found = get_device("openvino").describe()
    assert found["runtime"] == "openvino" and found["runtime_version"] and found["threads"] == 1
    assert found["pinned"]["INFERENCE_PRECISION_HINT"] == found["effective"]["INFERENCE_PRECISION_HINT"] == "f32"
    assert found["pinned"] == found["effective"] and found["executed_float"] == "fp32"


def test_bf16_is_what_the_compiled_model_reports_and_what_is_computed() -> None:
    device = bf16_here()
    found = device.describe()
    assert found["pinned"] == found["effective"] and found["effective"]["INFERENCE_PRECISION_HINT"] == "bf16"
    assert found["executed_float"] == device.precisions[0] == "bf16"
    products = [precision for kind, precision in device._layers(device._reference) if kind == "Convolution"]
    assert set(products) == {"bf16"} and len(products) > 20


def test_a_processor_without_bf16_is_told_what_to_use(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ["avx512f", "avx512_vnni"])
    with pytest.raises(
        DeviceError,
        match=r"^device 'openvino-bf16': this processor has no bf16; allowed: one with avx512_bf16 or .*; "
        r"use --device openvino, in fp32$",
    ):
        get_device("openvino-bf16")


@pytest.mark.parametrize("isa", BF16_ISA)
def test_bf16_that_turns_out_to_be_another_precision_is_refused(isa: str, monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, [isa])
    monkeypatch.setattr(probes, "executed_float", lambda session: "fp32")
    monkeypatch.setattr(OpenVinoCpu, "_layers", lambda self, model: [("Convolution", "f32"), ("Reorder", "bf16")])
    wanted = r"device 'openvino-bf16' asks openvino .* for bf16, which computes in fp32 here, in layers of f32$"
    with pytest.raises(DeviceError, match=wanted):
        _ = get_device("openvino-bf16").precisions


def test_bf16_where_the_probe_finds_it_is_on_the_menu(monkeypatch: pytest.MonkeyPatch) -> None:
    machine(monkeypatch, ["amx_bf16"])
    monkeypatch.setattr(probes, "executed_float", lambda session: "bf16")
    monkeypatch.setattr(OpenVinoCpu, "_layers", lambda self, model: [("Convolution", "bf16"), ("Reorder", "f32")])
    monkeypatch.setattr(probes, "int8_form", lambda *arguments: "u8s8")
    assert get_device("openvino-bf16").precisions == ("bf16", "int8")


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


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_the_graph_that_is_timed_has_the_layers_of_the_one_that_ships(precision: str) -> None:
    space, device = tiny_space(), OpenVinoCpu()
    candidate, images = space.candidate(space.largest(precision)), Images(1, 3)
    torch.manual_seed(0)
    subnet = make_subnet(space, candidate, channels=images.channels, classes=images.classes).eval()
    for name, parameter in subnet.named_parameters():
        if name.endswith("bias"):
            torch.nn.init.normal_(parameter, std=0.3)
    graph = to_onnx(subnet, images.channels, candidate.resolution, batch="N")
    pixels = (8, images.channels, candidate.resolution, candidate.resolution)
    ranges = activation_ranges(graph, np.random.default_rng(0).normal(size=pixels).astype(np.float32))
    shipped = quantize_graph(graph, dict(subnet.units()), ranges, form=device.quantization)
    timed = timing_model(space, space.largest(precision), images, device.quantization)
    assert Counter(device._layers(timed)) == Counter(device._layers(shipped.SerializeToString()))
