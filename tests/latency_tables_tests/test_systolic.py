"""The modelled accelerator's layers: what must hold of any such machine, and APQ's table where it is here."""

import importlib.util
import sys
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from shared_data import shared_data

from latency_tables.systolic import PARAMETERS, SCHEMA, SCHEMA_VERSION, Layer, load_accelerator, work
from nas.errors import FileFormatError
from nas.files import read_json, write_json

ACCELERATOR = load_accelerator()
BITS = st.sampled_from([4, 6, 8])
WIDTHS = st.integers(1, 60).map(lambda eighths: 8 * eighths)


@st.composite
def layers(draw: st.DrawFn) -> Layer:
    width_in, side = draw(WIDTHS), draw(st.integers(1, 28))
    if draw(st.booleans()):
        kernel, stride = draw(st.sampled_from([3, 5, 7])), draw(st.sampled_from([1, 2]))
        return Layer(kernel, stride, side, width_in, width_in, width_in)
    return Layer(draw(st.sampled_from([1, 3])), 1, side, width_in, draw(WIDTHS))


def macs(layer: Layer) -> int:
    return layer.side**2 * layer.kernel**2 * layer.width_in * layer.width_out // layer.groups


@given(layer=layers(), weights=BITS, activations=BITS)
def test_a_layer_takes_at_least_its_products_and_its_bits(layer: Layer, weights: int, activations: int) -> None:
    found = work(layer, weights, activations, ACCELERATOR)
    units = ACCELERATOR.rows * ACCELERATOR.columns
    assert found.cycles >= found.computing >= macs(layer) / (units * ACCELERATOR.rate(weights, activations))
    assert found.cycles >= found.memory_bits // ACCELERATOR.memory_bits
    held = layer.kernel**2 * layer.width_in * layer.width_out // layer.groups * weights
    assert found.memory_bits >= held + layer.side**2 * layer.width_out * 32
    assert found.milliseconds(ACCELERATOR) > 0 and found.millijoules(ACCELERATOR) > 0


@given(layer=layers(), weights=BITS, activations=BITS)
def test_a_wider_memory_never_takes_longer(layer: Layer, weights: int, activations: int) -> None:
    found = work(layer, weights, activations, ACCELERATOR)
    wider = work(layer, weights, activations, replace(ACCELERATOR, memory_bits=2 * ACCELERATOR.memory_bits))
    assert wider.cycles <= found.cycles


def test_six_bits_compute_as_eight_and_four_at_four_times_the_rate() -> None:
    assert [ACCELERATOR.rate(*bits) for bits in ((8, 8), (6, 6), (4, 8), (4, 6), (4, 4))] == [1, 1, 2, 2, 4]
    large = Layer(1, 1, 14, 1024, 1024)
    assert [work(large, bits, bits, ACCELERATOR).computing for bits in (8, 6, 4)] == [401_408, 401_408, 100_352]


def test_a_depthwise_layer_uses_a_corner_of_the_array() -> None:
    layer = Layer(3, 1, 14, 96, 96, 96)
    assert work(layer, 8, 8, ACCELERATOR).computing == 9 * 14**2 * 96 // ACCELERATOR.depthwise_channels


@pytest.mark.parametrize("value", [None, "fast", 0, -1, True, 1.5])
def test_parameters_that_make_no_sense_are_refused(value: object, tmp_path: Path) -> None:
    content = {k: v for k, v in read_json(PARAMETERS, SCHEMA, SCHEMA_VERSION).items() if not k.startswith("schema")}
    write_json(tmp_path / "a.json", SCHEMA, SCHEMA_VERSION, {**content, "rows": value})
    with pytest.raises(FileFormatError, match=r"a\.json: rows is .*; allowed: a number above 0"):
        load_accelerator(tmp_path / "a.json")


@pytest.fixture(scope="module")
def run() -> ModuleType:
    path = Path(__file__).resolve().parents[2] / "experiments" / "bitfusion" / "run.py"
    spec = importlib.util.spec_from_file_location("bitfusion_experiment", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bitfusion_experiment"] = module  # where dataclasses look for it
    spec.loader.exec_module(module)
    return module


def test_the_shipped_parameters_give_apq_s_table_on_layers_held_out(run: ModuleType) -> None:
    fitted, held_out = run.halves(run.read_table(shared_data("bitfusion")))
    assert not {row.layer for row in fitted} & {row.layer for row in held_out}
    some = [held_out[place] for place in np.random.default_rng(1).permutation(len(held_out))[:300]]
    assert run.latency_error(some, ACCELERATOR) < 0.04
    energies = np.array([[row.work(ACCELERATOR).millijoules(ACCELERATOR), row.millijoules] for row in some])
    assert np.median(np.abs(energies[:, 0] / energies[:, 1] - 1)) < 0.06


def test_no_entry_of_apq_s_table_computes_faster(run: ModuleType) -> None:
    rows = run.read_table(shared_data("bitfusion"))[::20]
    assert all(row.work(ACCELERATOR).computing <= row.milliseconds * ACCELERATOR.megahertz * 1e3 for row in rows)


def test_mobilenet_v2_has_haq_s_layers(run: ModuleType) -> None:
    layers = run.mobilenet_v2()
    assert len(layers) == 53 and sum(map(macs, layers)) == pytest.approx(300e6, rel=0.01)
    assert len(list(run.haq_rows(shared_data("bitfusion"), ACCELERATOR))) == 6


@pytest.mark.slow
def test_fitting_again_gives_the_shipped_parameters(run: ModuleType) -> None:
    assert run.fit(run.halves(run.read_table(shared_data("bitfusion")))[0]) == ACCELERATOR
