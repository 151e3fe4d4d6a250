"""The experiment on ImageNet networks: fair forms, honest accuracies, and equal accuracy as it is defined."""

import importlib.util
import json
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper
from shared_data import shared_data

from latency_tables import FULL, Device
from latency_tables.costs import Images
from latency_tables.network_costs import NetworkCosts
from latency_tables.simulated import SimulatedDevice
from nas.errors import DeviceError, UsageError
from nas.search import Scored
from predictors.prediction import Prediction
from search_spaces import Genes, SearchSpace, get_space

QUICK = replace(FULL, values=1, min_rounds=3, max_rounds=3, warm_seconds=0.01)


@pytest.fixture
def run(repository: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    folder = repository / "experiments" / "imagenet_cpu"
    monkeypatch.syspath_prepend(folder)
    spec = importlib.util.spec_from_file_location("imagenet_experiment", folder / "run.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "imagenet_experiment", module)
    spec.loader.exec_module(module)
    return module


class ByMultiplyAdds:
    """Predicts latencies from multiply-adds."""

    def __init__(self, device: Device, space: SearchSpace) -> None:
        self._costs = NetworkCosts(space, Images(3, 1000))

    def predict(self, genes: Genes) -> Prediction:
        ms = self._costs.predict(genes, "macs_m").astype(np.float32) / 50
        return Prediction(ms, ms, ms)


def test_the_rewritten_form_computes_the_same(run: ModuleType) -> None:
    from imagenet_networks import rewritten

    nodes = [
        helper.make_node("HardSigmoid", ["x"], ["gate"], alpha=1 / 6, beta=0.5),
        helper.make_node("Mul", ["x", "gate"], ["swished"]),
        helper.make_node("ReduceMean", ["swished"], ["mean"], axes=[2, 3], keepdims=1),
        helper.make_node("ReduceMean", ["mean"], ["y"], axes=[1], keepdims=0),
    ]
    shapes = [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3, 5, 5])]
    ends = [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)]
    graph = helper.make_graph(nodes, "g", shapes, ends)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    other = rewritten(model)
    kinds = [node.op_type for node in other.graph.node]
    assert kinds == ["Add", "Clip", "Mul", "Mul", "GlobalAveragePool", "ReduceMean"]
    image = np.random.default_rng(0).normal(0, 4, (1, 3, 5, 5)).astype(np.float32)
    found = [
        onnxruntime.InferenceSession(one.SerializeToString(), providers=["CPUExecutionProvider"]).run(
            None, {"x": image}
        )
        for one in (model, other)
    ]
    np.testing.assert_allclose(found[1][0], found[0][0], rtol=1e-5)


def test_every_published_network_is_one_of_timm_s(run: ModuleType) -> None:
    import timm
    from imagenet_networks import timm_networks

    found = {(one.name, one.pixels, one.top1) for one in timm_networks()}
    assert len(found) > 20 and all(timm.is_model(name) and 0.6 < top1 < 0.85 for name, _, top1 in found)
    for name, pixels, _ in found:  # at the size that the weights were judged at
        assert pixels >= timm.get_pretrained_cfg(name).input_size[-1]


def test_equal_accuracy_is_of_one_precision_and_of_what_is_sure(run: ModuleType) -> None:
    from imagenet_networks import Network
    from imagenet_report import Timed, equal

    def timed(source: str, precision: str, top1: float, ms: float) -> Timed:
        return Timed(Network("n", source, precision, "", top1, top1 - 0.01, 224), np.array([ms, ms, 9 * ms]))

    ours = [timed("ofa", "fp32", 0.75, 3), timed("ofa", "fp32", 0.765, 4), timed("ofa", "int8", 0.77, 1)]
    peer = timed("timm", "fp32", 0.75, 6)
    assert equal(peer, [*ours, peer], surely=False) is ours[0]
    assert equal(peer, ours, surely=True) is ours[1]
    assert equal(timed("timm", "fp32", 0.8, 6), ours, surely=False) is None


