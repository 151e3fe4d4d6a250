"""The modelled device: its tables are exact, and it is nowhere shown as measured."""

import numpy as np
import pytest
from tiny_families import tiny_bottleneck
from tiny_space import tiny_space

from latency_tables import get_device
from latency_tables.bitfusion import PRECISIONS, BitFusion
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.modelled_report import modelled_report
from latency_tables.systolic import Layer, load_accelerator, work
from nas.errors import DeviceError, UsageError
from search_spaces import get_space

IMAGES = Images(1, 3)


@pytest.mark.parametrize("name", ["fashion-mbv3", "ofa-mbv3", "ofa-proxyless"])
def test_the_table_is_the_cost_of_the_exported_graph(name: str) -> None:
    device, table_space, graph_space = BitFusion(), get_space(name, ("w8a8",)), get_space(name, ("int8",))
    preset = table_space.preset
    images = Images(preset.channels, preset.classes)
    tables = device.tables(table_space, images)
    rows = np.stack([table_space.largest("w8a8"), *table_space.sample(2, np.random.default_rng(0))])
    costs = np.array([device.cost(timing_model(graph_space, row, images)) for row in rows])
    np.testing.assert_allclose(tables.latency.predict_ms(rows), costs[:, 0], rtol=1e-5)
    np.testing.assert_allclose(tables.energy.predict_ms(rows), costs[:, 1], rtol=1e-5)


def test_quantized_or_not_a_graph_is_taken_for_eight_bits() -> None:
    space, device = tiny_space(), BitFusion()
    costs = [device.cost(timing_model(space, space.largest(precision), IMAGES)) for precision in space.precisions]
    assert costs[0] == costs[1]


def test_each_block_s_bits_count_by_themselves() -> None:
    space = get_space("fashion-mbv3", PRECISIONS)
    tables = BitFusion().tables(space, Images(1, 10))
    wide, narrow = (space.with_precision(space.largest("w8a8")[None], precision) for precision in ("w8a8", "w4a4"))
    mixed = space.with_precisions(wide, np.arange(len(space.part_names))[None] % 2 * 2)
    for table in (tables.latency, tables.energy):
        low, middle, high = (float(table.predict_ms(rows)[0]) for rows in (narrow, mixed, wide))
        assert low < middle < high


def test_weights_and_activations_may_differ() -> None:
    tables = BitFusion().tables(tiny_space(("w4a8", "w8a4")), IMAGES)
    assert tables.latency.predict_ms(tables.latency.space.sample(3, np.random.default_rng(0))).min() > 0


def test_other_precisions_and_families_are_refused() -> None:
    with pytest.raises(UsageError, match="precision 'int8' on bitfusion; allowed: w4a4 to w8a8"):
        BitFusion().tables(tiny_space(("int8",)), IMAGES)
    with pytest.raises(UsageError, match="family 'bottleneck' on bitfusion; allowed: family 'mbconv'"):
        BitFusion().tables(tiny_bottleneck(PRECISIONS), IMAGES)


def test_a_graph_without_layers_is_refused() -> None:
    from onnx import TensorProto, helper

    value = helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 3])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 3])
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [value], [result])
    with pytest.raises(DeviceError, match=r"\(modelled\) finds no convolution or matrix product"):
        BitFusion().cost(helper.make_model(graph).SerializeToString())


def product_cost(first: list[int], second: list[int], *, constant: bool) -> float:
    """Return modelled milliseconds of one matrix product."""
    from onnx import TensorProto, helper, numpy_helper

    inputs = [helper.make_tensor_value_info("x", TensorProto.FLOAT, first)]
    weights = [numpy_helper.from_array(np.zeros(second, np.float32), "w")] if constant else []
    inputs += [] if constant else [helper.make_tensor_value_info("w", TensorProto.FLOAT, second)]
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "product", inputs, [result], weights)
    return BitFusion().cost(helper.make_model(graph).SerializeToString())[0]


def test_a_matrix_product_costs_by_its_rows() -> None:
    one, many = (product_cost([1, tokens, 192], [192, 768], constant=True) for tokens in (1, 196))
    assert many > 10 * one
    pointwise = work(Layer(1, 1, 14, 192, 768), 8, 8, load_accelerator()).milliseconds(load_accelerator())
    assert many == pytest.approx(pointwise, rel=0.2)  # the same product, cut otherwise


def test_a_product_of_activations_costs_once_for_each_matrix() -> None:
    one, three = (product_cost([1, heads, 196, 64], [1, heads, 64, 196], constant=False) for heads in (1, 3))
    assert three == pytest.approx(3 * one)
    assert one == product_cost([1, 196, 64], [64, 196], constant=True)


def test_it_says_everywhere_that_it_is_modelled() -> None:
    device = get_device("bitfusion")
    assert isinstance(device, BitFusion) and device.simulated and device.describe()["simulated"]
    assert "modelled, not measured" in device.runtime
    report = modelled_report(device, tiny_space(PRECISIONS), IMAGES)
    assert "modelled, not measured" in report.lines()[0] and "nothing is measured" in report.lines()[-1]
    assert all("modelled latency" in line and "modelled energy" in line for line in report.lines()[1:-1])
    assert report.to_dict()["simulated"] and set(report.to_dict()["energy_mj"]) == set(PRECISIONS)
    for figures in (report.latency_ms, report.energy_mj):
        for one in figures.values():
            assert 0 < one.least <= one.median <= one.largest
