"""torch as a device: what it runs, what it refuses, and what it leaves of torch's settings."""

from pathlib import Path

import numpy as np
import pytest
import torch
from tiny_space import tiny_space

from latency_tables import get_device
from latency_tables.builder import timing_model
from latency_tables.costs import Images
from latency_tables.reference_net import reference_model
from latency_tables.torch_device import TorchCuda, TorchDevice
from nas.compression import HOST
from nas.errors import DeviceError

REFERENCE = reference_model().SerializeToString()


def test_it_has_floats_only_and_refuses_the_rest_in_one_line() -> None:
    device, space = get_device("torch"), tiny_space()
    assert device.precisions == ("fp32",) and device.describe()["executed_float"] == "fp32"
    with pytest.raises(DeviceError, match=r"^model: torch .* cannot load it: cannot read (Deq|Q)uantizeLinear [^\n]+$"):
        device.load(timing_model(space, space.largest("int8"), Images(1, 3)))


def test_it_leaves_torchs_settings_as_they_were() -> None:
    threads = torch.get_num_threads()
    torch.set_num_threads(threads + 1)
    torch.set_float32_matmul_precision("medium")
    try:
        with TorchDevice().settings():
            assert torch.get_float32_matmul_precision() == "highest"
        TorchDevice().load(REFERENCE).run(1)
        assert torch.get_num_threads() == threads + 1 and not torch.is_inference_mode_enabled()
        assert torch.get_float32_matmul_precision() == "medium"
    finally:
        torch.set_float32_matmul_precision("highest")
        torch.set_num_threads(threads)


def test_images_that_do_not_fit_are_one_line() -> None:
    with pytest.raises(DeviceError, match=r"^model: torch .* cannot run it: [^\n]+$"):
        TorchDevice().session(REFERENCE).run(None, {"input": np.zeros((1, 5, 28, 28), np.float32)})


def test_without_a_gpu_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(DeviceError, match=r"^device 'torch-cuda' needs a CUDA GPU, and torch .* sees none here$"):
        get_device("torch-cuda")


@pytest.mark.slow
def test_compiled_networks_compute_the_same(tmp_path: Path) -> None:
    profile = tmp_path / "compiled.toml"
    profile.write_text('schema_version = 1\nruntime = "torch-compiled"')
    device, images = get_device(profile), np.random.default_rng(0).standard_normal((2, 3, 28, 28), dtype=np.float32)
    [found] = device.session(REFERENCE).run(None, {"input": images})
    [expected] = HOST.session(REFERENCE).run(None, {"input": images})
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-4 * np.abs(expected).max())
    assert device.load(REFERENCE).run(2) > 0 and device.describe()["compiled"]


@pytest.mark.gpu
def test_on_a_gpu_floats_are_fp32_and_events_confirm_the_clock() -> None:
    device = TorchCuda()
    assert device.precisions == ("fp32",) and device.describe()["gpu"]
    runner = device.load(REFERENCE)
    runner.run(20)
    began, ended = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    began.record()
    took = runner.run(200)
    ended.record()
    torch.cuda.synchronize()
    assert took == pytest.approx(began.elapsed_time(ended) * 1e-3, rel=0.05)