def test_a_network_out_of_reach_is_a_loss_in_the_headline(run: ModuleType) -> None:
    from imagenet_networks import Network
    from imagenet_report import Timed, summary

    def timed(name: str, source: str, top1: float, ms: float) -> Timed:
        return Timed(Network(name, source, "fp32", "", top1, top1, 224), np.array([ms]))

    ours, peers = timed("s", "ofa", 0.75, 2), [timed("a", "timm", 0.7, 6), timed("b", "timm", 0.72, 1)]
    top = [timed("c", "timm", 0.8, 9), timed("d", "timm", 0.81, 9)]
    text = summary([ours, *peers, *top], "fp32")
    assert "of 4 networks: a subnet is as accurate and faster for 1, as accurate and no faster for 1" in text
    assert "none is as accurate for 2 (c, d); 0.25 times faster in the median of all of them, from 0.50 to 3.00" in text
    assert summary([ours, *peers], "int8") == ""


def test_the_bias_is_of_networks_that_the_predictor_selects(run: ModuleType) -> None:
    from imagenet_fronts import accuracy_predictor, of_selected

    predictor = accuracy_predictor(shared_data("ofa"))
    genes = predictor.space.sample(400, np.random.default_rng(0))
    noise = 0.01 * np.random.default_rng(1).standard_normal(400)
    truth = np.asarray(predictor.predict(genes).mean, np.float64) - noise  # so what is selected is predicted as it is
    again = of_selected(predictor, genes, truth - 0.02)
    shift = predictor.predict(genes).mean - again.predict(genes).mean
    assert shift == pytest.approx(0.02, abs=0.003)
    assert again.scale.radius == pytest.approx(0.0165, abs=0.004)


def test_rows_of_a_part_are_the_same_networks_in_the_whole(run: ModuleType) -> None:
    from imagenet_fronts import moved

    from search_spaces import make_space

    whole = get_space("ofa-mbv3")
    part = make_space(replace(whole.preset, resolutions=(192, 224)), ("fp32",))
    rows = part.sample(20, np.random.default_rng(0))
    for row, other in zip(rows, moved(rows, part, whole), strict=True):
        assert whole.candidate(other) == part.candidate(row)


def test_measured_are_both_ends_of_a_front_and_the_fastest_of_each_level(run: ModuleType) -> None:
    from imagenet_fronts import chosen_rows

    scores = {"latency_ms": np.arange(1.0, 11.0), "accuracy": np.linspace(0.7, 0.79, 10)}
    front = Scored(np.zeros((10, 1), np.int8), scores)
    assert chosen_rows(front, 2, [0.725, 0.6, 0.9]).tolist() == [0, 3, 9]


@pytest.mark.slow
def test_it_ends_in_a_picture_and_goes_on_where_it_was_stopped(
    run: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, device = shared_data("ofa"), SimulatedDevice("here")
    monkeypatch.setattr("imagenet_fronts.latency_predictor", ByMultiplyAdds)
    options = {"names": ["mobilenetv3_small_100", "resnet18"], "subnets": 3, "budget": 2000, "plan": QUICK}
    run.run(tmp_path, data, [device], rounds=1, **options)
    before = {path: path.read_bytes() for path in tmp_path.glob("rounds/*")}
    run.run(tmp_path, data, [device], rounds=2, **options)
    assert {path: path.read_bytes() for path in tmp_path.glob("rounds/*") if path in before} == before
    networks = json.loads((tmp_path / "result.json").read_text())["networks"]["here"]
    assert [one["source"] for one in networks].count("ofa") == 6 and len(networks) == 10
    assert all(len(one["rounds_ms"]) == 2 for one in networks) and (tmp_path / "front.png").exists()
    ours = [one for one in networks if one["source"] == "ofa"]
    assert all(one["pixels"] == 224 and 0 < one["top1"] - one["low"] < 0.01 for one in ours)
    text = (tmp_path / "tables.md").read_text()
    assert "times faster in the median of all" in text and "in int8 none of them is verified" in text
    with pytest.raises(UsageError, match=r"here-networks.json: of .*'budget': 2000.*another folder"):
        run.run(tmp_path, data, [device], rounds=1, **{**options, "budget": 1})
    first = tmp_path / "rounds" / "0-here-0.json"
    first.write_text(first.read_text().replace(device.fingerprint, "another"))
    with pytest.raises(DeviceError, match=r"0-here-0.json: of the device another; device 'here' is .*; name another"):
        run.run(tmp_path, data, [device], rounds=1, **options)
    assert onnx.load(next(tmp_path.glob("models/resnet18*"))).graph.node[0].op_type == "Conv"
