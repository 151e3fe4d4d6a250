"""The simulated device computes what it pretends to measure, and says so."""

import numpy as np
import pytest
from tiny_space import tiny_space

from latency_tables import SimulatedDevice
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from nas.errors import DeviceError

SPACE = tiny_space()
IMAGES = Images(1, 3)


def test_it_says_that_it_is_simulated() -> None:
    device = SimulatedDevice()
    assert device.simulated and device.describe()["simulated"] is True


def test_equal_models_have_equal_latencies_and_equal_seeds_equal_noise() -> None:
    model = timing_model(SPACE, SPACE.largest(), IMAGES)
    first, second = (SimulatedDevice(seed=3).measure_many({"a": model})["a"] for _ in range(2))
    assert first == second
    assert first.latency_ms == pytest.approx(SimulatedDevice().true_ms(model), rel=0.03)


def test_quantized_blocks_and_changes_of_precision_have_their_price() -> None:
    device = SimulatedDevice()
    true = {name: device.true_ms(timing_model(SPACE, SPACE.largest(name), IMAGES)) for name in ("fp32", "int8")}
    assert true["int8"] < true["fp32"]
    mixed = SPACE.largest("int8").copy()
    mixed[1] = SPACE.precisions.index("fp32")  # the stem
    assert device.true_ms(timing_model(SPACE, mixed, IMAGES)) > true["int8"]


def test_a_model_that_is_none_is_refused() -> None:
    with pytest.raises(DeviceError, match="model: the simulated device 'simulated' cannot read it"):
        SimulatedDevice().load(b"no model")


def test_measuring_takes_none_of_our_time() -> None:
    device = SimulatedDevice()
    model = timing_model(SPACE, SPACE.smallest(), IMAGES)
    device.measure_many({str(number): model for number in range(20)})
    assert device.clock() > 10


def test_another_menu_is_another_fingerprint() -> None:
    assert SimulatedDevice(precisions=("fp32",)).fingerprint != SimulatedDevice().fingerprint
    assert np.isfinite(SimulatedDevice(precisions=("fp32",)).clock())
